"""Images, vectors or ids -> their neighbours in a collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from google.protobuf.message import Message

from trunkline._wire import floats, methods
from trunkline._wire.chunks import Chunk, Limits
from trunkline._wire.job import Job, common, joined, lane_of
from trunkline._wire.neighbours import most_queries, spread, stacked, told
from trunkline._wire.queries import Queries
from trunkline._wire.scalars import check_text, condition_to, values_to
from trunkline.exceptions import InvalidRequest
from trunkline.results import SearchResult
from trunkline.rows import Scalar
from trunkline.values import ServerInfo
from trunkline_protos.v1 import search_pb2


@dataclass(frozen=True)
class Wishes:
    """How to search; the same for every query of a call. See `SearchMethods.search`."""

    k: int
    where: str | None
    parameters: Sequence[Scalar]
    min_version: int
    min_score: float | None
    group_by: str | None
    per_group: int
    collapse: float | None
    exact: bool
    columns: Sequence[str] = ()

    @property
    def most_queries(self) -> int:
        """Of one request, so that a reply can hold their hits."""
        return most_queries(self.k * self.per_group, len(self.columns), folds=self.collapse is not None)

    def written(self) -> search_pb2.SearchRequest:
        """A request that says this, and no more.

        Raises:
            InvalidRequest: A value that can't be.
        """
        for name, count in (("k", self.k), ("per_group", self.per_group)):
            if not _is_count(count):
                raise InvalidRequest(f"{name} is {count!r}; it can be 1 to 1,000")
        if self.per_group > 1 and not self.group_by:
            raise InvalidRequest(
                f"per_group is {self.per_group} without group_by=; name the column to group by"
            )
        request = search_pb2.SearchRequest(
            where=condition_to(self.where),
            parameters=values_to(self.parameters),
            columns=_names(self.columns),
        )
        given = {
            "k": self.k,
            "min_version": self.min_version,
            "min_score": self.min_score,
            "group_by": self.group_by,
            "per_group": self.per_group if self.group_by else None,
            "collapse": self.collapse,
            "exact": self.exact,
        }
        for name, value in given.items():
            if value is None:
                continue
            try:
                setattr(request, name, value)
            except (TypeError, ValueError) as exc:
                raise InvalidRequest(f"{name} is {value!r}, which can't be used: {exc}") from exc
        return request


def _is_count(value: object) -> bool:
    """Whether it is a whole number that can be sent; how large it may be is the server's to say."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 < int(value) < 2**32


def _names(columns: Sequence[str]) -> list[str]:
    if isinstance(columns, str):
        raise InvalidRequest(f"columns is the text {columns!r}; pass a list of names: [{columns!r}]")
    if not isinstance(columns, Sequence):
        raise InvalidRequest(f"columns is {columns!r}; pass a list of names of columns")
    return [check_text(name, f"columns[{index}]") for index, name in enumerate(columns)]


class SearchJob(Job[SearchResult]):
    """Search, in chunks.

    Args:
        collection: Where to search.
        wishes: How.
        lane: Who waits.
        queries: Vectors or ids; None if the chunks are of images.

    Raises:
        InvalidRequest: A wish that can't be, or another lane than there is.
    """

    method = methods.SEARCH

    def __init__(self, collection: str, wishes: Wishes, lane: str, queries: Queries | None) -> None:
        super().__init__(queries)
        self._base = wishes.written()
        self._base.collection = collection
        self._base.lane = lane_of(lane)
        self._base.space_id = "" if queries is None else queries.space_id
        self._columns = tuple(wishes.columns)
        self._most_queries = wishes.most_queries

    def limits(self, info: ServerInfo, chunk_bytes: int, chunk_images: int) -> Limits:
        """What one request may carry, so that its hits fit a reply."""
        limits = super().limits(info, chunk_bytes, chunk_images)
        return replace(limits, count=min(limits.count, self._most_queries))

    def needs_answer(self, chunk: Chunk) -> bool:
        """Also of no vectors, where they have a length."""
        if chunk.rows or self.queries is None or not self.queries.are_vectors:
            return bool(chunk.rows)
        return bool(self.queries.payload.shape[1])

    def request(self, chunk: Chunk) -> tuple[methods.Method[Any, Any], Message] | None:
        """The call for a chunk; without vectors to ask about, one that tells the version and how it is searched."""
        if chunk.rows or not self.needs_answer(chunk):
            return super().request(chunk)
        assert self.queries is not None
        request = self.base()
        floats.pack(self.queries.payload[:0], request.embeddings)
        return self.method, request

    def base(self) -> search_pb2.SearchRequest:
        """The request without its queries."""
        request = search_pb2.SearchRequest()
        request.CopyFrom(self._base)
        return request

    def fill(self, request: search_pb2.SearchRequest, chunk: Chunk) -> None:
        """Puts the queries in."""
        if self.queries is None:
            for item in chunk.payload:
                item.write(request.images.add())
        elif self.queries.are_vectors:
            floats.pack(chunk.payload, request.embeddings)
        else:
            request.ids.extend(chunk.payload)

    def result(self, chunk: Chunk, reply: Any) -> SearchResult:
        """A list of hits for each query."""
        if reply is None:
            none = [search_pb2.Hits()] * len(chunk.rows)
            return SearchResult(**spread(chunk, none, self._columns), **common(chunk, None))
        self.check_space(reply.space_id, chunk)
        found = spread(chunk, reply.results, self._columns)
        return SearchResult(**found, **told(reply), **common(chunk, reply))

    def merge(self, parts: Sequence[SearchResult]) -> SearchResult:
        """All lists."""
        return SearchResult(**stacked(parts), **joined(parts))
