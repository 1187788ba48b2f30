"""trunkline.v1.Search."""

# ruff: noqa: N802 - gRPC names the methods of a servicer.

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc

from trunkline_protos.v1 import search_pb2, search_pb2_grpc
from trunkline_service.errors import InvalidArgument
from trunkline_service.index.options import IndexOptions
from trunkline_service.server import converters, search_converters, working
from trunkline_service.server.servicers.calls import called_off, caller_of
from trunkline_service.workspace import Found, Workspace


class SearchServicer(search_pb2_grpc.SearchServicer):
    """Nearest neighbours and their indexes. Each method: see search.proto."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def Search(
        self, request: search_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> search_pb2.SearchResponse:
        """See search.proto."""
        return search_converters.found_to(self._search(request, context))

    def GetIndex(
        self, request: search_pb2.GetIndexRequest, context: grpc.ServicerContext
    ) -> search_pb2.Index:
        """See search.proto."""
        return search_converters.index_to(self._workspace.index(request.collection))

    def BuildIndex(
        self, request: search_pb2.BuildIndexRequest, context: grpc.ServicerContext
    ) -> Iterator[search_pb2.BuildIndexProgress]:
        """See search.proto."""
        options = self._wished(request.collection, request.options) if request.HasField("options") else None
        gone = threading.Event()
        # False: the call has ended already, and the function will not be called.
        if not context.add_callback(gone.set):
            gone.set()
        steps = working.stream(
            lambda report: self._workspace.build_index(request.collection, options, report, gone.is_set),
            context,
        )
        for step in steps:
            if isinstance(step, working.Done):
                yield search_pb2.BuildIndexProgress(share=1.0, index=search_converters.index_to(step.result))
            else:
                yield search_pb2.BuildIndexProgress(share=step.share, stage=step.stage)

    def SetIndex(
        self, request: search_pb2.SetIndexRequest, context: grpc.ServicerContext
    ) -> search_pb2.Index:
        """See search.proto."""
        options = self._wished(request.collection, request.options)
        return search_converters.index_to(self._workspace.set_index(request.collection, options))

    def DropIndex(
        self, request: search_pb2.DropIndexRequest, context: grpc.ServicerContext
    ) -> search_pb2.Index:
        """See search.proto."""
        return search_converters.index_to(self._workspace.drop_index(request.collection))

    def MeasureRecall(
        self, request: search_pb2.MeasureRecallRequest, context: grpc.ServicerContext
    ) -> search_pb2.Recall:
        """See search.proto."""
        k, queries = search_converters.measure_from(request)
        with called_off(context) as cancelled:
            measured = self._workspace.measure_recall(request.collection, k, queries, cancelled)
        recall = search_converters.recall_to(measured)
        assert recall is not None
        return recall

    def _wished(self, collection: str, options: search_pb2.IndexOptions) -> IndexOptions:
        return search_converters.index_options_from(options, self._workspace.index_options(collection))

    def _search(self, request: search_pb2.SearchRequest, context: grpc.ServicerContext) -> Found:
        most = self._workspace.settings.max_images_per_request
        queries = len(request.images) + len(request.ids) + request.embeddings.count
        converters.check_count(queries, most, "queries")
        kinds = [bool(request.images), request.HasField("embeddings"), bool(request.ids)]
        if sum(kinds) != 1:
            raise InvalidArgument(
                "a Search request holds exactly one of images, embeddings and ids; "
                f"this one holds {sum(kinds)}"
            )
        options = search_converters.search_options_from(request)
        name = request.collection
        with called_off(context) as cancelled:
            if request.ids:
                return self._workspace.search_ids(name, request.ids, options, cancelled)
            if request.HasField("embeddings"):
                vectors = converters.matrix_from(request.embeddings)
                return self._workspace.search_vectors(name, vectors, request.space_id, options, cancelled)
            images = converters.images_from(request.images, most)
            return self._workspace.search(name, images, options, caller_of(context, request.lane), cancelled)
