"""Rows of a version as a part: what the store has, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.fragments import FragmentRows, Fragments, joined_stamps
from trunkline_service.index.metric import normalise_into, prepared
from trunkline_service.index.segment import Part, Segment, whole

# As for `collections.matrix`: larger batches are mapped anew, page by page.
_BATCH_ROWS = 1024


class Read(NamedTuple):
    """What was read of a version.

    Attributes:
        part: Rows as a part of their own; None where there are none.
        same: Rows with the vectors that a segment has of them, without these; None where there are none.
    """

    part: Part | None
    same: FragmentRows | None


def read_rows(
    fragments: Fragments,
    keys: Sequence[str] | None = None,
    wanted: NDArray[np.uint64] | None = None,
    written_since: int = 0,
    known: Segment | None = None,
) -> Read:
    """Rows of a version.

    Args:
        fragments: The version.
        keys: Of the fragments to read; None for all.
        wanted: uint64 (n,), the row ids to read; None for all of those fragments.
        written_since: The least version that wrote one of them.
        known: A segment whose vectors need not be kept once more.
    """
    most = fragments.count() if wanted is None else len(wanted)
    matrix = np.empty((most, fragments.spec.dim), np.float32)
    end = 0
    batches: list[FragmentRows] = []
    same: list[FragmentRows] = []
    for found in fragments.batches(keys, written_since, _BATCH_ROWS):
        batch = found if wanted is None else _only(found, np.isin(found.stamps.row_ids, wanted))
        if known is not None:
            alike = _has_vectors(known, batch, fragments.spec.metric)
            same.append(_only(batch, alike)._replace(embeddings=matrix[:0]))
            batch = _only(batch, ~alike)
        start, end = end, end + len(batch.embeddings)
        matrix[start:end] = batch.embeddings
        batches.append(batch._replace(embeddings=matrix[:0]))
    vectors = matrix[:end]
    if fragments.spec.metric == "cosine":
        normalise_into(vectors, vectors)
    part = None if not end else _part(_joined(batches), vectors)
    return Read(part, _joined(same) if any(len(rows.ids) for rows in same) else None)


def _part(rows: FragmentRows, vectors: NDArray[np.float32]) -> Part:
    stamps = rows.stamps
    segment = Segment(stamps.row_ids, stamps.written, vectors, rows.ids, rows.labels, rows.sources)
    return whole(segment, stamps.fragment)


def _joined(batches: Sequence[FragmentRows]) -> FragmentRows:
    """Their rows, without vectors."""
    import pyarrow as pa

    texts = (
        pa.concat_arrays([getattr(batch, name) for batch in batches]) for name in ("ids", "labels", "sources")
    )
    stamps = joined_stamps([batch.stamps for batch in batches])
    return FragmentRows(stamps, batches[0].embeddings, *texts)


def _has_vectors(segment: Segment, batch: FragmentRows, metric: str) -> NDArray[np.bool_]:
    """Which rows of a batch have the vector that the segment has of them, to the last bit."""
    positions = segment.positions_of(batch.stamps.row_ids)
    alike = positions >= 0
    at = positions[alike]
    alike[alike] = (segment.vectors[at] == prepared(batch.embeddings[alike], metric)).all(axis=1)
    return alike


def _only(batch: FragmentRows, chosen: NDArray[np.bool_]) -> FragmentRows:
    if chosen.all():
        return batch
    at = np.flatnonzero(chosen)
    return FragmentRows(
        batch.stamps.only(at),
        batch.embeddings[at],
        *(column.take(at) for column in (batch.ids, batch.labels, batch.sources)),
    )
