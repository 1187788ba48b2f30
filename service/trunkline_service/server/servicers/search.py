"""trunkline.v1.Search."""

from __future__ import annotations

import grpc

from trunkline_protos.v1 import search_pb2, search_pb2_grpc
from trunkline_service.errors import InvalidArgument
from trunkline_service.server import converters
from trunkline_service.server.servicers.calls import caller_of
from trunkline_service.workspace import Found, Workspace

_DEFAULT_K = 10


class SearchServicer(search_pb2_grpc.SearchServicer):
    """Nearest neighbours."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def Search(  # noqa: N802
        self, request: search_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> search_pb2.SearchResponse:
        """See search.proto."""
        return converters.found_to(self._search(request, context))

    def _search(self, request: search_pb2.SearchRequest, context: grpc.ServicerContext) -> Found:
        k = request.k or _DEFAULT_K
        queries = len(request.images) + len(request.ids) + request.embeddings.count
        converters.check_count(queries, self._workspace.settings.max_images_per_request, "queries")
        converters.check_hits(queries, k)
        where = request.where or None
        kinds = [bool(request.images), request.HasField("embeddings"), bool(request.ids)]
        if sum(kinds) != 1:
            raise InvalidArgument(
                "a Search request holds exactly one of images, embeddings and ids; "
                f"this one holds {sum(kinds)}"
            )
        if request.ids:
            return self._workspace.search_ids(request.collection, request.ids, k, where)
        if request.HasField("embeddings"):
            vectors = converters.matrix_from(request.embeddings)
            return self._workspace.search_vectors(request.collection, vectors, request.space_id, k, where)
        images = converters.images_from(request.images, self._workspace.settings.max_images_per_request)
        return self._workspace.search(request.collection, images, k, where, caller_of(context, request.lane))
