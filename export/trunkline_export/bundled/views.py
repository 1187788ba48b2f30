"""Make the training set: many augmented views per photograph, each with the teacher's answer.

The views live in flat `.npy` files that training maps into memory, so a set larger than the
machine's memory works and nothing is unpickled. View `i` depends on the seed, the photographs and
the settings alone, never on batching, so an interrupted run continues where it stopped.
"""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap
from PIL import Image
from torch import nn

from trunkline_export.bundled import student, teacher
from trunkline_export.bundled.augment import AugmentConfig, Blend, draw_blend, draw_crop, render
from trunkline_export.bundled.checkpoint import read_record, write_record
from trunkline_export.bundled.photos import Pixels, list_photos, open_rgb

log = logging.getLogger(__name__)

RECORD_FILE = "views.json"
SOURCE_SIDE = 256
"""Shorter side in pixels that decoded photographs are shrunk to, to bound memory."""


@dataclass(frozen=True)
class ViewsConfig:
    """What to generate: `count` views of the photographs in `folders`, into `output`."""

    folders: tuple[Path, ...]
    output: Path
    count: int = 112_000
    seed: int = 0
    batch: int = 64
    bf16: bool = True
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class ViewSet:
    """The generated arrays; all share their first axis.

    Attributes
    ----------
    pixels : uint8 (N, 128, 128, 3), what the student sees.
    class_tokens : float16 (N, 192), the teacher's embedding of the same view.
    grids : float16 (N, 4, 4, 192), the teacher's patch tokens, averaged onto the student's map.
    """

    pixels: npt.NDArray[np.uint8]
    class_tokens: npt.NDArray[np.float16]
    grids: npt.NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.class_tokens)


def open_views(folder: Path) -> ViewSet:
    """Map the views that are complete so far, read-only."""
    record = read_record(folder / RECORD_FILE)
    if record is None:
        raise FileNotFoundError(f"{folder} holds no views; make them first")
    done = record["done"]
    pixels, class_tokens, grids = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)[:done]
        for name in ("pixels", "class_tokens", "grids")
    )
    return ViewSet(pixels, class_tokens, grids)


def _allocate(folder: Path, count: int, fresh: bool) -> ViewSet:
    side, dim = student.MAP_SIZE, student.EMBEDDING_DIM
    shapes = {
        "pixels": (np.uint8, (count, student.INPUT_SIZE, student.INPUT_SIZE, 3)),
        "class_tokens": (np.float16, (count, dim)),
        "grids": (np.float16, (count, side, side, dim)),
    }
    files = {
        name: open_memmap(folder / f"{name}.npy", "w+" if fresh else "r+", dtype, shape)
        for name, (dtype, shape) in shapes.items()
    }
    return ViewSet(**files)


def _shrink(image: Image.Image) -> Image.Image:
    scale = SOURCE_SIDE / min(image.size)
    if scale >= 1:
        return image
    width, height = (round(side * scale) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _decode_all(folders: tuple[Path, ...]) -> list[Image.Image]:
    paths = [path for folder in folders for path in list_photos(folder)]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda path: _shrink(open_rgb(path)), paths))


def render_view(sources: list[Image.Image], index: int, config: ViewsConfig) -> tuple[Pixels, Pixels]:
    """View `index` at the student's and at the teacher's size.

    Every photograph is used once before any is used again; the partner of a mixed view is drawn
    at random.
    """
    rounds, position = divmod(index, len(sources))
    order = np.random.default_rng((config.seed, 0, rounds)).permutation(len(sources))
    rng = np.random.default_rng((config.seed, 1, index))
    first = sources[order[position]]
    second = sources[rng.integers(len(sources))]
    crop = draw_crop(first.size, config.augment, rng)
    blend: Blend | None = None
    if rng.random() < config.augment.mix_share:
        blend = draw_blend(draw_crop(second.size, config.augment, rng), rng)
    small, large = (
        render(first, crop, second, blend, side) for side in (student.INPUT_SIZE, teacher.INPUT_SIZE)
    )
    return small, large


def _starting_point(config: ViewsConfig) -> tuple[dict[str, object], int]:
    """The settings to record, and how many views an earlier run with the same settings left."""
    settings: dict[str, object] = {
        "folders": [folder.name for folder in config.folders],
        "count": config.count,
        "seed": config.seed,
        "bf16": config.bf16,
        "augment": asdict(config.augment),
    }
    record = read_record(config.output / RECORD_FILE)
    if record is None:
        return settings, 0
    done = record.pop("done")
    if record != settings or not isinstance(done, int):
        raise ValueError(f"{config.output} holds views made with other settings; choose another folder")
    return settings, done


def generate(config: ViewsConfig, network: nn.Module) -> ViewSet:
    """Generate what is missing, showing every view to the teacher, and return the whole set."""
    config.output.mkdir(parents=True, exist_ok=True)
    settings, done = _starting_point(config)
    arrays = _allocate(config.output, config.count, fresh=done == 0)
    sources = _decode_all(config.folders)
    log.info("%d photographs decoded; views %d to %d", len(sources), done, config.count)
    # Rendering and the teacher take turns: each fills the CPU, and overlapping them gained nothing.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while done < config.count:
            indices = range(done, min(done + config.batch, config.count))
            views = list(pool.map(lambda index: render_view(sources, index, config), indices))
            large = np.stack([view for _, view in views])
            tokens, grids = teacher.teacher_targets(network, large, config.bf16)
            arrays.pixels[done : indices.stop] = np.stack([view for view, _ in views])
            arrays.class_tokens[done : indices.stop] = tokens.numpy()
            arrays.grids[done : indices.stop] = grids.numpy()
            done = indices.stop
            # Written after the arrays, so that what it counts is always there.
            write_record(config.output / RECORD_FILE, {**settings, "done": done})
            if done % (config.batch * 50) == 0 or done == config.count:
                log.info("%d of %d views", done, config.count)
    return open_views(config.output)
