"""Hits: what replies to Search and Predict hold, as lists for each query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trunkline._wire.chunks import Chunk
from trunkline._wire.index import recall_of
from trunkline._wire.job import common, joined
from trunkline._wire.rows import label_of
from trunkline._wire.scalars import value_from
from trunkline.exceptions import Internal
from trunkline.results import ItemResults, SearchResult
from trunkline.rows import Scalar
from trunkline_protos.v1 import search_pb2

# A hit takes some hundred bytes, and replies have no limit of their own: this keeps one to tens of megabytes.
_MAX_HITS_PER_REPLY = 100_000
# A value of a column, or the id of a row that was folded into a hit, takes about a quarter of what a hit does.
# The server refuses requests by the same rule.
_PARTS_OF_HIT = 4
_MAX_FOLDED = 100


def most_queries(hits: int, columns: int = 0, folds: bool = False) -> int:
    """How many queries one request may carry.

    Args:
        hits: That answer each at most.
        columns: That each hit carries.
        folds: Whether rows may be folded into each hit.
    """
    parts = hits * (_PARTS_OF_HIT + columns + (_MAX_FOLDED if folds else 0))
    return max(_MAX_HITS_PER_REPLY * _PARTS_OF_HIT // parts, 1)


def spread(chunk: Chunk, found: Sequence[search_pb2.Hits], columns: Sequence[str] = ()) -> dict[str, Any]:
    """Hits as lists, one for each item of a chunk; empty for those that were not sent.

    Args:
        chunk: What was asked.
        found: The lists of the reply, one for each item that was sent.
        columns: That each hit was to carry.

    Raises:
        Internal: The reply has lists for another number of items, or lacks a column.
    """
    if len(found) != len(chunk.rows):
        raise Internal(f"the reply to {len(chunk.rows)} queries has {len(found)} lists of hits")
    hits: list[Sequence[search_pb2.Hit]] = [()] * len(chunk)
    for row, entry in zip(chunk.rows, found, strict=True):
        hits[row] = entry.hits
    return {
        "ids": [[hit.id for hit in entry] for entry in hits],
        "scores": [[hit.score for hit in entry] for entry in hits],
        "labels": [[label_of(hit) for hit in entry] for entry in hits],
        "sources": [[hit.source for hit in entry] for entry in hits],
        "groups": [[hit.group if hit.HasField("group") else None for hit in entry] for entry in hits],
        "duplicates": [[tuple(hit.duplicates) for hit in entry] for entry in hits],
        "metadata": [[_metadata(hit, columns) for hit in entry] for entry in hits],
        "columns": tuple(columns),
    }


def _metadata(hit: search_pb2.Hit, columns: Sequence[str]) -> dict[str, Scalar]:
    missing = [name for name in columns if name not in hit.metadata]
    if missing:
        raise Internal(
            f"hit {hit.id!r} came without its column {missing[0]!r}: the server is older than this client; update it"
        )
    return {name: value_from(hit.metadata[name]) for name in columns}


def told(found: search_pb2.SearchResponse) -> dict[str, Any]:
    """What was searched, and how."""
    return {
        "version": found.collection_version,
        "space_id": found.space_id,
        "metric": found.metric,
        "index_kind": found.index_kind,
        "exact": found.exact,
        "index_version": found.index_version,
        "recall": recall_of(found),
    }


def stacked(parts: Sequence[SearchResult]) -> dict[str, Any]:
    """The lists of several results, one behind the other.

    The version is the newest that was searched; of the indexes the one that promises least is told.
    """
    lists = ("ids", "scores", "labels", "sources", "groups", "duplicates", "metadata")
    least = min(parts, key=_promise)
    return {
        **{name: [found for part in parts for found in getattr(part, name)] for name in lists},
        "columns": parts[0].columns,
        "version": max(part.version for part in parts),
        "space_id": next((part.space_id for part in parts if part.space_id), ""),
        "metric": next((part.metric for part in parts if part.metric), ""),
        "index_kind": least.index_kind,
        "exact": least.exact,
        "index_version": least.index_version,
        "recall": least.recall,
    }


def _promise(part: SearchResult) -> tuple[bool, bool, float]:
    """Rises with what a search promises; parts that were not sent promise nothing and are passed over."""
    return not part.index_kind, part.exact, part.recall.measured if part.recall else float(part.exact)


def hits_of(chunk: Chunk, reply: Any) -> SearchResult:
    """The neighbours in a reply to Predict."""
    found = reply.neighbours
    return SearchResult(**spread(chunk, found.results), **told(found), **common(chunk, reply))


def joined_hits(parts: Sequence[Any]) -> SearchResult:
    """The neighbours of all parts; those of a part that nothing was asked for are empty."""
    found = [part.neighbours or _none(part) for part in parts]
    return SearchResult(**stacked(found), **joined(found))


def _none(part: ItemResults) -> SearchResult:
    def lists() -> list[list[Any]]:
        return [[] for _ in range(len(part))]

    return SearchResult(
        ids=lists(),
        scores=lists(),
        labels=lists(),
        sources=lists(),
        groups=lists(),
        duplicates=lists(),
        metadata=lists(),
        inputs=part.inputs,
        errors=part.errors,
        start=part.start,
        timings=part.timings,
    )
