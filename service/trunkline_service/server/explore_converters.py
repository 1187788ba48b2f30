"""What a whole collection holds: proto <-> domain. Pure functions; results come in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from trunkline_protos.v1 import collections_pb2, common_pb2, explore_pb2
from trunkline_service.explore.clusters import Cluster, Clusters
from trunkline_service.explore.duplicates import Duplicates, Group
from trunkline_service.explore.layout import Map
from trunkline_service.explore.live import Seen
from trunkline_service.explore.outliers import Outlier, Outliers
from trunkline_service.server import working

T = TypeVar("T")

# Of one message: some hundred kilobytes, where ids and sources are of a usual length.
_ROWS = 1000


def progress_to(step: working.Step) -> explore_pb2.ExploreProgress:
    """How far it is."""
    return explore_pb2.ExploreProgress(stage=step.stage, share=step.share)


def duplicates_to(found: Duplicates) -> Iterator[explore_pb2.FindDuplicatesReply]:
    """The summary, the groups' rows, the pairs."""
    yield explore_pb2.FindDuplicatesReply(
        summary=explore_pb2.DuplicatesSummary(
            explored=_explored(found),
            threshold=found.threshold,
            pairs=found.pair_count,
            groups=len(found.groups),
            exact=found.exact,
            recall=found.recall,
            recall_pairs=found.recall_pairs,
        )
    )
    for part in _parts([row for at, group in enumerate(found.groups) for row in _copies(at, group)]):
        yield explore_pb2.FindDuplicatesReply(rows=explore_pb2.DuplicateRows(rows=part))
    for pairs in _parts(found.pairs):
        messages = [
            explore_pb2.NearPair(first=pair.first, second=pair.second, score=pair.score) for pair in pairs
        ]
        yield explore_pb2.FindDuplicatesReply(pairs=explore_pb2.NearPairs(pairs=messages))


def outliers_to(found: Outliers) -> Iterator[explore_pb2.FindOutliersReply]:
    """The summary, the rows."""
    yield explore_pb2.FindOutliersReply(
        summary=explore_pb2.OutliersSummary(
            explored=_explored(found), neighbours=found.neighbours, usual=found.usual
        )
    )
    for part in _parts(found.outliers):
        rows = explore_pb2.OutlierRows(rows=[_outlier(outlier) for outlier in part])
        yield explore_pb2.FindOutliersReply(rows=rows)


def clusters_to(found: Clusters) -> Iterator[explore_pb2.FindClustersReply]:
    """The summary with the clusters, and which one each row is in."""
    yield explore_pb2.FindClustersReply(
        summary=explore_pb2.ClustersSummary(
            explored=_explored(found),
            chosen=found.chosen,
            silhouette=found.silhouette,
            clusters=[_cluster(cluster) for cluster in found.clusters],
        )
    )
    for start in range(0, found.rows, _ROWS):
        rows = explore_pb2.ClusterRows(
            ids=found.ids[start : start + _ROWS].to_pylist(),
            clusters=found.numbers[start : start + _ROWS].tolist(),
        )
        yield explore_pb2.FindClustersReply(rows=rows)


def map_to(found: Map) -> Iterator[explore_pb2.DrawMapReply]:
    """The summary, the points."""
    yield explore_pb2.DrawMapReply(
        summary=explore_pb2.MapSummary(
            explored=_explored(found),
            method=found.method,
            explained=found.explained or (),
            points=len(found.points),
        )
    )
    for start in range(0, len(found.points), _ROWS):
        part = slice(start, start + _ROWS)
        yield explore_pb2.DrawMapReply(
            points=explore_pb2.MapPoints(
                rows=[_row(point) for point in found.points[part]],
                x=found.places[part, 0].tolist(),
                y=found.places[part, 1].tolist(),
                clusters=found.clusters[part].tolist(),
            )
        )


def _explored(found: Duplicates | Outliers | Clusters | Map) -> explore_pb2.Explored:
    return explore_pb2.Explored(
        collection=found.collection,
        collection_version=found.version,
        space_id=found.space_id,
        metric=found.metric,
        rows=found.rows,
    )


def _row(seen: Seen) -> explore_pb2.ExploredRow:
    label = seen.label
    return explore_pb2.ExploredRow(
        id=seen.id,
        label=None if isinstance(label, tuple) else label,
        labels=common_pb2.Labels(labels=label) if isinstance(label, tuple) else None,
        split=seen.split,
        source=seen.source,
        size=seen.size,
    )


def _copies(number: int, group: Group) -> Iterator[explore_pb2.DuplicateRow]:
    for copy in group.copies:
        yield explore_pb2.DuplicateRow(row=_row(copy.row), group=number, like=copy.like, score=copy.score)


def _outlier(outlier: Outlier) -> explore_pb2.OutlierRow:
    return explore_pb2.OutlierRow(
        row=_row(outlier.row),
        distance=outlier.distance,
        times=outlier.times,
        reason=outlier.reason,
        nearest=_row(outlier.nearest),
        nearest_distance=outlier.nearest_distance,
    )


def _cluster(cluster: Cluster) -> explore_pb2.ClusterInfo:
    return explore_pb2.ClusterInfo(
        rows=cluster.rows,
        cohesion=cluster.cohesion,
        representatives=[_row(row) for row in cluster.representatives],
        labels=[collections_pb2.LabelCount(label=name, rows=rows) for name, rows in cluster.labels],
        labelled=cluster.labelled,
    )


def _parts(entries: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(entries), _ROWS):
        yield entries[start : start + _ROWS]
