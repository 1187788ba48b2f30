"""trunkline.v1.Collections."""

# ruff: noqa: N802 - gRPC names the methods of a servicer.

from __future__ import annotations

from collections.abc import Iterator

import grpc

from trunkline_protos.v1 import collections_pb2, collections_pb2_grpc
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.declared import meant_space
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import FailedPrecondition, InvalidArgument, SpaceMismatch
from trunkline_service.server import collection_converters, converters, row_converters, scanning
from trunkline_service.server.servicers.calls import caller_of
from trunkline_service.workspace import Workspace

# Of one request, whose rows are held as objects beside the message; some hundred megabytes.
_MOST_ROWS = 100_000


class CollectionsServicer(collections_pb2_grpc.CollectionsServicer):
    """Stored embeddings. Each method: see collections.proto."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def _store(self) -> CollectionStore:
        return self._workspace.collections

    def Add(
        self, request: collections_pb2.AddRequest, context: grpc.ServicerContext
    ) -> collections_pb2.AddResponse:
        """See collections.proto."""
        converters.check_count(len(request.items), self._workspace.settings.max_images_per_request)
        rows = [row_converters.row_from(item) for item in request.items]
        added = self._workspace.add(request.collection, rows, request.model, caller_of(context, request.lane))
        return collections_pb2.AddResponse(
            ids=added.ids,
            errors=converters.errors_to(added.embedded.errors),
            model=converters.model_ref_to(added.embedded),
            collection_version=added.version,
            timings=converters.timings_to(added.embedded.timings),
        )

    def ListCollections(
        self, request: collections_pb2.ListCollectionsRequest, context: grpc.ServicerContext
    ) -> collections_pb2.ListCollectionsResponse:
        """See collections.proto."""
        aliases = self._store.aliases.all()
        infos = self._workspace.list_collections()
        return collections_pb2.ListCollectionsResponse(
            collections=[collection_converters.collection_to(info, aliases, {}) for info in infos]
        )

    def GetCollection(
        self, request: collections_pb2.GetCollectionRequest, context: grpc.ServicerContext
    ) -> collections_pb2.Collection:
        """See collections.proto."""
        resolved = self._store.resolve(request.collection)
        return self._described(resolved.collection, resolved.version)

    def CreateCollection(
        self, request: collections_pb2.CreateCollectionRequest, context: grpc.ServicerContext
    ) -> collections_pb2.Collection:
        """See collections.proto."""
        spec = self._spec(request)
        try:
            collection = self._store.create(request.name, spec)
        except FailedPrecondition:
            # A call that is repeated because its answer was lost finds what it made.
            if not self._is_there(request.name, spec):
                raise
            collection = self._store.open(request.name)
        return self._described(collection)

    def DropCollection(
        self, request: collections_pb2.DropCollectionRequest, context: grpc.ServicerContext
    ) -> collections_pb2.DropCollectionResponse:
        """See collections.proto."""
        self._workspace.drop_collection(request.collection)
        return collections_pb2.DropCollectionResponse()

    def Upsert(
        self, request: collections_pb2.UpsertRequest, context: grpc.ServicerContext
    ) -> collections_pb2.UpsertResponse:
        """See collections.proto."""
        converters.check_count(len(request.rows), _MOST_ROWS, "rows")
        self._check_maker(request)
        collection = self._store.open(request.collection)
        spec = collection.spec
        version = collection.upsert(
            row_converters.rows_from(request, spec.decode),
            space_id=meant_space(spec, request.space_id),
            decode=request.decode or None,
        )
        return collections_pb2.UpsertResponse(collection_version=version)

    def GetRows(
        self, request: collections_pb2.GetRowsRequest, context: grpc.ServicerContext
    ) -> collections_pb2.RowBatch:
        """See collections.proto."""
        converters.check_count(len(request.ids), self._workspace.settings.max_images_per_request, "ids")
        return scanning.rows_by_id(self._store.resolve(request.collection), request)

    def Scan(
        self, request: collections_pb2.ScanRequest, context: grpc.ServicerContext
    ) -> Iterator[collections_pb2.RowBatch]:
        """See collections.proto."""
        resolved = self._store.resolve(request.collection)
        yield from scanning.scan(resolved, request, self._workspace.settings.max_message_bytes)

    def Relabel(
        self, request: collections_pb2.RelabelRequest, context: grpc.ServicerContext
    ) -> collections_pb2.RelabelResponse:
        """See collections.proto."""
        collection = self._store.open(request.collection)
        rows = _relabel(collection, request, request.column or "label")
        return collections_pb2.RelabelResponse(rows=rows, collection_version=collection.version)

    def DeleteRows(
        self, request: collections_pb2.DeleteRowsRequest, context: grpc.ServicerContext
    ) -> collections_pb2.DeleteRowsResponse:
        """See collections.proto."""
        ids, where, parameters = collection_converters.selection_from(request)
        collection = self._store.open(request.collection)
        rows = collection.delete(ids or ()) if where is None else collection.delete_where(where, parameters)
        return collections_pb2.DeleteRowsResponse(rows=rows, collection_version=collection.version)

    def Purge(
        self, request: collections_pb2.PurgeRequest, context: grpc.ServicerContext
    ) -> collections_pb2.PurgeResponse:
        """See collections.proto."""
        ids, where, parameters = collection_converters.selection_from(request)
        purged = self._workspace.purge(
            request.collection, ids, where, parameters, exclusive=request.exclusive
        )
        return collection_converters.purged_to(purged)

    def Compact(
        self, request: collections_pb2.CompactRequest, context: grpc.ServicerContext
    ) -> collections_pb2.CompactResponse:
        """See collections.proto."""
        keep = collection_converters.keep_from(request)
        return collection_converters.compacted_to(self._store.open(request.collection).compact(keep))

    def ListVersions(
        self, request: collections_pb2.ListVersionsRequest, context: grpc.ServicerContext
    ) -> collections_pb2.ListVersionsResponse:
        """See collections.proto."""
        infos = self._store.open(request.collection).versions()
        return collections_pb2.ListVersionsResponse(
            versions=[collection_converters.version_to(info) for info in infos]
        )

    def SetTag(
        self, request: collections_pb2.SetTagRequest, context: grpc.ServicerContext
    ) -> collections_pb2.SetTagResponse:
        """See collections.proto."""
        version = request.version if request.HasField("version") else None
        return collections_pb2.SetTagResponse(
            version=self._store.open(request.collection).tag(request.tag, version)
        )

    def DeleteTag(
        self, request: collections_pb2.DeleteTagRequest, context: grpc.ServicerContext
    ) -> collections_pb2.DeleteTagResponse:
        """See collections.proto."""
        self._store.open(request.collection).untag(request.tag)
        return collections_pb2.DeleteTagResponse()

    def Restore(
        self, request: collections_pb2.RestoreRequest, context: grpc.ServicerContext
    ) -> collections_pb2.RestoreResponse:
        """See collections.proto."""
        version = self._store.open(request.collection).restore(request.version)
        return collections_pb2.RestoreResponse(collection_version=version)

    def SetAlias(
        self, request: collections_pb2.SetAliasRequest, context: grpc.ServicerContext
    ) -> collections_pb2.Alias:
        """See collections.proto."""
        wanted = request.alias
        version = wanted.version if wanted.HasField("version") else None
        return collection_converters.alias_to(self._store.set_alias(wanted.name, wanted.collection, version))

    def DeleteAlias(
        self, request: collections_pb2.DeleteAliasRequest, context: grpc.ServicerContext
    ) -> collections_pb2.DeleteAliasResponse:
        """See collections.proto."""
        self._store.aliases.delete(request.alias)
        return collections_pb2.DeleteAliasResponse()

    def ListAliases(
        self, request: collections_pb2.ListAliasesRequest, context: grpc.ServicerContext
    ) -> collections_pb2.ListAliasesResponse:
        """See collections.proto."""
        aliases = self._store.aliases.all()
        return collections_pb2.ListAliasesResponse(
            aliases=[collection_converters.alias_to(alias) for alias in aliases]
        )

    def _described(self, collection: Collection, version: int | None = None) -> collections_pb2.Collection:
        return collection_converters.collection_to(
            collection.info(version), self._store.aliases.all(), collection.columns(version)
        )

    def _spec(self, request: collections_pb2.CreateCollectionRequest) -> CollectionSpec:
        if request.space_id:
            return collection_converters.declared_spec_from(request)
        settings = self._workspace.settings
        folder = self._workspace.repository.resolve(request.model or settings.default_model)
        return collection_converters.spec_from(request, folder.card, settings.decode)

    def _is_there(self, name: str, spec: CollectionSpec) -> bool:
        """Whether there is an empty collection of this identity."""
        if not self._store.exists(name):
            return False
        info = self._store.open(name).info()
        return (info.spec, info.rows, info.errors) == (spec, 0, 0)

    def _check_maker(self, request: collections_pb2.UpsertRequest) -> None:
        if not request.model:
            return
        card = self._workspace.repository.resolve(request.model).card
        if card.space_id != request.space_id:
            raise SpaceMismatch(
                f"model {card.reference} makes vectors of space {card.space_id}, these are said to be of space "
                f"{request.space_id}; name the model that made them"
            )


def _relabel(collection: Collection, request: collections_pb2.RelabelRequest, column: str) -> int:
    kind = request.WhichOneof("change")
    if kind == "changes":
        changes = {
            row_id: row_converters.new_value_from(value) for row_id, value in request.changes.values.items()
        }
        return collection.relabel(changes, column)
    if kind == "where":
        _ids, where, parameters = collection_converters.condition_from(request.where.condition)
        value = row_converters.new_value_from(request.where.value)
        return collection.relabel_where(value, where or "", parameters, column)
    raise InvalidArgument("nothing is to be changed: send new values by id, or one with a condition")
