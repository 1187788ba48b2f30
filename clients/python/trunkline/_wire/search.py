"""Images, vectors or ids -> their neighbours in a collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trunkline._wire import floats, methods
from trunkline._wire.chunks import Chunk, Limits
from trunkline._wire.job import Job, common, joined, lane_of
from trunkline._wire.queries import Queries
from trunkline._wire.rows import label_of
from trunkline.exceptions import Internal, InvalidRequest
from trunkline.results import SearchResult
from trunkline.values import ServerInfo
from trunkline_protos.v1 import search_pb2

# A hit takes some hundred bytes, and replies have no limit of their own: this keeps one to tens of megabytes.
_MAX_HITS_PER_REPLY = 100_000


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
        return replace(limits, count=min(limits.count, max(_MAX_HITS_PER_REPLY // self._base.k, 1)))

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
        hits: list[Sequence[search_pb2.Hit]] = [()] * len(chunk)
        if reply is not None:
            self.check_space(reply.space_id, chunk)
            if len(reply.results) != len(chunk.rows):
                raise Internal(
                    f"the reply to {len(chunk.rows)} queries has {len(reply.results)} lists of hits"
                )
            for row, found in zip(chunk.rows, reply.results, strict=True):
                hits[row] = found.hits
        return SearchResult(
            ids=[[hit.id for hit in found] for found in hits],
            scores=[[hit.score for hit in found] for found in hits],
            labels=[[label_of(hit) for hit in found] for found in hits],
            sources=[[hit.source for hit in found] for found in hits],
            version=reply.collection_version if reply is not None else 0,
            space_id=reply.space_id if reply is not None else "",
            metric=reply.metric if reply is not None else "",
            **common(chunk, reply),
        )

    def merge(self, parts: Sequence[SearchResult]) -> SearchResult:
        """All lists; the version is the newest that was searched."""
        return SearchResult(
            ids=[found for part in parts for found in part.ids],
            scores=[found for part in parts for found in part.scores],
            labels=[found for part in parts for found in part.labels],
            sources=[found for part in parts for found in part.sources],
            version=max(part.version for part in parts),
            space_id=next((part.space_id for part in parts if part.space_id), ""),
            metric=next((part.metric for part in parts if part.metric), ""),
            **joined(parts),
        )
