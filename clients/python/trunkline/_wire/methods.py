"""The calls of the contract, by name and message types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from trunkline_protos.v1 import collections_pb2, embedding_pb2, heads_pb2, models_pb2, search_pb2

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True)
class Method(Generic[Request, Reply]):
    """One unary call.

    Attributes:
        path: As gRPC writes it, ``/package.Service/Method``.
        request: The message that goes out.
        reply: The message that comes back.
    """

    path: str
    request: type[Request]
    reply: type[Reply]


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
PREDICT = Method("/trunkline.v1.Heads/Predict", heads_pb2.PredictRequest, heads_pb2.PredictResponse)
LIST_HEADS = Method("/trunkline.v1.Heads/ListHeads", heads_pb2.ListHeadsRequest, heads_pb2.ListHeadsResponse)
SEARCH = Method("/trunkline.v1.Search/Search", search_pb2.SearchRequest, search_pb2.SearchResponse)
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
    PREDICT,
    LIST_HEADS,
    SEARCH,
    LIST_MODELS,
    GET_MODEL,
    GET_SERVER_INFO,
)
