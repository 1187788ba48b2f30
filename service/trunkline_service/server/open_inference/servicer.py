"""inference.GRPCInferenceService."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable

import grpc

from trunkline_protos.open_inference import inference_pb2, inference_pb2_grpc
from trunkline_service.batching.engine import Caller
from trunkline_service.errors import InvalidArgument, ModelFileError, ModelNotFound
from trunkline_service.models.card import ModelCard
from trunkline_service.names import parse_reference
from trunkline_service.server.open_inference import answers, requests
from trunkline_service.server.servicers.calls import caller_of
from trunkline_service.workspace.embedding_work import EmbeddingWork


class InferenceServicer(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """The protocol that clients of KServe and Triton speak.

    Args:
        workspace: Models, and what computes with them.
        takes_work: Whether the server is past its start and not draining.
    """

    def __init__(self, workspace: EmbeddingWork, takes_work: Callable[[], bool]) -> None:
        self._workspace = workspace
        self._takes_work = takes_work

    def ServerLive(  # noqa: N802 - gRPC's names
        self, _request: inference_pb2.ServerLiveRequest, _context: grpc.ServicerContext
    ) -> inference_pb2.ServerLiveResponse:
        """See inference.proto."""
        return inference_pb2.ServerLiveResponse(live=True)

    def ServerReady(  # noqa: N802
        self, _request: inference_pb2.ServerReadyRequest, _context: grpc.ServicerContext
    ) -> inference_pb2.ServerReadyResponse:
        """See inference.proto."""
        return inference_pb2.ServerReadyResponse(
            ready=self._takes_work() and self._serves(self._workspace.settings.default_model)
        )

    def ModelReady(  # noqa: N802
        self, request: inference_pb2.ModelReadyRequest, _context: grpc.ServicerContext
    ) -> inference_pb2.ModelReadyResponse:
        """See inference.proto."""
        reference = self._reference(request.name, request.version)
        return inference_pb2.ModelReadyResponse(ready=self._takes_work() and self._serves(reference))

    def ServerMetadata(  # noqa: N802
        self, _request: inference_pb2.ServerMetadataRequest, _context: grpc.ServicerContext
    ) -> inference_pb2.ServerMetadataResponse:
        """See inference.proto."""
        return inference_pb2.ServerMetadataResponse(
            name=answers.SERVER_NAME,
            version=importlib.metadata.version("trunkline"),
            extensions=answers.EXTENSIONS,
        )

    def ModelMetadata(  # noqa: N802
        self, request: inference_pb2.ModelMetadataRequest, _context: grpc.ServicerContext
    ) -> inference_pb2.ModelMetadataResponse:
        """See inference.proto."""
        card = self._card(request.name, request.version)
        cards, _problems = self._workspace.repository.cards()
        return answers.metadata_of(card, [each.version for each in cards if each.name == card.name])

    def ModelConfig(  # noqa: N802
        self, request: inference_pb2.ModelConfigRequest, _context: grpc.ServicerContext
    ) -> inference_pb2.ModelConfigResponse:
        """See inference.proto."""
        settings = self._workspace.settings
        most = min(settings.max_images_per_request, settings.queue.max_images)
        return answers.config_of(self._card(request.name, request.version), settings.decode, most)

    def RepositoryIndex(  # noqa: N802
        self, request: inference_pb2.RepositoryIndexRequest, _context: grpc.ServicerContext
    ) -> inference_pb2.RepositoryIndexResponse:
        """See inference.proto."""
        if request.repository_name:
            raise InvalidArgument(
                f"there is no repository {request.repository_name!r}; the server has one, and its name is empty"
            )
        cards, _problems = self._workspace.repository.cards()
        return answers.index_of(cards, self._workspace.models.loaded(), only_ready=request.ready)

    def ModelInfer(  # noqa: N802
        self, request: inference_pb2.ModelInferRequest, context: grpc.ServicerContext
    ) -> inference_pb2.ModelInferResponse:
        """See inference.proto."""
        wishes = requests.wishes_from(request.parameters)
        requests.check_outputs(request.outputs)
        images = requests.images_from(request, self._workspace.settings.max_images_per_request)
        reference = requests.reference_of(request.model_name, request.model_version)
        request_id = request.id
        # The bytes live in the images now; a waiting call must not hold them in the message too.
        del request
        caller = _sooner(caller_of(context, wishes.lane), wishes.timeout_s)
        embedded = self._workspace.embed(images, reference, caller, wishes.expect_space_id)
        return answers.infer_response(embedded, request_id, wishes.datatype)

    def _reference(self, name: str, version: str) -> str:
        return requests.reference_of(name, version) or self._workspace.settings.default_model

    def _card(self, name: str, version: str) -> ModelCard:
        return self._workspace.repository.resolve(self._reference(name, version)).card

    def _serves(self, reference: str) -> bool:
        """Whether a call that names this model would be answered at once."""
        name, version = parse_reference(reference, "model")
        loaded = self._workspace.models.loaded()
        if self._workspace.engine.trouble() is not None:
            return False
        if version is None:
            # The newest that is warm serves, while a newer one is loaded aside.
            return any(parse_reference(each, "model").name == name for each in loaded)
        try:
            return self._workspace.repository.resolve(reference).card.reference in loaded
        except (ModelNotFound, ModelFileError):
            return False


def _sooner(caller: Caller, timeout_s: float | None) -> Caller:
    """The caller, who waits no longer than the request says."""
    if timeout_s is None or (caller.timeout_s is not None and caller.timeout_s <= timeout_s):
        return caller
    return dataclasses.replace(caller, timeout_s=timeout_s)
