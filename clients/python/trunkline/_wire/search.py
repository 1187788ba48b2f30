"""Images, vectors or ids -> their neighbours in a collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trunkline._wire import floats, methods
from trunkline._wire.chunks import Chunk, Limits
from trunkline._wire.job import Job, common, joined, lane_of
from trunkline._wire.neighbours import most_queries, spread, stacked
from trunkline._wire.queries import Queries
from trunkline.exceptions import InvalidRequest
from trunkline.results import SearchResult
from trunkline.values import ServerInfo
from trunkline_protos.v1 import search_pb2


class SearchJob(Job[SearchResult]):
    """Search, in chunks.

    Args:
        collection: Where to search.
        k: Neighbours of each query.
        where: A condition over the collection's columns.
        lane: Who waits.
        queries: Vectors or ids; None if the chunks are of images.

    Raises:
        InvalidRequest: ``k`` below 1, or another lane than there is.
    """

    method = methods.SEARCH

    def __init__(
        self, collection: str, k: int, where: str | None, lane: str, queries: Queries | None
    ) -> None:
        super().__init__(queries)
        if k < 1:
            raise InvalidRequest(f"k is {k}; ask for at least 1 neighbour")
        self._base = search_pb2.SearchRequest(
            collection=collection,
            k=k,
            where=where or "",
            lane=lane_of(lane),
            space_id=queries.space_id if queries else "",
        )

    def limits(self, info: ServerInfo, chunk_bytes: int, chunk_images: int) -> Limits:
        """What one request may carry, so that its hits fit a reply."""
        limits = super().limits(info, chunk_bytes, chunk_images)
        return replace(limits, count=min(limits.count, most_queries(self._base.k)))

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
        return SearchResult(
            **spread(chunk, reply.results),
            version=reply.collection_version,
            space_id=reply.space_id,
            metric=reply.metric,
            **common(chunk, reply),
        )

    def merge(self, parts: Sequence[SearchResult]) -> SearchResult:
        """All lists."""
        return SearchResult(**stacked(parts), **joined(parts))
