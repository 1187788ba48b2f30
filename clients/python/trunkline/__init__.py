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
from trunkline.collections import AliasInfo, CollectionInfo, Compacted, Purged, VersionInfo, Written
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
from trunkline.explore import (
    Cluster,
    Clusters,
    DuplicateGroup,
    DuplicatePair,
    DuplicateRow,
    Duplicates,
    ExploredRow,
    Map,
    Outlier,
    Outliers,
)
from trunkline.heads import HeadInfo, Migration, Suggestion, Suggestions, Unknown
from trunkline.index import IndexBuild, IndexInfo, IndexLevel, IndexOptions, IndexSetting, Recall
from trunkline.local import open
from trunkline.predictions import PredictResult
from trunkline.results import AddResult, EmbedResult, SearchResult
from trunkline.rows import Row, Rows
from trunkline.values import (
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
    "AliasInfo",
    "AsyncClient",
    "Cancelled",
    "Client",
    "Cluster",
    "Clusters",
    "CollectionInfo",
    "Compacted",
    "ConnectionFailed",
    "DuplicateGroup",
    "DuplicatePair",
    "DuplicateRow",
    "Duplicates",
    "EmbedResult",
    "ExploredRow",
    "FailedPrecondition",
    "HeadInfo",
    "HeadRef",
    "IndexBuild",
    "IndexInfo",
    "IndexLevel",
    "IndexOptions",
    "IndexSetting",
    "Internal",
    "InvalidRequest",
    "ItemErrors",
    "ItemFailure",
    "Map",
    "MessageTooLarge",
    "Migration",
    "MissingExtra",
    "ModelInfo",
    "ModelRef",
    "NotFound",
    "Outlier",
    "Outliers",
    "Overloaded",
    "PermissionDenied",
    "PredictResult",
    "Purged",
    "Recall",
    "Row",
    "Rows",
    "SearchResult",
    "ServerInfo",
    "SpaceMismatch",
    "Suggestion",
    "Suggestions",
    "Timeout",
    "Timings",
    "TrunklineError",
    "Unauthenticated",
    "Unavailable",
    "Unknown",
    "Unsupported",
    "VersionInfo",
    "Written",
    "open",
]
