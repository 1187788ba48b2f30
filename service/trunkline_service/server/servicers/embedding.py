"""trunkline.v1.Embedding."""

from __future__ import annotations

import grpc

from trunkline_protos.v1 import embedding_pb2, embedding_pb2_grpc
from trunkline_service.server import converters
from trunkline_service.server.servicers.calls import caller_of
from trunkline_service.workspace.embedding_work import EmbeddingWork


class EmbeddingServicer(embedding_pb2_grpc.EmbeddingServicer):
    """Images in, vectors out."""

    def __init__(self, workspace: EmbeddingWork) -> None:
        self._workspace = workspace

    def Embed(  # noqa: N802 - gRPC's name
        self, request: embedding_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> embedding_pb2.EmbedResponse:
        """See embedding.proto."""
        images = converters.images_from(request.images, self._workspace.settings.max_images_per_request)
        caller = caller_of(context, request.lane)
        model, wanted, floats = request.model, request.expect_space_id, request.type
        # The images were copied out of the message, which lives until its last reference goes.
        del request
        embedded = self._workspace.embed(images, model, caller, wanted)
        return embedding_pb2.EmbedResponse(
            embeddings=converters.matrix_to(embedded.vectors, floats),
            errors=converters.errors_to(embedded.errors),
            model=converters.model_ref_to(embedded),
            timings=converters.timings_to(embedded.timings),
        )
