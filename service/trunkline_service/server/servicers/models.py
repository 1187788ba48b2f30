"""trunkline.v1.Models."""

from __future__ import annotations

import importlib.metadata

import grpc

from trunkline_protos.v1 import models_pb2, models_pb2_grpc
from trunkline_service.models.card import ModelCard
from trunkline_service.server import converters
from trunkline_service.workspace import Workspace


class ModelsServicer(models_pb2_grpc.ModelsServicer):
    """The models, and the server's limits."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def ListModels(  # noqa: N802
        self, request: models_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> models_pb2.ListModelsResponse:
        """See models.proto."""
        cards, _problems = self._workspace.repository.cards()
        return models_pb2.ListModelsResponse(models=[self._model(card) for card in cards])

    def GetModel(  # noqa: N802
        self, request: models_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> models_pb2.Model:
        """See models.proto."""
        reference = request.model or self._workspace.settings.default_model
        return self._model(self._workspace.repository.resolve(reference).card)

    def GetServerInfo(  # noqa: N802
        self, request: models_pb2.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> models_pb2.ServerInfo:
        """See models.proto."""
        settings = self._workspace.settings
        return models_pb2.ServerInfo(
            version=importlib.metadata.version("trunkline"),
            max_message_bytes=settings.max_message_bytes,
            max_images_per_request=min(settings.max_images_per_request, settings.queue.max_images),
            max_image_bytes=settings.image.max_bytes,
            max_image_pixels=settings.image.max_pixels,
            device=str(self._workspace.device),
            decode=settings.decode,
        )

    def _default(self) -> str:
        """What an empty name stands for, with its version."""
        return self._workspace.models.get().card.reference

    def _model(self, card: ModelCard) -> models_pb2.Model:
        return converters.model_to(
            card,
            is_default=card.reference == self._default(),
            loaded=card.reference in self._workspace.models.loaded(),
        )
