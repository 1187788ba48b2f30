"""Sources made for jobs, and what two collections must have in common."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLI = (sys.executable, "-m", "trunkline_service.cli.entry")
DYING = Path(__file__).with_name("dying_job.py")


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


def commits_of(rows: int) -> int:
    """So many commits at least a job makes of so many new rows with ``--commit-rows 64``.

    A commit is begun as soon as it has 64, and the chunk that makes it full brings 64 at most.
    """
    return rows // 127


def run_and_kill(
    arguments: list[str], cwd: Path, chance: random.Random, most_commits: int, **options: Any
) -> bool:
    """Runs the command line and has it killed with SIGKILL at a random instant; True if it ended before.

    It ends before only if it has fewer than ``most_commits`` commits to make; see `dying_job`.
    """
    commit = chance.randint(0, most_commits)
    # Starting takes a second or more, a commit some hundredths or, into an object store, tenths of one.
    pause = chance.uniform(0.0, 0.3 if commit else 2.0)
    done = subprocess.run(
        [sys.executable, str(DYING), str(commit), str(pause), *arguments],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0


def run_to_its_end(arguments: list[str], cwd: Path, **options: Any) -> None:
    """Runs the command line."""
    done = subprocess.run([*CLI, *arguments], cwd=cwd, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
