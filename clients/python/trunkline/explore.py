"""What a whole collection holds: near duplicates, outliers, clusters, a map."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trunkline.rows import Label


@dataclass(frozen=True)
class ExploredRow:
    """A row as people look at it.

    Attributes:
        id: The key.
        label: The class or classes that people gave it, or None.
        split: ``train``, ``test`` and the like, or None.
        source: Where its bytes came from; empty where unknown.
        size: Bytes of the source, of duplicates; else None.
    """

    id: str
    label: Label = None
    split: str | None = None
    source: str = ""
    size: int | None = None


@dataclass(frozen=True)
class Explored:
    """What was read, and how it was compared.

    Attributes:
        collection: Its name.
        version: That was read.
        space_id: Of its vectors.
        metric: ``"cosine"`` or ``"euclidean"``.
        rows: That were compared.
    """

    collection: str
    version: int
    space_id: str
    metric: str
    rows: int


@dataclass(frozen=True)
class DuplicateRow:
    """A row of a group of near duplicates.

    Attributes:
        row: The row.
        like: Id of the row to keep that it is nearest to; None for one to keep.
        score: How near it is to that: a cosine, or minus a distance. None for one to keep.
    """

    row: ExploredRow
    like: str | None = None
    score: float | None = None

    @property
    def keep(self) -> bool:
        """Whether to keep it."""
        return self.like is None


@dataclass(frozen=True)
class DuplicateGroup:
    """Rows that near-duplicate pairs join, directly or through others.

    Attributes:
        rows: Those to keep first. Each of the others is at least as near to one of these as the threshold.
    """

    rows: tuple[DuplicateRow, ...]

    @cached_property
    def labels_differ(self) -> bool:
        """Whether rows of it have different labels, of which all but one are wrong."""
        return len({found.row.label for found in self.rows if found.row.label is not None}) > 1

    @cached_property
    def splits_differ(self) -> bool:
        """Whether it lies on both sides of a split, so that figures of the test rows flatter."""
        return len({found.row.split for found in self.rows if found.row.split is not None}) > 1


@dataclass(frozen=True)
class DuplicatePair:
    """Two rows that are nearly the same.

    Attributes:
        first: Id of one.
        second: Id of the other.
        score: How near they are.
    """

    first: str
    second: str
    score: float


@dataclass(frozen=True)
class Duplicates(Explored):
    """The near duplicates of a collection.

    Attributes:
        threshold: The least score of a pair.
        pair_count: Pairs found.
        pairs: The nearest of them, at most 10,000, nearest first.
        groups: The largest first.
        exact: Whether all rows were compared with all.
        recall: Where not, the share of pairs that was found, of those of a sample of rows that were compared
            with all; None where it is exact, or the sample has no pairs.
        recall_pairs: Of how many pairs that was measured.
    """

    threshold: float
    pair_count: int
    pairs: tuple[DuplicatePair, ...] = field(repr=False)
    groups: tuple[DuplicateGroup, ...] = field(repr=False)
    exact: bool = True
    recall: float | None = None
    recall_pairs: int = 0

    @cached_property
    def ids_to_delete(self) -> list[str]:
        """Ids of the rows that are not to be kept, also of groups whose labels differ."""
        return [found.row.id for group in self.groups for found in group.rows if not found.keep]


@dataclass(frozen=True)
class Outlier:
    """A row that is far from all others.

    Attributes:
        row: The row.
        distance: To its k-th neighbour: one minus the cosine, or the Euclidean distance.
        times: How many times the usual distance that is.
        reason: In words.
        nearest: The nearest other row.
        nearest_distance: How far that is.
    """

    row: ExploredRow
    distance: float
    times: float
    reason: str
    nearest: ExploredRow
    nearest_distance: float


@dataclass(frozen=True)
class Outliers(Explored):
    """The rows of a collection that are least like the others.

    Attributes:
        neighbours: Which neighbour's distance counts.
        usual: The median of that distance.
        outliers: The furthest first.
    """

    neighbours: int
    usual: float
    outliers: tuple[Outlier, ...] = field(repr=False)


@dataclass(frozen=True)
class Cluster:
    """Rows that are near one another.

    Attributes:
        number: From 0, the largest cluster first.
        rows: How many it has.
        cohesion: The mean cosine of its rows with its centre, or minus their mean distance to it.
        representatives: The row in its middle first, then rows that show how much they vary.
        labels: Rows by label, the most frequent ones first.
        labelled: Its rows that have a label.
    """

    number: int
    rows: int
    cohesion: float
    representatives: tuple[ExploredRow, ...]
    labels: dict[str, int] = field(hash=False)
    labelled: int = 0


@dataclass(frozen=True, eq=False)
class Clusters(Explored):
    """The clusters of a collection.

    Attributes:
        chosen: Whether their number was chosen by the server.
        silhouette: How far apart they are, -1 to 1; None for one cluster.
        clusters: The largest first.
        ids: Of all rows.
        numbers: int64 (N,), the cluster of each of them.
    """

    chosen: bool
    silhouette: float | None
    clusters: tuple[Cluster, ...]
    ids: list[str] = field(repr=False)
    numbers: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Map(Explored):
    """Rows as points of a plane: what is alike lies near each other.

    Attributes:
        method: ``"pca"`` or ``"umap"``.
        explained: Of ``"pca"``, the share of the variance along each axis; else None.
        points: The rows that are shown: all, or a sample of them.
        places: float32 (n, 2), to the right and upwards.
        clusters: int64 (n,), the cluster of each point, the largest first, from 0.
    """

    method: str
    explained: tuple[float, float] | None
    points: tuple[ExploredRow, ...] = field(repr=False)
    places: NDArray[np.float32] = field(repr=False)
    clusters: NDArray[np.int64] = field(repr=False)
