"""trunkline.v1.Heads."""

from __future__ import annotations

import grpc

from trunkline_protos.v1 import common_pb2, heads_pb2, heads_pb2_grpc
from trunkline_service.errors import InvalidArgument
from trunkline_service.server import converters
from trunkline_service.server.servicers.calls import caller_of
from trunkline_service.workspace import Predicted, Workspace


class HeadsServicer(heads_pb2_grpc.HeadsServicer):
    """Small models over embeddings."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def Predict(  # noqa: N802
        self, request: heads_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> heads_pb2.PredictResponse:
        """See heads.proto."""
        predicted = self._predict(request, context)
        response = heads_pb2.PredictResponse(
            classes=predicted.head.classes,
            probabilities=converters.matrix_to(predicted.probabilities, common_pb2.FLOAT_TYPE_FLOAT32),
            head=converters.head_ref_to(predicted.head),
        )
        if predicted.embedded is not None:
            response.errors.extend(converters.errors_to(predicted.embedded.errors))
            response.model.CopyFrom(converters.model_ref_to(predicted.embedded))
            response.timings.CopyFrom(converters.timings_to(predicted.embedded.timings))
        return response

    def ListHeads(  # noqa: N802
        self, request: heads_pb2.ListHeadsRequest, context: grpc.ServicerContext
    ) -> heads_pb2.ListHeadsResponse:
        """See heads.proto."""
        return heads_pb2.ListHeadsResponse(
            heads=[
                heads_pb2.Head(
                    name=card.name,
                    version=card.version,
                    kind=card.kind,
                    space_id=card.space_id,
                    model=card.model,
                    classes=card.classes,
                    accuracy=card.metrics.accuracy if card.metrics else None,
                    collection=card.collection,
                    collection_version=card.collection_version,
                    card_json=card.dumps(),
                )
                for card in self._workspace.list_heads()
            ]
        )

    def _predict(self, request: heads_pb2.PredictRequest, context: grpc.ServicerContext) -> Predicted:
        if request.HasField("embeddings"):
            if request.images:
                raise InvalidArgument("a Predict request holds images or embeddings, not both")
            vectors = converters.matrix_from(request.embeddings)
            return self._workspace.predict_vectors(request.head, vectors, request.space_id)
        images = converters.images_from(request.images, self._workspace.settings.max_images_per_request)
        return self._workspace.predict(request.head, images, request.model, caller_of(context, request.lane))
