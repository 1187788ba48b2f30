"""Photographs on disk, decoded with Pillow into upright RGB images."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""Interleaved RGB, uint8: (H, W, 3) for one image, (N, H, W, 3) for a batch."""

SUFFIXES = frozenset({".gif", ".jpeg", ".jpg", ".png", ".webp"})


def list_photos(folder: Path) -> list[Path]:
    """Every image file below `folder`, in a fixed order, so that a seed means the same everywhere."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(f"{folder} holds no image files; expected one of {sorted(SUFFIXES)}")
    return found


def open_rgb(path: Path) -> Image.Image:
    """Decode one file: first frame, EXIF orientation applied, RGB."""
    with Image.open(path) as image:
        upright: Image.Image = ImageOps.exif_transpose(image)
        return upright.convert("RGB")


def centre_square(image: Image.Image, resize: int, crop: int) -> Pixels:
    """The evaluation transform of both networks.

    Parameters
    ----------
    image : RGB image of any size.
    resize : length in pixels that the shorter side is brought to (bicubic, antialiased).
    crop : side in pixels of the square cut from the centre; at most `resize`.

    Returns
    -------
    uint8 array, (crop, crop, 3).
    """
    scale = resize / min(image.size)
    width, height = (max(resize, round(side * scale)) for side in image.size)
    left, top = (width - crop) // 2, (height - crop) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))


def squares(paths: list[Path], resize: int, crop: int, batch: int = 64) -> Iterator[Pixels]:
    """`centre_square` of every file, in order, as (<= batch, crop, crop, 3) arrays."""

    def load(path: Path) -> Pixels:
        return centre_square(open_rgb(path), resize, crop)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), batch):
            yield np.stack(list(pool.map(load, paths[start : start + batch])))
