"""Images, vectors or ids -> their neighbours in a collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trunkline._wire import floats, methods
from trunkline._wire.chunks import Chunk, Limits
from trunkline._wire.job import Job, common, joined, lane_of
from trunkline._wire.neighbours import most_queries, spread, stacked, told
from trunkline._wire.queries import Queries
from trunkline._wire.scalars import condition_to, values_to
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

    @property
    def most_hits(self) -> int:
        """Of one query."""
        return self.k * self.per_group

    def written(self) -> search_pb2.SearchRequest:
        """A request that says this, and no more.

        Raises:
            InvalidRequest: A value that can't be.
        """
        if self.k < 1:
            raise InvalidRequest(f"k is {self.k}; ask for at least 1 neighbour")
        if self.per_group < 1:
            raise InvalidRequest(f"per_group is {self.per_group}; ask for at least 1 row of each group")
        if self.per_group > 1 and not self.group_by:
            raise InvalidRequest(
                f"per_group is {self.per_group} without group_by=; name the column to group by"
            )
        request = search_pb2.SearchRequest(
            where=condition_to(self.where), parameters=values_to(self.parameters)
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
        self._base.space_id = queries.space_id if queries else ""
        self._most_hits = wishes.most_hits

    def limits(self, info: ServerInfo, chunk_bytes: int, chunk_images: int) -> Limits:
        """What one request may carry, so that its hits fit a reply."""
        limits = super().limits(info, chunk_bytes, chunk_images)
        return replace(limits, count=min(limits.count, most_queries(self._most_hits)))

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
            return SearchResult(**spread(chunk, [search_pb2.Hits()] * len(chunk.rows)), **common(chunk, None))
        self.check_space(reply.space_id, chunk)
        return SearchResult(**spread(chunk, reply.results), **told(reply), **common(chunk, reply))

    def merge(self, parts: Sequence[SearchResult]) -> SearchResult:
        """All lists."""
        return SearchResult(**stacked(parts), **joined(parts))
