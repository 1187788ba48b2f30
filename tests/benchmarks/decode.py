"""What `--decode fast` costs in fidelity and gains in time: one Markdown table, ratios from one run.

    python -m tests.benchmarks.decode --images FOLDER [--models DIR --model NAME] [--json FILE]

Photographs are tiled 4 x 4 into JPEGs of some thousand pixels, since small ones are never scaled.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from trunkline_service.images.prepare import prepare_encoded
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.settings import ImageLimits

TILES = 4
ROUNDS = 5


def tiled(paths: list[Path]) -> bytes:
    """One JPEG (quality 90) of 16 photographs in a square."""
    images = [Image.open(path).convert("RGB") for path in paths]
    width, height = images[0].size
    canvas = Image.new("RGB", (width * TILES, height * TILES))
    for number, image in enumerate(images):
        canvas.paste(image.resize((width, height)), (number % TILES * width, number // TILES * height))
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def milliseconds(files: list[bytes], spec: object, mode: str) -> float:
    """Median over rounds of the mean time to decode and resize one file."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for data in files:
            prepare_encoded(data, spec, mode, ImageLimits())
        rounds.append((time.perf_counter() - started) / len(files) * 1000)
    return statistics.median(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--model", default="trunkline-small")
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.images.rglob("*.jpg"))
    step = TILES * TILES
    count = min(arguments.files, len(paths) // step)
    files = [tiled(paths[start * step : (start + 1) * step]) for start in range(count)]
    folder = ModelRepository(arguments.models).resolve(arguments.model)
    session = ModelSession(folder, Device("cpu"), ExecutionPlan(os.cpu_count() or 1, 1, 1))
    spec = folder.card.preprocess
    vectors = {}
    for mode in ("exact", "fast"):
        pixels = [prepare_encoded(data, spec, mode, ImageLimits()) for data in files]
        found = np.concatenate([session.run(image[None]) for image in pixels]).astype(np.float64)
        vectors[mode] = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines = (vectors["exact"] * vectors["fast"]).sum(axis=1)
    exact, fast = (milliseconds(files, spec, mode) for mode in ("exact", "fast"))
    sizes = [Image.open(io.BytesIO(data)).size for data in files]
    width, height = (int(statistics.median(side)) for side in zip(*sizes, strict=True))
    figures = {
        "model": folder.card.reference,
        "files": len(files),
        "median_size": [width, height],
        "cosine_min": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
        "decode_time_exact_over_fast": exact / fast,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    print("| model | files | size | cosine min | cosine mean | decode + resize, exact / fast |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {folder.card.reference} | {len(files)} | {width} x {height} | {cosines.min():.5f} | "
        f"{cosines.mean():.5f} | {exact / fast:.2f} |"
    )
    print(f"\n{figures['machine']}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
