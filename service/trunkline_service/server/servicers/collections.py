"""trunkline.v1.Collections."""

from __future__ import annotations

import grpc

from trunkline_protos.v1 import collections_pb2, collections_pb2_grpc
from trunkline_service.server import converters
from trunkline_service.server.servicers.calls import caller_of
from trunkline_service.workspace import Workspace


class CollectionsServicer(collections_pb2_grpc.CollectionsServicer):
    """Stored embeddings."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def Add(  # noqa: N802
        self, request: collections_pb2.AddRequest, context: grpc.ServicerContext
    ) -> collections_pb2.AddResponse:
        """See collections.proto."""
        converters.check_count(len(request.items), self._workspace.settings.max_images_per_request)
        rows = [converters.row_from(item) for item in request.items]
        added = self._workspace.add(request.collection, rows, request.model, caller_of(context, request.lane))
        return collections_pb2.AddResponse(
            ids=added.ids,
            errors=converters.errors_to(added.embedded.errors),
            model=converters.model_ref_to(added.embedded),
            collection_version=added.version,
            timings=converters.timings_to(added.embedded.timings),
        )

    def ListCollections(  # noqa: N802
        self, request: collections_pb2.ListCollectionsRequest, context: grpc.ServicerContext
    ) -> collections_pb2.ListCollectionsResponse:
        """See collections.proto."""
        infos = self._workspace.list_collections()
        return collections_pb2.ListCollectionsResponse(
            collections=[converters.collection_to(info) for info in infos]
        )

    def GetCollection(  # noqa: N802
        self, request: collections_pb2.GetCollectionRequest, context: grpc.ServicerContext
    ) -> collections_pb2.Collection:
        """See collections.proto."""
        return converters.collection_to(self._workspace.collections.open(request.collection).info())
