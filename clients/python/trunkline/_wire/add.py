"""Images -> rows of a collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trunkline._wire import methods
from trunkline._wire.chunks import Chunk
from trunkline._wire.job import Job, common, joined, lane_of, model_ref
from trunkline.exceptions import Internal
from trunkline.results import AddResult
from trunkline_protos.v1 import collections_pb2


class AddJob(Job[AddResult]):
    """Add, in chunks.

    Raises:
        InvalidRequest: Another lane than there is.
    """

    method = methods.ADD

    def __init__(self, collection: str, model: str, lane: str) -> None:
        super().__init__()
        self._base = collections_pb2.AddRequest(collection=collection, model=model, lane=lane_of(lane))

    def base(self) -> collections_pb2.AddRequest:
        """The request without its items."""
        request = collections_pb2.AddRequest()
        request.CopyFrom(self._base)
        return request

    def fill(self, request: collections_pb2.AddRequest, chunk: Chunk) -> None:
        """Puts the images in, with what is known of them."""
        for item in chunk.payload:
            entry = request.items.add()
            item.write(entry.image)
            entry.id = item.id
            entry.source = item.source
            if isinstance(item.label, tuple):
                entry.labels.SetInParent()
                entry.labels.labels.extend(item.label)
            elif item.label is not None:
                entry.label = item.label
            if item.split is not None:
                entry.split = item.split
            for name, value in item.metadata.items():
                entry.metadata[name].CopyFrom(value)

    def result(self, chunk: Chunk, reply: Any) -> AddResult:
        """The rows' ids."""
        ids: list[str | None] = [None] * len(chunk)
        if reply is None:
            return AddResult(ids=ids, **common(chunk, None))
        self.check_space(reply.model.space_id, chunk)
        if len(reply.ids) != len(chunk.rows):
            raise Internal(f"the reply to {len(chunk.rows)} items has {len(reply.ids)} ids")
        for row, name in zip(chunk.rows, reply.ids, strict=True):
            ids[row] = name
        return AddResult(
            ids=ids,
            version=reply.collection_version,
            model=model_ref(reply.model),
            **common(chunk, reply),
        )

    def merge(self, parts: Sequence[AddResult]) -> AddResult:
        """All ids; the version is that of the last write, whichever chunk's that was."""
        return AddResult(
            ids=[name for part in parts for name in part.ids],
            version=max(part.version for part in parts),
            model=next((part.model for part in parts if part.model), None),
            **joined(parts),
        )
