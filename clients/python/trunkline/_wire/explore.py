"""What a whole collection holds: requests, and how the pieces of their replies become one result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trunkline._wire import methods
from trunkline._wire.look import Look, check_whole, positive, row_of
from trunkline._wire.scalars import condition_to, values_to
from trunkline.exceptions import InvalidRequest
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
from trunkline.rows import Scalar
from trunkline_protos.v1 import explore_pb2


class FindDuplicates(Look[Duplicates]):
    """Near duplicates.

    Args:
        collection: A reference.
        threshold: The least score, or None.
        where: A condition, or None.
        parameters: Of it.
        exact: Compare all rows with all.

    Raises:
        InvalidRequest: A threshold or a parameter that can't be sent.
    """

    def __init__(
        self,
        collection: str,
        threshold: float | None,
        where: str | None,
        parameters: Sequence[Scalar],
        exact: bool,
    ) -> None:
        request = explore_pb2.FindDuplicatesRequest(
            collection=collection, where=condition_to(where), parameters=values_to(parameters), exact=exact
        )
        if threshold is not None:
            try:
                request.threshold = threshold
            except (TypeError, ValueError) as exc:
                raise InvalidRequest(f"threshold is {threshold!r}; it must be a number") from exc
        super().__init__(methods.FIND_DUPLICATES, request)
        self._groups: list[list[DuplicateRow]] = []
        self._pairs: list[DuplicatePair] = []

    def take(self, piece: explore_pb2.DuplicateRows | explore_pb2.NearPairs) -> None:
        """Rows of groups, or pairs."""
        if isinstance(piece, explore_pb2.NearPairs):
            self._pairs += [DuplicatePair(pair.first, pair.second, pair.score) for pair in piece.pairs]
            return
        for found in piece.rows:
            while len(self._groups) <= found.group:
                self._groups.append([])
            like = found.like if found.HasField("like") else None
            score = found.score if found.HasField("score") else None
            self._groups[found.group].append(DuplicateRow(row_of(found.row), like, score))

    def made(self, summary: explore_pb2.DuplicatesSummary, explored: dict[str, Any]) -> Duplicates:
        """All groups and pairs."""
        check_whole("groups", len(self._groups), summary.groups)
        return Duplicates(
            **explored,
            threshold=summary.threshold,
            pair_count=summary.pairs,
            pairs=tuple(self._pairs),
            groups=tuple(DuplicateGroup(tuple(rows)) for rows in self._groups),
            exact=summary.exact,
            recall=summary.recall if summary.HasField("recall") else None,
            recall_pairs=summary.recall_pairs,
        )


class FindOutliers(Look[Outliers]):
    """Outliers.

    Args:
        collection: A reference.
        count: Wanted.
        where: A condition, or None.
        parameters: Of it.
        neighbours: Which neighbour's distance counts.

    Raises:
        InvalidRequest: A number or a parameter that can't be sent.
    """

    def __init__(
        self,
        collection: str,
        count: int,
        where: str | None,
        parameters: Sequence[Scalar],
        neighbours: int,
    ) -> None:
        request = explore_pb2.FindOutliersRequest(
            collection=collection,
            where=condition_to(where),
            parameters=values_to(parameters),
            count=positive("count", count),
            neighbours=positive("neighbours", neighbours),
        )
        super().__init__(methods.FIND_OUTLIERS, request)
        self._found: list[Outlier] = []

    def take(self, piece: explore_pb2.OutlierRows) -> None:
        """Some of them."""
        self._found += [
            Outlier(
                row=row_of(found.row),
                distance=found.distance,
                times=found.times,
                reason=found.reason,
                nearest=row_of(found.nearest),
                nearest_distance=found.nearest_distance,
            )
            for found in piece.rows
        ]

    def made(self, summary: explore_pb2.OutliersSummary, explored: dict[str, Any]) -> Outliers:
        """All of them."""
        return Outliers(
            **explored, neighbours=summary.neighbours, usual=summary.usual, outliers=tuple(self._found)
        )


class FindClusters(Look[Clusters]):
    """Clusters.

    Args:
        collection: A reference.
        count: Wanted, or None.
        where: A condition, or None.
        parameters: Of it.

    Raises:
        InvalidRequest: A number or a parameter that can't be sent.
    """

    def __init__(
        self, collection: str, count: int | None, where: str | None, parameters: Sequence[Scalar]
    ) -> None:
        request = explore_pb2.FindClustersRequest(
            collection=collection,
            where=condition_to(where),
            parameters=values_to(parameters),
            count=0 if count is None else positive("count", count),
        )
        super().__init__(methods.FIND_CLUSTERS, request)
        self._ids: list[str] = []
        self._numbers: list[int] = []

    def take(self, piece: explore_pb2.ClusterRows) -> None:
        """Which cluster some rows are in."""
        self._ids += piece.ids
        self._numbers += piece.clusters

    def made(self, summary: explore_pb2.ClustersSummary, explored: dict[str, Any]) -> Clusters:
        """All clusters and rows."""
        check_whole("rows", len(self._ids), explored["rows"])
        return Clusters(
            **explored,
            chosen=summary.chosen,
            silhouette=summary.silhouette if summary.HasField("silhouette") else None,
            clusters=tuple(
                Cluster(
                    number=number,
                    rows=found.rows,
                    cohesion=found.cohesion,
                    representatives=tuple(map(row_of, found.representatives)),
                    labels={entry.label: entry.rows for entry in found.labels},
                    labelled=found.labelled,
                )
                for number, found in enumerate(summary.clusters)
            ),
            ids=self._ids,
            numbers=np.asarray(self._numbers, np.int64),
        )


class DrawMap(Look[Map]):
    """A map.

    Args:
        collection: A reference.
        method: ``"pca"`` or ``"umap"``.
        where: A condition, or None.
        parameters: Of it.
        points: The most, or None.
        clusters: Wanted, or None.

    Raises:
        InvalidRequest: A number or a parameter that can't be sent.
    """

    def __init__(
        self,
        collection: str,
        method: str,
        where: str | None,
        parameters: Sequence[Scalar],
        points: int | None,
        clusters: int | None,
    ) -> None:
        request = explore_pb2.DrawMapRequest(
            collection=collection,
            where=condition_to(where),
            parameters=values_to(parameters),
            method=method,
            points=0 if points is None else positive("points", points),
            clusters=0 if clusters is None else positive("clusters", clusters),
        )
        super().__init__(methods.DRAW_MAP, request)
        self._points: list[ExploredRow] = []
        self._x: list[float] = []
        self._y: list[float] = []
        self._clusters: list[int] = []

    def take(self, piece: explore_pb2.MapPoints) -> None:
        """Some of the points."""
        self._points += map(row_of, piece.rows)
        self._x += piece.x
        self._y += piece.y
        self._clusters += piece.clusters

    def made(self, summary: explore_pb2.MapSummary, explored: dict[str, Any]) -> Map:
        """All points."""
        check_whole("points", len(self._points), summary.points)
        return Map(
            **explored,
            method=summary.method,
            explained=(summary.explained[0], summary.explained[1]) if summary.explained else None,
            points=tuple(self._points),
            places=np.stack([np.asarray(self._x, np.float32), np.asarray(self._y, np.float32)], axis=1),
            clusters=np.asarray(self._clusters, np.int64),
        )
