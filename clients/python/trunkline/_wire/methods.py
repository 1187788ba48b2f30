"""The calls of the contract, by name and message types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from trunkline_protos.v1 import collections_pb2, embedding_pb2, explore_pb2, heads_pb2, models_pb2, search_pb2

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True)
class Method(Generic[Request, Reply]):
    """One call.

    Attributes:
        path: As gRPC writes it, ``/package.Service/Method``.
        request: The message that goes out.
        reply: The message that comes back.
        streams: Whether many of them come back.
    """

    path: str
    request: type[Request]
    reply: type[Reply]
    streams: bool = False


EMBED = Method("/trunkline.v1.Embedding/Embed", embedding_pb2.EmbedRequest, embedding_pb2.EmbedResponse)
ADD = Method("/trunkline.v1.Collections/Add", collections_pb2.AddRequest, collections_pb2.AddResponse)
LIST_COLLECTIONS = Method(
    "/trunkline.v1.Collections/ListCollections",
    collections_pb2.ListCollectionsRequest,
    collections_pb2.ListCollectionsResponse,
)
GET_COLLECTION = Method(
    "/trunkline.v1.Collections/GetCollection",
    collections_pb2.GetCollectionRequest,
    collections_pb2.Collection,
)
CREATE_COLLECTION = Method(
    "/trunkline.v1.Collections/CreateCollection",
    collections_pb2.CreateCollectionRequest,
    collections_pb2.Collection,
)
DROP_COLLECTION = Method(
    "/trunkline.v1.Collections/DropCollection",
    collections_pb2.DropCollectionRequest,
    collections_pb2.DropCollectionResponse,
)
UPSERT = Method(
    "/trunkline.v1.Collections/Upsert", collections_pb2.UpsertRequest, collections_pb2.UpsertResponse
)
GET_ROWS = Method(
    "/trunkline.v1.Collections/GetRows", collections_pb2.GetRowsRequest, collections_pb2.RowBatch
)
SCAN = Method(
    "/trunkline.v1.Collections/Scan", collections_pb2.ScanRequest, collections_pb2.RowBatch, streams=True
)
RELABEL = Method(
    "/trunkline.v1.Collections/Relabel", collections_pb2.RelabelRequest, collections_pb2.RelabelResponse
)
DELETE_ROWS = Method(
    "/trunkline.v1.Collections/DeleteRows",
    collections_pb2.DeleteRowsRequest,
    collections_pb2.DeleteRowsResponse,
)
PURGE = Method("/trunkline.v1.Collections/Purge", collections_pb2.PurgeRequest, collections_pb2.PurgeResponse)
COMPACT = Method(
    "/trunkline.v1.Collections/Compact", collections_pb2.CompactRequest, collections_pb2.CompactResponse
)
LIST_VERSIONS = Method(
    "/trunkline.v1.Collections/ListVersions",
    collections_pb2.ListVersionsRequest,
    collections_pb2.ListVersionsResponse,
)
SET_TAG = Method(
    "/trunkline.v1.Collections/SetTag", collections_pb2.SetTagRequest, collections_pb2.SetTagResponse
)
DELETE_TAG = Method(
    "/trunkline.v1.Collections/DeleteTag", collections_pb2.DeleteTagRequest, collections_pb2.DeleteTagResponse
)
RESTORE = Method(
    "/trunkline.v1.Collections/Restore", collections_pb2.RestoreRequest, collections_pb2.RestoreResponse
)
SET_ALIAS = Method(
    "/trunkline.v1.Collections/SetAlias", collections_pb2.SetAliasRequest, collections_pb2.Alias
)
DELETE_ALIAS = Method(
    "/trunkline.v1.Collections/DeleteAlias",
    collections_pb2.DeleteAliasRequest,
    collections_pb2.DeleteAliasResponse,
)
LIST_ALIASES = Method(
    "/trunkline.v1.Collections/ListAliases",
    collections_pb2.ListAliasesRequest,
    collections_pb2.ListAliasesResponse,
)
PREDICT = Method("/trunkline.v1.Heads/Predict", heads_pb2.PredictRequest, heads_pb2.PredictResponse)
FIT = Method("/trunkline.v1.Heads/Fit", heads_pb2.FitRequest, heads_pb2.FitProgress, streams=True)
MIGRATE = Method(
    "/trunkline.v1.Heads/Migrate", heads_pb2.MigrateRequest, heads_pb2.MigrateProgress, streams=True
)
LIST_HEADS = Method("/trunkline.v1.Heads/ListHeads", heads_pb2.ListHeadsRequest, heads_pb2.ListHeadsResponse)
GET_HEAD = Method("/trunkline.v1.Heads/GetHead", heads_pb2.GetHeadRequest, heads_pb2.Head)
GET_REPORT = Method("/trunkline.v1.Heads/GetReport", heads_pb2.GetReportRequest, heads_pb2.GetReportResponse)
SUGGEST = Method("/trunkline.v1.Heads/Suggest", heads_pb2.SuggestRequest, heads_pb2.SuggestResponse)
PROMOTE = Method("/trunkline.v1.Heads/Promote", heads_pb2.PromoteRequest, heads_pb2.Head)
ROLLBACK = Method("/trunkline.v1.Heads/Rollback", heads_pb2.RollbackRequest, heads_pb2.Head)
DELETE_HEAD = Method(
    "/trunkline.v1.Heads/DeleteHead", heads_pb2.DeleteHeadRequest, heads_pb2.DeleteHeadResponse
)
SET_HEAD_ALIAS = Method("/trunkline.v1.Heads/SetAlias", heads_pb2.SetHeadAliasRequest, heads_pb2.Head)
DELETE_HEAD_ALIAS = Method(
    "/trunkline.v1.Heads/DeleteAlias", heads_pb2.DeleteHeadAliasRequest, heads_pb2.Head
)
SET_SHADOW = Method("/trunkline.v1.Heads/SetShadow", heads_pb2.SetShadowRequest, heads_pb2.Head)
SEARCH = Method("/trunkline.v1.Search/Search", search_pb2.SearchRequest, search_pb2.SearchResponse)
GET_INDEX = Method("/trunkline.v1.Search/GetIndex", search_pb2.GetIndexRequest, search_pb2.Index)
BUILD_INDEX = Method(
    "/trunkline.v1.Search/BuildIndex",
    search_pb2.BuildIndexRequest,
    search_pb2.BuildIndexProgress,
    streams=True,
)
SET_INDEX = Method("/trunkline.v1.Search/SetIndex", search_pb2.SetIndexRequest, search_pb2.Index)
DROP_INDEX = Method("/trunkline.v1.Search/DropIndex", search_pb2.DropIndexRequest, search_pb2.Index)
MEASURE_RECALL = Method(
    "/trunkline.v1.Search/MeasureRecall", search_pb2.MeasureRecallRequest, search_pb2.Recall
)
FIND_DUPLICATES = Method(
    "/trunkline.v1.Explore/FindDuplicates",
    explore_pb2.FindDuplicatesRequest,
    explore_pb2.FindDuplicatesReply,
    streams=True,
)
FIND_OUTLIERS = Method(
    "/trunkline.v1.Explore/FindOutliers",
    explore_pb2.FindOutliersRequest,
    explore_pb2.FindOutliersReply,
    streams=True,
)
FIND_CLUSTERS = Method(
    "/trunkline.v1.Explore/FindClusters",
    explore_pb2.FindClustersRequest,
    explore_pb2.FindClustersReply,
    streams=True,
)
DRAW_MAP = Method(
    "/trunkline.v1.Explore/DrawMap", explore_pb2.DrawMapRequest, explore_pb2.DrawMapReply, streams=True
)
LIST_MODELS = Method(
    "/trunkline.v1.Models/ListModels", models_pb2.ListModelsRequest, models_pb2.ListModelsResponse
)
GET_MODEL = Method("/trunkline.v1.Models/GetModel", models_pb2.GetModelRequest, models_pb2.Model)
GET_SERVER_INFO = Method(
    "/trunkline.v1.Models/GetServerInfo", models_pb2.GetServerInfoRequest, models_pb2.ServerInfo
)

ALL: tuple[Method[Any, Any], ...] = (
    EMBED,
    ADD,
    LIST_COLLECTIONS,
    GET_COLLECTION,
    CREATE_COLLECTION,
    DROP_COLLECTION,
    UPSERT,
    GET_ROWS,
    SCAN,
    RELABEL,
    DELETE_ROWS,
    PURGE,
    COMPACT,
    LIST_VERSIONS,
    SET_TAG,
    DELETE_TAG,
    RESTORE,
    SET_ALIAS,
    DELETE_ALIAS,
    LIST_ALIASES,
    PREDICT,
    FIT,
    MIGRATE,
    LIST_HEADS,
    GET_HEAD,
    GET_REPORT,
    SUGGEST,
    PROMOTE,
    ROLLBACK,
    DELETE_HEAD,
    SET_HEAD_ALIAS,
    DELETE_HEAD_ALIAS,
    SET_SHADOW,
    SEARCH,
    GET_INDEX,
    BUILD_INDEX,
    SET_INDEX,
    DROP_INDEX,
    MEASURE_RECALL,
    FIND_DUPLICATES,
    FIND_OUTLIERS,
    FIND_CLUSTERS,
    DRAW_MAP,
    LIST_MODELS,
    GET_MODEL,
    GET_SERVER_INFO,
)
