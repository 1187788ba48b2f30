"""Sources made for jobs, and what two collections must have in common."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLI = (sys.executable, "-m", "trunkline_service.cli.entry")


def make_photos(root: Path, count: int, bad_every: int = 0) -> Path:
    """JPEGs in three classes and two splits; each ``bad_every``-th file is text."""
    for number in range(count):
        folder = root / ("train" if number % 4 else "val") / f"class{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number:05d}.jpg"
        if bad_every and number % bad_every == 0:
            path.write_text("no image")
        else:
            path.write_bytes(jpeg(number))
    return root


def jpeg(seed: int, size: int = 96) -> bytes:
    buffer = io.BytesIO()
    cells = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def rows_of(data: str | Path, name: str) -> list[dict[str, Any]]:
    """All rows by id: everything but the vector, the job and the moment must be equal; vectors are apart."""
    from trunkline_service.collections.store import CollectionStore

    rows = [row for batch in CollectionStore(data).open(name).scan() for row in batch.to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        del row["job"], row["embedded_at"]
    return sorted(rows, key=lambda row: row["id"])


def assert_same_rows(got: list[dict[str, Any]], wanted: list[dict[str, Any]], bound: float = 1e-4) -> None:
    """Ids, labels, statuses and the rest equal; vectors within the bound that batches may make."""
    assert [row["id"] for row in got] == [row["id"] for row in wanted]
    for one, other in zip(got, wanted, strict=True):
        plain = {name: value for name, value in one.items() if name != "embedding"}
        assert plain == {name: value for name, value in other.items() if name != "embedding"}
        if one["embedding"] is not None:
            a, b = np.array(one["embedding"]), np.array(other["embedding"])
            assert np.abs(a - b).max() <= bound * max(1.0, np.abs(b).max())


def run_and_kill(
    arguments: list[str], cwd: Path, chance: random.Random, longest_s: float, **options: Any
) -> bool:
    """Runs the command line and kills it with SIGKILL at a random instant; True if it ended before."""
    process = subprocess.Popen(
        [*CLI, *arguments], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        process.wait(chance.uniform(0.0, longest_s))
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        return False
    _, said = process.communicate()
    assert process.returncode == 0, said
    return True


def seconds_of(arguments: list[str], cwd: Path, **options: Any) -> float:
    """Runs the command line to its end; how long that took here and now."""
    started = time.monotonic()
    done = subprocess.run([*CLI, *arguments], cwd=cwd, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started
