"""Rows on the unit circle, and a fake approximate structure, for the tests of searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Label, Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.index import exact
from trunkline_service.index.card import Level, Recall
from trunkline_service.index.metric import prepared
from trunkline_service.index.options import IndexKind
from trunkline_service.index.segment import Segment, whole
from trunkline_service.index.view import View

SPEC = CollectionSpec(space_id="sp1-a", dim=2, model="tiny@1", artifact_id="ar1-a", decode="exact")


def at(*degrees: float) -> NDArray[np.float32]:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def write(collection: Collection, **degrees: float) -> None:
    """A row for each name: its first letter is the label."""
    rows = [Row(name, at(angle)[0], label=name[0], source=f"{name}.jpg") for name, angle in degrees.items()]
    collection.upsert(rows, space_id="sp1-a", decode="exact")


@dataclass
class Sighted:
    """Compares the first ``effort`` positions: what lies behind them is not seen."""

    vectors: NDArray[np.float32]
    metric: str = "cosine"
    kind: IndexKind = "ivf_flat"
    nbytes: int = 0
    parameters: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[int, int]] = field(default_factory=list)
    """The queries and the effort of each search."""

    def __len__(self) -> int:
        return len(self.vectors)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        effort: int,
        allowed: NDArray[np.bool_] | None = None,
        threads: int = 1,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        self.asked.append((len(queries), effort))
        seen = np.ones(len(self), bool) if allowed is None else allowed.copy()
        seen[effort:] = False
        halves = exact.half_squares_of(self.vectors) if self.metric == "euclidean" else None
        return exact.nearest(queries, self.vectors, k, self.metric, seen, halves)

    def write(self, folder: Path) -> None:
        raise NotImplementedError


def level(effort: int, k: int = 1000) -> Level:
    return Level(effort, Recall(k, 1.0, 1.0, 100, 1, 100))


def segment(
    vectors: NDArray[np.float32],
    labels: Sequence[Label] | None = None,
    first: int = 0,
    effort: int = 0,
    metric: str = "cosine",
) -> Segment:
    """Rows ``r<n>`` from ``first``, written by version 1; with an effort they are searched by `Sighted`."""
    import pyarrow as pa

    numbers = range(first, first + len(vectors))
    names = pa.array([f"r{number}" for number in numbers], pa.large_utf8())
    said = pa.array(list(labels) if labels is not None else [None] * len(vectors), pa.large_utf8())
    rows = prepared(vectors, metric)
    return Segment(
        np.array(numbers, np.uint64),
        np.ones(len(vectors), np.uint64),
        rows,
        names,
        said,
        names,
        Sighted(rows, metric) if effort else None,
        levels_of(effort) if effort else (),
    )


def levels_of(effort: int) -> tuple[Level, ...]:
    """One effort for searches of any k."""
    return (Level(effort, Recall(1000, 1.0, 1.0, 1, 1, 1)),)


def view_of(*segments: Segment, metric: str = "cosine") -> View:
    """Of one fragment, all of whose rows are alive."""
    parts = tuple(whole(rows, np.zeros(len(rows), np.int32)) for rows in segments)
    dim = segments[0].vectors.shape[1] if segments else 2
    return View("uid", 1, replace(SPEC, dim=dim, metric=metric), ("fragment",), parts)
