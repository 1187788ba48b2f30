"""All services of Trunkline, registered in one place."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from trunkline_protos.v1 import (
    collections_pb2_grpc,
    embedding_pb2_grpc,
    explore_pb2_grpc,
    heads_pb2_grpc,
    models_pb2_grpc,
    search_pb2_grpc,
)
from trunkline_service.server.servicers.collections import CollectionsServicer
from trunkline_service.server.servicers.embedding import EmbeddingServicer
from trunkline_service.server.servicers.explore import ExploreServicer
from trunkline_service.server.servicers.heads import HeadsServicer
from trunkline_service.server.servicers.models import ModelsServicer
from trunkline_service.server.servicers.search import SearchServicer
from trunkline_service.workspace import Workspace


def register(
    server: grpc.Server, workspace: Workspace, takes_work: Callable[[], bool] = lambda: True
) -> None:
    """Adds every servicer to a server; to anything else that takes handlers as one does, Trunkline's own.

    Args:
        server: Or what stands for one.
        workspace: What they serve.
        takes_work: Whether the server is past its start and not draining.
    """
    embedding_pb2_grpc.add_EmbeddingServicer_to_server(EmbeddingServicer(workspace), server)
    models_pb2_grpc.add_ModelsServicer_to_server(ModelsServicer(workspace), server)
    collections_pb2_grpc.add_CollectionsServicer_to_server(CollectionsServicer(workspace), server)
    heads_pb2_grpc.add_HeadsServicer_to_server(HeadsServicer(workspace), server)
    search_pb2_grpc.add_SearchServicer_to_server(SearchServicer(workspace), server)
    explore_pb2_grpc.add_ExploreServicer_to_server(ExploreServicer(workspace), server)
    if isinstance(server, grpc.Server):
        _register_open_inference(server, workspace, takes_work)


def _register_open_inference(
    server: grpc.Server, workspace: Workspace, takes_work: Callable[[], bool]
) -> None:
    # Only where a server is: a notebook with an in-process channel may have loaded tritonclient, and a
    # process can't load two definitions of package `inference`.
    from trunkline_protos.open_inference import inference_pb2_grpc
    from trunkline_service.server.open_inference.servicer import InferenceServicer

    inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        InferenceServicer(workspace, takes_work), server
    )
