"""Lance's own index of a collection's vectors: made, described, dropped.

It lies in the dataset and belongs to its versions. What was found by trying (pylance 14, thousands of random
sequences of writes, compared with brute force): rows that were written, moved or relabelled after it was made
are compared one by one, rows that are gone are passed over, and compaction, `restore` and writers at work
leave it right. It is made anew and never brought up to date: Lance's ``optimize_indices`` fails where one of
the partitions gets no new row. It is made in a process of its own (`index_process`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trunkline_service.collections.handle import Handle, Snapshot
from trunkline_service.collections.index_process import IndexTask, make_index
from trunkline_service.collections.upkeep import retried
from trunkline_service.errors import (
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    NotEnoughData,
    StorageError,
)

NAME = "trunkline_nearest"
LANCE_METRICS = {"cosine": "cosine", "dot": "dot", "euclidean": "l2"}
FEWEST_ROWS = 256
"""Vectors that product quantization learns its 256 codes from, at least."""
_KIND = "IVF_PQ"
_PHASES = {
    "train_ivf": "train partitions",
    "train_quantizer": "train codes",
    "shuffle": "encode",
    "merge_partitions": "write",
}
# Rows for each partition and each code, and rounds, of k-means. With Lance's own 256 and 50, an index of
# 200,000 x 128 took seven times as long, and found no more.
_SAMPLES, _ROUNDS = 64, 12
# Floats of a vector that share one byte.
_WIDTHS = (4, 8, 5, 6, 7, 3, 9, 10, 11, 12, 13, 14, 15, 16, 2)
_WIDE_DIM = 512
_ATTEMPTS = 5


@dataclass(frozen=True)
class VectorIndex:
    """The index as one version of the collection sees it.

    Attributes:
        uuid: Another one once it is made anew.
        built_from: The version that it was made of.
        rows: Living rows that it holds.
        unindexed: Rows of either status that were written since; they are compared one by one.
        sub_vectors: Of product quantization: bytes of a row.
        nbytes: Of its files.
    """

    uuid: str
    built_from: int
    rows: int
    unindexed: int
    sub_vectors: int
    nbytes: int


def create(
    handle: Handle,
    partitions: int | None = None,
    sub_vectors: int | None = None,
    progress: Callable[[str, float], None] = lambda *_: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> VectorIndex:
    """See `Collection.create_vector_index`."""

    def check() -> None:
        if cancelled():
            raise Cancelled(
                f"collection {handle.name!r}: making its index was cancelled; nothing was changed"
            )

    def heard(stage: str, completed: int, total: int) -> None:
        progress(_PHASES.get(stage, stage), completed / total if total else 0.0)

    def change(snapshot: Snapshot) -> VectorIndex:
        check()
        build(handle, snapshot, partitions, sub_vectors, heard, check)
        made = describe(handle, snapshot)
        if made is None:
            raise FailedPrecondition(
                f"collection {handle.name!r}: its index was dropped, or an older version restored, as soon as it was "
                "made; build it again"
            )
        return made

    for _ in range(_ATTEMPTS - 1):
        began_at = handle.open().version
        try:
            return retried(handle, "indexed", change)
        except StorageError:
            # A compaction or a purge may have removed the version that was read.
            if handle.open().version == began_at:
                raise
    return retried(handle, "indexed", change)


def build(
    handle: Handle,
    snapshot: Snapshot,
    partitions: int | None,
    sub_vectors: int | None,
    heard: Callable[[str, int, int], None] = lambda *_: None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Makes the index of a version, in the place of the one there is; may raise Lance's own errors.

    Args:
        handle: The collection.
        snapshot: The version; its dataset is moved on to the latest.
        partitions: See `Collection.create_vector_index`.
        sub_vectors: The same.
        heard: Told Lance's stage, how much of it is done, and of how much.
        check: Called now and then; what it raises ends the work.

    Raises:
        NotEnoughData: Fewer than `FEWEST_ROWS` vectors.
        InvalidArgument: ``partitions`` or ``sub_vectors`` that can't be.
        StorageError: Lance stood still, or its process ended by itself.
    """
    dim = snapshot.spec.dim
    rows = snapshot.dataset.count_rows("embedding IS NOT NULL")
    if rows < FEWEST_ROWS:
        raise NotEnoughData(
            f"collection {handle.name!r} has {rows} rows with a vector, and Lance's index needs {FEWEST_ROWS}; "
            "compare them all instead, which is fast"
        )
    if partitions is not None and not 1 <= partitions <= rows:
        raise InvalidArgument(f"partitions is {partitions}; it can be 1 to {rows}, the rows with a vector")
    if sub_vectors is not None and (sub_vectors < 1 or dim % sub_vectors):
        raise InvalidArgument(f"sub_vectors is {sub_vectors}; it must divide the dimension {dim}")
    arguments = {
        "index_type": _KIND,
        "name": NAME,
        "metric": LANCE_METRICS[snapshot.spec.metric],
        "replace": True,
        "num_partitions": min(partitions or math.isqrt(rows), max(1, rows // FEWEST_ROWS)),
        "num_sub_vectors": sub_vectors or default_sub_vectors(dim),
        "sample_rate": _SAMPLES,
        "max_iters": _ROUNDS,
    }
    make_index(IndexTask(handle.name, handle.uri, snapshot.version, arguments), heard, check)
    snapshot.dataset.checkout_latest()


def default_sub_vectors(dim: int) -> int:
    """Bytes of a row in the index: 4 floats share one, of long vectors 8; else whatever divides ``dim``."""
    widths = (8, *_WIDTHS) if dim > _WIDE_DIM else _WIDTHS
    return next((dim // width for width in widths if dim % width == 0), dim)


def drop(handle: Handle) -> bool:
    """See `Collection.drop_vector_index`."""

    def change(snapshot: Snapshot) -> bool:
        if not is_there(snapshot):
            return False
        snapshot.dataset.drop_index(NAME)
        return True

    return retried(handle, "changed", change)


def is_there(snapshot: Snapshot) -> bool:
    """Whether the version has the index; may raise Lance's own errors."""
    return any(index.name == NAME for index in snapshot.dataset.describe_indices())


def describe(handle: Handle, snapshot: Snapshot) -> VectorIndex | None:
    """The index of a version; None where it has none."""
    with handle.errors("read"):
        found = [index for index in snapshot.dataset.describe_indices() if index.name == NAME]
        if not found:
            return None
        # Several where other tools brought it up to date.
        segments = sorted(found[0].segments, key=lambda segment: str(segment.uuid))
        rows = int(found[0].num_rows_indexed)
        unindexed = int(snapshot.dataset.count_rows()) - rows
    return VectorIndex(
        uuid="+".join(str(segment.uuid) for segment in segments),
        built_from=min(int(segment.dataset_version_at_last_update) for segment in segments),
        rows=rows,
        unindexed=unindexed,
        sub_vectors=int(found[0].details["compression"]["num_sub_vectors"]),
        nbytes=int(found[0].total_size_bytes),
    )


def partitions_of(handle: Handle, snapshot: Snapshot) -> int:
    """How many partitions the index of a version has, which is there; its centres are read."""
    with handle.errors("read"):
        return len(snapshot.dataset.get_ivf_model(NAME).centroids)


def is_of_vectors(index: Any) -> bool:
    """Whether an index, as Lance describes it, is one of vectors."""
    return str(index.type_url).endswith("VectorIndexDetails")
