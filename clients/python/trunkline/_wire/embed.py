"""Images -> vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from google.protobuf.message import Message

from trunkline._wire import floats, methods
from trunkline._wire.chunks import Chunk
from trunkline._wire.job import Job, common, joined, lane_of, model_ref
from trunkline._wire.methods import Method
from trunkline.exceptions import InvalidRequest
from trunkline.results import EmbedResult
from trunkline.values import ModelRef
from trunkline_protos.v1 import embedding_pb2, models_pb2

FloatName: TypeAlias = Literal["float32", "float16"]


class EmbedJob(Job[EmbedResult]):
    """Embed, in chunks.

    Raises:
        InvalidRequest: Another dtype or lane than there is.
    """

    method = methods.EMBED

    def __init__(self, model: str, dtype: str, lane: str, expect_space: str | None) -> None:
        super().__init__()
        if dtype not in floats.FLOAT_TYPES:
            raise InvalidRequest(f"dtype is {dtype!r}; it can be 'float32' or 'float16'")
        self._model = model
        self._dtype = dtype
        self._base = embedding_pb2.EmbedRequest(
            model=model,
            type=floats.FLOAT_TYPES[dtype],
            lane=lane_of(lane),
            expect_space_id=expect_space or "",
        )

    def base(self) -> embedding_pb2.EmbedRequest:
        """The request without its images."""
        request = embedding_pb2.EmbedRequest()
        request.CopyFrom(self._base)
        return request

    def fill(self, request: embedding_pb2.EmbedRequest, chunk: Chunk) -> None:
        """Puts the images in."""
        for item in chunk.payload:
            item.write(request.images.add())

    def request(self, chunk: Chunk) -> tuple[Method[Any, Any], Message] | None:
        """The call for a chunk; without images, the question which model it would be, for its ``dim``."""
        return super().request(chunk) or (methods.GET_MODEL, models_pb2.GetModelRequest(model=self._model))

    def result(self, chunk: Chunk, reply: Any) -> EmbedResult:
        """The vectors of a chunk, with NaN for the items that failed."""
        if not isinstance(reply, embedding_pb2.EmbedResponse):
            model = _described(reply) if reply is not None else None
            blank = np.empty((0, model.dim if model else 0), dtype=self._dtype)
            return EmbedResult(
                vectors=floats.place(blank, [], len(chunk)), model=model, **common(chunk, None)
            )
        self.check_space(reply.model.space_id, chunk)
        matrix = floats.unpack(reply.embeddings, len(chunk.rows)).astype(self._dtype, copy=False)
        return EmbedResult(
            vectors=floats.place(matrix, chunk.rows, len(chunk)),
            model=model_ref(reply.model),
            **common(chunk, reply),
        )

    def merge(self, parts: Sequence[EmbedResult]) -> EmbedResult:
        """All vectors on top of each other."""
        return EmbedResult(
            vectors=floats.stack([part.vectors for part in parts]),
            model=next((part.model for part in parts if part.model), None),
            **joined(parts),
        )


def _described(model: models_pb2.Model) -> ModelRef:
    """A model by its description, which knows no decode mode: nothing was decoded."""
    return ModelRef(model.name, model.version, model.space_id, model.artifact_id, model.dim, decode="")
