"""Images or vectors -> labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trunkline._wire import floats, methods
from trunkline._wire.chunks import Chunk
from trunkline._wire.job import Job, common, joined, lane_of, model_ref
from trunkline._wire.queries import Queries
from trunkline.exceptions import FailedPrecondition, Internal
from trunkline.results import PredictResult
from trunkline.values import HeadRef
from trunkline_protos.v1 import heads_pb2


class PredictJob(Job[PredictResult]):
    """Predict, in chunks.

    Args:
        head: ``name`` or ``name@version``.
        model: What embeds the images.
        lane: Who waits.
        queries: The vectors; None if the chunks are of images.

    Raises:
        InvalidRequest: Another lane than there is.
    """

    method = methods.PREDICT

    def __init__(self, head: str, model: str, lane: str, queries: Queries | None) -> None:
        super().__init__(queries)
        self._head: HeadRef | None = None
        self._base = heads_pb2.PredictRequest(
            head=head, model=model, lane=lane_of(lane), space_id=queries.space_id if queries else ""
        )

    def base(self) -> heads_pb2.PredictRequest:
        """The request without images or vectors."""
        request = heads_pb2.PredictRequest()
        request.CopyFrom(self._base)
        return request

    def fill(self, request: heads_pb2.PredictRequest, chunk: Chunk) -> None:
        """Puts the images or vectors in."""
        if self.queries is not None:
            floats.pack(chunk.payload, request.embeddings)
        else:
            for item in chunk.payload:
                item.write(request.images.add())

    def result(self, chunk: Chunk, reply: Any) -> PredictResult:
        """Probabilities, and the most probable class of each item that was served."""
        if reply is None:
            none = np.empty((len(chunk), 0), dtype=np.float32)
            return PredictResult(labels=[None] * len(chunk), probabilities=none, **common(chunk, None))
        head = HeadRef(reply.head.name, reply.head.version, reply.head.space_id)
        self.check_space(head.space_id, chunk)
        self._check_head(head, chunk)
        shared = common(chunk, reply)
        matrix = floats.unpack(reply.probabilities, len(chunk.rows)).astype(np.float32, copy=False)
        classes = tuple(reply.classes)
        if matrix.shape[1] != len(classes):
            raise Internal(
                f"the reply has {len(classes)} classes and {matrix.shape[1]} probabilities an item"
            )
        probabilities = floats.place(matrix, chunk.rows, len(chunk))
        labels: list[str | None] = [None] * len(chunk)
        failed = {failure.index - chunk.start for failure in shared["errors"]}
        for row in chunk.rows:
            if row not in failed:
                labels[row] = classes[int(np.argmax(probabilities[row]))]
        return PredictResult(
            labels=labels,
            probabilities=probabilities.astype(np.float32, copy=False),
            classes=classes,
            head=head,
            model=model_ref(reply.model),
            **shared,
        )

    def merge(self, parts: Sequence[PredictResult]) -> PredictResult:
        """All labels and probabilities."""
        probabilities = floats.stack([part.probabilities for part in parts])
        return PredictResult(
            labels=[label for part in parts for label in part.labels],
            probabilities=probabilities.astype(np.float32, copy=False),
            classes=next((part.classes for part in parts if part.classes), ()),
            head=next((part.head for part in parts if part.head), None),
            model=next((part.model for part in parts if part.model), None),
            **joined(parts),
        )

    def _check_head(self, head: HeadRef, chunk: Chunk) -> None:
        self._head = self._head or head
        if head != self._head:
            raise FailedPrecondition(
                f"items {chunk.start} to {chunk.start + len(chunk) - 1} were answered by head {head}, those "
                f"before by {self._head}: it was replaced meanwhile; name its version and call again",
                items=chunk.items,
            )
