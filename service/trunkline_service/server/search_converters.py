"""Searches and indexes: proto <-> domain. Pure functions."""

from __future__ import annotations

import dataclasses
from typing import Any

from trunkline_protos.v1 import common_pb2, search_pb2
from trunkline_service.errors import InvalidArgument
from trunkline_service.index.card import IndexCard, Recall
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.outcome import Hit
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.shaping import MOST_FOLDED
from trunkline_service.index.state import IndexState
from trunkline_service.server.converters import errors_to, timings_to
from trunkline_service.server.row_converters import value_to, values_from
from trunkline_service.workspace import Found

_DEFAULT_K = 10
_DEFAULT_QUERIES = 1000
# Of one reply: some ten megabytes.
_MOST_HITS = 100_000
# A value of a column, or the id of a row that was folded into a hit, takes about a quarter of what a hit does.
# The client sends requests by the same rule.
_PARTS_OF_HIT = 4


def check_hits(queries: int, hits: int, columns: int = 0, folds: bool = False) -> None:
    """Whether one reply can hold the nearest rows of so many queries.

    Args:
        queries: Of the request.
        hits: The most of one query.
        columns: That each hit carries.
        folds: Whether rows may be folded into each hit.

    Raises:
        InvalidArgument: It can't.
    """
    beside = columns + (MOST_FOLDED if folds else 0)
    if queries * hits * (_PARTS_OF_HIT + beside) <= _MOST_HITS * _PARTS_OF_HIT:
        return
    asked = f"{queries:,} {'query' if queries == 1 else 'queries'} with up to {hits:,} hits each"
    if not beside:
        raise InvalidArgument(
            f"{asked} are {queries * hits:,} hits; at most {_MOST_HITS:,} are given in one reply: send several "
            "requests, or a smaller k"
        )
    each = [f"{columns} column{'' if columns == 1 else 's'}"] if columns else []
    each += [f"up to {MOST_FOLDED} ids that collapse folds into it"] if folds else []
    most = _MOST_HITS * _PARTS_OF_HIT // (_PARTS_OF_HIT + beside)
    raise InvalidArgument(
        f"{asked} are {queries * hits:,} hits, and each may have {' and '.join(each)}; at most {most:,} such hits "
        "are given in one reply: send several requests, or a smaller k"
    )


def search_options_from(request: search_pb2.SearchRequest) -> SearchOptions:
    """How to search.

    Raises:
        InvalidArgument: A value that can't be; more hits than one reply holds; parameters without a
            condition, or ``per_group`` without a group.
    """
    if request.parameters and not request.where:
        raise InvalidArgument(
            f"{len(request.parameters)} parameter{'' if len(request.parameters) == 1 else 's'} came without a "
            "condition; give where too, with a ? for each"
        )
    if request.per_group and not request.group_by:
        raise InvalidArgument(
            f"per_group is {request.per_group} without group_by; name the column to group by"
        )
    options = SearchOptions(
        k=request.k or _DEFAULT_K,
        where=request.where or None,
        parameters=tuple(values_from(request.parameters)),
        min_version=request.min_version,
        min_score=request.min_score if request.HasField("min_score") else None,
        group_by=request.group_by or None,
        per_group=request.per_group or 1,
        collapse=request.collapse if request.HasField("collapse") else None,
        exact=request.exact,
        columns=tuple(request.columns),
    )
    queries = len(request.images) + len(request.ids) + request.embeddings.count
    most = options.k * options.per_group
    check_hits(queries, most, len(options.columns), folds=options.collapse is not None)
    return options


def found_to(found: Found) -> search_pb2.SearchResponse:
    """Hits by query, nearest first, and how they were found."""
    outcome = found.outcome
    return search_pb2.SearchResponse(
        results=[search_pb2.Hits(hits=[_hit_to(hit) for hit in hits]) for hits in outcome.hits],
        errors=errors_to(found.errors),
        collection_version=outcome.version,
        space_id=found.space_id,
        metric=outcome.metric,
        timings=timings_to(found.timings),
        index_kind=outcome.searched.kind,
        exact=outcome.searched.exact,
        index_version=outcome.searched.index_version,
        recall=recall_to(outcome.searched.recall),
    )


def _hit_to(hit: Hit) -> search_pb2.Hit:
    message = search_pb2.Hit(
        id=hit.id,
        score=hit.score,
        source=hit.source or "",
        group=hit.group,
        duplicates=hit.duplicates,
        metadata={name: value_to(value) for name, value in hit.metadata.items()},
    )
    if isinstance(hit.label, tuple):
        message.labels.CopyFrom(common_pb2.Labels(labels=hit.label))
    elif hit.label is not None:
        message.label = hit.label
    return message


def recall_to(recall: Recall | None) -> search_pb2.Recall | None:
    """What was measured; None where nothing was."""
    return None if recall is None else search_pb2.Recall(**dataclasses.asdict(recall))


def index_options_from(message: search_pb2.IndexOptions, present: IndexOptions) -> IndexOptions:
    """What is wished from now on.

    Args:
        message: What changes.
        present: What was wished before, which stays where the message says nothing.

    Raises:
        InvalidArgument: A value that can't be.
    """
    names = [entry.name for entry in message.DESCRIPTOR.fields]
    given: dict[str, Any] = {name: getattr(message, name) for name in names if message.HasField(name)}
    if given.get("memory_mb") == 0:
        given["memory_mb"] = None
    return dataclasses.replace(present, **given)


def index_to(state: IndexState) -> search_pb2.Index:
    """How a collection is searched."""
    return search_pb2.Index(
        collection=state.collection,
        collection_version=state.version,
        kind=state.kind,
        options=_index_options_to(state.options),
        rows=state.rows,
        delta_rows=state.delta_rows,
        deleted_rows=state.deleted_rows,
        build=None if state.card is None else _build_to(state.card),
        recall=recall_to(state.recall),
        building=state.building,
        note=state.note,
    )


def measure_from(request: search_pb2.MeasureRecallRequest) -> tuple[int, int]:
    """The ``k`` to measure recall of, and with how many queries."""
    return request.k or _DEFAULT_K, request.queries or _DEFAULT_QUERIES


def _index_options_to(options: IndexOptions) -> search_pb2.IndexOptions:
    return search_pb2.IndexOptions(**dataclasses.asdict(options))


def _build_to(card: IndexCard) -> search_pb2.IndexBuild:
    return search_pb2.IndexBuild(
        id=card.build,
        collection_version=card.version,
        kind=card.kind,
        rows=card.rows,
        held_out=card.held_out,
        parameters=card.parameters,
        effort=card.effort,
        recall=recall_to(card.recall),
        settings=[search_pb2.IndexSetting(**dataclasses.asdict(setting)) for setting in card.settings],
        reason=card.reason,
        options=_index_options_to(card.options),
        seconds=card.seconds,
        memory_bytes=card.nbytes,
        stored_bytes=sum(file.size for file in card.files),
        space_id=card.space_id,
        dim=card.dim,
        metric=card.metric,
        made_by=card.made_by,
        created_at=card.created_at,
        levels=[
            search_pb2.IndexLevel(effort=level.effort, recall=recall_to(level.recall))
            for level in card.levels
        ],
    )
