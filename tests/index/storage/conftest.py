"""Builds of a few rows, in a folder and in an object store."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.index.card import IndexCard, Recall, Setting
from trunkline_service.index.kinds.building import build
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage.base import FRAGMENTS_FILE, ROWS_FILE, VECTORS_FILE
from trunkline_service.index.storage.store import IndexStore

DIM, ROWS, HELD_OUT = 4, 40, 5
COLLECTION, UID = "flowers", "0123abcd"


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def never(_: str) -> bool:
    """No other uid is that of a living collection."""
    return False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spec() -> CollectionSpec:
    return CollectionSpec(space_id="sp1-a", dim=DIM, model="tiny@1", artifact_id="ar1-a", decode="exact")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(data: Path, clock: Clock) -> IndexStore:
    return IndexStore(data, clock=clock, pause=clock.wait)


@pytest.fixture
def s3_store(s3_bucket: str, tmp_path: Path, clock: Clock) -> Callable[..., IndexStore]:
    """``s3_store("one")``: the same objects, seen from a machine with a cache of its own."""

    def make(machine: str = "one") -> IndexStore:
        return IndexStore(f"{s3_bucket}/data", tmp_path / machine, clock=clock, pause=clock.wait)

    return make


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest) -> IndexStore:
    if request.param == "folder":
        return request.getfixturevalue("store")
    return request.getfixturevalue("s3_store")()


@pytest.fixture
def card_of(clock: Clock) -> Callable[..., IndexCard]:
    """``card_of(version)``: a card without files; fields can be given."""

    def make(version: int = 1, word: str = "aa", **changes: Any) -> IndexCard:
        values: dict[str, Any] = {
            "build": f"{version:012d}-{word}",
            "collection": COLLECTION,
            "uid": UID,
            "space_id": "sp1-a",
            "dim": DIM,
            "metric": "cosine",
            "version": version,
            "kind": "ivf_flat",
            "rows": ROWS,
            "held_out": HELD_OUT,
            "parameters": {"nlist": 4},
            "effort": 2,
            "recall": Recall(10, 0.995, 0.99, HELD_OUT, version, ROWS),
            "settings": (Setting(1, 0.9, 5000.0), Setting(2, 0.995, 3000.5)),
            "reason": "ivf_flat reaches 0.99: ü.",
            "options": IndexOptions(memory_mb=64),
            "seconds": 1.5,
            "nbytes": 1000,
            "files": (),
            "made_by": {"trunkline": "1.2.3"},
            "created_at": clock().isoformat(),
        }
        return IndexCard(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def write_base() -> Callable[[Path], None]:
    """Writes the files of a build of `ROWS` and `HELD_OUT` rows."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(ROWS + HELD_OUT, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    count = len(vectors)
    built = build(
        "ivf_flat",
        vectors[:ROWS],
        metric="cosine",
        parameters={"nlist": 4},
        progress=lambda *_: None,
        cancelled=lambda: False,
        threads=1,
    )

    def write(folder: Path) -> None:
        (folder / VECTORS_FILE).write_bytes(vectors.tobytes())
        rows = pa.record_batch(
            {
                "row_id": pa.array(range(count), pa.uint64()),
                "written": pa.array([1] * count, pa.uint64()),
                "fragment": pa.array([i % 2 for i in range(count)], pa.int32()),
                "id": pa.array([f"id{i}" for i in range(count)], pa.large_utf8()),
                "label": pa.array([None if i % 3 == 0 else "a" for i in range(count)], pa.large_utf8()),
                "source": pa.array(["x"] * count, pa.large_utf8()),
            }
        )
        with pa.ipc.new_file(str(folder / ROWS_FILE), rows.schema) as writer:
            writer.write_batch(rows)
        (folder / FRAGMENTS_FILE).write_text(json.dumps(["f0", "f1"]))
        built.write(folder)

    return write
