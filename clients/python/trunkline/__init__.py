"""Trunkline's client: frozen backbones over gRPC.

::

    import trunkline

    with trunkline.Client("localhost:50051") as client:
        result = client.embed(["cat.jpg", "dog.jpg"])
        result.vectors  # (2, dim) float32
"""

from trunkline._options import TLS
from trunkline.aio import AsyncClient
from trunkline.client import Client
from trunkline.exceptions import (
    Cancelled,
    ConnectionFailed,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    ItemErrors,
    MessageTooLarge,
    MissingExtra,
    NotFound,
    Overloaded,
    PermissionDenied,
    SpaceMismatch,
    Timeout,
    TrunklineError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from trunkline.local import open
from trunkline.results import AddResult, EmbedResult, PredictResult, SearchResult
from trunkline.values import (
    CollectionInfo,
    HeadInfo,
    HeadRef,
    ItemFailure,
    ModelInfo,
    ModelRef,
    ServerInfo,
    Timings,
)

__all__ = [
    "TLS",
    "AddResult",
    "AsyncClient",
    "Cancelled",
    "Client",
    "CollectionInfo",
    "ConnectionFailed",
    "EmbedResult",
    "FailedPrecondition",
    "HeadInfo",
    "HeadRef",
    "Internal",
    "InvalidRequest",
    "ItemErrors",
    "ItemFailure",
    "MessageTooLarge",
    "MissingExtra",
    "ModelInfo",
    "ModelRef",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "PredictResult",
    "SearchResult",
    "ServerInfo",
    "SpaceMismatch",
    "Timeout",
    "Timings",
    "TrunklineError",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "open",
]
