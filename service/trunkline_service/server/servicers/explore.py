"""trunkline.v1.Explore."""

# ruff: noqa: N802 - gRPC names the methods of a servicer.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc

from trunkline_protos.v1 import explore_pb2, explore_pb2_grpc
from trunkline_service.explore.layout import DEFAULT_POINTS
from trunkline_service.server import explore_converters, working
from trunkline_service.server.row_converters import values_from
from trunkline_service.workspace import Workspace


class ExploreServicer(explore_pb2_grpc.ExploreServicer):
    """What a whole collection holds. Each method: see explore.proto."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def FindDuplicates(
        self, request: explore_pb2.FindDuplicatesRequest, context: grpc.ServicerContext
    ) -> Iterator[explore_pb2.FindDuplicatesReply]:
        """See explore.proto."""
        for step in working.stream(
            lambda told: self._workspace.explore.duplicates(
                request.collection,
                request.threshold if request.HasField("threshold") else None,
                *_condition(request),
                exact=request.exact,
                told=told,
            ),
            context,
        ):
            if isinstance(step, working.Done):
                yield from explore_converters.duplicates_to(step.result)
            else:
                yield explore_pb2.FindDuplicatesReply(progress=explore_converters.progress_to(step))

    def FindOutliers(
        self, request: explore_pb2.FindOutliersRequest, context: grpc.ServicerContext
    ) -> Iterator[explore_pb2.FindOutliersReply]:
        """See explore.proto."""
        for step in working.stream(
            lambda told: self._workspace.explore.outliers(
                request.collection,
                request.count or 50,
                *_condition(request),
                neighbours=request.neighbours or 10,
                told=told,
            ),
            context,
        ):
            if isinstance(step, working.Done):
                yield from explore_converters.outliers_to(step.result)
            else:
                yield explore_pb2.FindOutliersReply(progress=explore_converters.progress_to(step))

    def FindClusters(
        self, request: explore_pb2.FindClustersRequest, context: grpc.ServicerContext
    ) -> Iterator[explore_pb2.FindClustersReply]:
        """See explore.proto."""
        for step in working.stream(
            lambda told: self._workspace.explore.clusters(
                request.collection, request.count or None, *_condition(request), told=told
            ),
            context,
        ):
            if isinstance(step, working.Done):
                yield from explore_converters.clusters_to(step.result)
            else:
                yield explore_pb2.FindClustersReply(progress=explore_converters.progress_to(step))

    def DrawMap(
        self, request: explore_pb2.DrawMapRequest, context: grpc.ServicerContext
    ) -> Iterator[explore_pb2.DrawMapReply]:
        """See explore.proto."""
        for step in working.stream(
            lambda told: self._workspace.explore.map(
                request.collection,
                request.method or "pca",  # type: ignore[arg-type]  # checked there
                *_condition(request),
                points=request.points or DEFAULT_POINTS,
                clusters=request.clusters or None,
                told=told,
            ),
            context,
        ):
            if isinstance(step, working.Done):
                yield from explore_converters.map_to(step.result)
            else:
                yield explore_pb2.DrawMapReply(progress=explore_converters.progress_to(step))


def _condition(request: Any) -> tuple[str | None, list[Any]]:
    return request.where or None, values_from(request.parameters)
