"""Clusters: what kinds of images there are, whatever their labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.rows import Label
from trunkline_service.errors import InvalidArgument
from trunkline_service.explore.live import Live, Seen, Told
from trunkline_service.index.kinds.kmeans import assign, fit_centroids
from trunkline_service.index.workers import Workers

MOST_CLUSTERS = 1000
"""Clusters that can be asked for."""

REPRESENTATIVES = 8
"""Rows that stand for a cluster."""

_TRIED = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64)
_SAMPLE = 3000
_FIT_ROWS, _ITERATIONS = 50_000, 20
# While their number is being chosen, on the sample alone.
_TRIED_ITERATIONS = 8
# Many clusters have many ways to be as good; few have few.
_STARTS, _FEW = 4, 16
# A cluster of fewer rows than that, on average, is none worth choosing.
_ROWS_PER_CLUSTER = 8
_CORE = 0.5
_LABELS = 5

Centroids = NDArray[np.float32]


@dataclass(frozen=True)
class Cluster:
    """Rows that are near one another.

    Attributes:
        number: From 0, the largest cluster first; what `Clusters.numbers` says.
        rows: How many it has.
        cohesion: Of its rows with its centre: the mean cosine, or for ``euclidean`` minus the mean distance.
        representatives: The row in its middle first (the medoid), then rows that show how much they vary.
        labels: Rows by label, the most frequent ones; of a multi-label collection, a row counts for each label.
        labelled: Rows of it that have a label.
    """

    number: int
    rows: int
    cohesion: float
    representatives: tuple[Seen, ...]
    labels: tuple[tuple[str, int], ...]
    labelled: int


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters of a collection.

    Attributes:
        collection: Its name.
        version: That was read.
        space_id: Of its vectors.
        metric: ``cosine`` or ``euclidean``.
        rows: In all clusters.
        chosen: Whether their number was chosen here, rather than given.
        silhouette: How far apart they are, -1 to 1, over a sample of rows; None for one cluster.
        clusters: The largest first.
        ids: Of all rows; Arrow large-string array of N.
        numbers: int32 (N,), the cluster of each row.
    """

    collection: str
    version: int
    space_id: str
    metric: str
    rows: int
    chosen: bool
    silhouette: float | None
    clusters: tuple[Cluster, ...]
    ids: Any
    numbers: NDArray[np.int32]


def find_clusters(
    live: Live,
    count: int | None = None,
    *,
    seed: int = 0,
    workers: Workers | None = None,
    told: Told = lambda _stage, _share: None,
) -> Clusters:
    """Parts the rows by k-means.

    Args:
        live: The rows.
        count: Of clusters; None to choose 2 to 64 by the mean silhouette of a sample.
        seed: Of what is random; the same gives the same clusters.
        workers: Threads; None for the caller's alone.
        told: How far it is.

    Raises:
        InvalidArgument: A count that can't be.
        NotEnoughData: No rows.
    """
    rows = len(live)
    if not rows:
        raise live.too_few("clusters take at least one")
    if count is not None and not 1 <= count <= min(MOST_CLUSTERS, rows):
        raise InvalidArgument(
            f"count is {count}; {rows:,} rows make 1 to {min(MOST_CLUSTERS, rows):,} clusters"
        )
    numbers, centroids, silhouette = part(
        live.vectors, live.compared, count, seed=seed, workers=workers, told=told
    )
    order, numbers = _by_size(numbers, len(centroids))
    found = []
    for number, centroid in enumerate(centroids[order]):
        told("describing", number / len(order))
        found.append(_cluster(live, number, np.flatnonzero(numbers == number), centroid))
    told("describing", 1.0)
    return Clusters(
        live.name,
        live.version,
        live.spec.space_id,
        live.compared,
        rows,
        count is None,
        silhouette,
        tuple(found),
        live.ids,
        numbers,
    )


def counts_tried(rows: int) -> tuple[int, ...]:
    """The numbers of clusters that are tried for so many rows, where none is given; rising, at least one."""
    return tuple(k for k in _TRIED if k * _ROWS_PER_CLUSTER <= rows) or (1,)


def part(
    vectors: NDArray[np.float32],
    compared: str,
    count: int | None,
    *,
    seed: int = 0,
    workers: Workers | None = None,
    told: Told = lambda _stage, _share: None,
) -> tuple[NDArray[np.int32], Centroids, float | None]:
    """The cluster of each row, int32 (N,), the centroids (K, dim), and the silhouette; K may be less than asked.

    Args:
        vectors: float32 (N, dim), N at least 1, of length 1 for ``cosine``.
        compared: ``cosine`` or ``euclidean``.
        count: Of clusters; None to choose.
        seed: Of what is random.
        workers: Threads; None for the caller's alone.
        told: How far it is.
    """
    threads = (workers or Workers(1)).threads
    sample = vectors[_drawn(len(vectors), _SAMPLE, seed)]
    apart = _distances(sample, compared)

    def fitted(rows: NDArray[np.float32], k: int, iterations: int, share: float) -> Centroids:
        def still_wanted() -> bool:
            told("clustering", share)
            return False

        # k-means ends in a corner now and then: of several starts the tightest is taken.
        starts = [
            fit_centroids(
                rows,
                k,
                metric=compared,
                iterations=iterations,
                sample_per_centroid=max(1, _FIT_ROWS // k),
                seed=seed + start,
                cancelled=still_wanted,
                threads=threads,
            )
            for start in range(_STARTS if k <= _FEW else 1)
        ]
        return max(starts, key=tightness)

    def tightness(centroids: Centroids) -> float:
        scores = assign(sample, centroids, metric=compared, threads=threads)[1]
        return float(-(scores**2).mean() if compared == "euclidean" else scores.mean())

    def silhouette(centroids: Centroids) -> float | None:
        return silhouette_of(apart, assign(sample, centroids, metric=compared, threads=threads)[0])

    if count is None:
        counts = counts_tried(len(vectors))
        found = [
            silhouette(fitted(sample, k, _TRIED_ITERATIONS, at / len(counts))) for at, k in enumerate(counts)
        ]
        count = counts[int(np.argmax([-1.0 if one is None else one for one in found]))]
    centroids = fitted(vectors, count, _ITERATIONS, 1.0)
    told("assigning", 0.0)
    numbers, _ = assign(vectors, centroids, metric=compared, threads=threads)
    used, places = np.unique(numbers, return_inverse=True)
    return places.astype(np.int32), centroids[used], silhouette(centroids)


def silhouette_of(distances: NDArray[np.float32], own: NDArray[np.int32]) -> float | None:
    """The mean silhouette (Rousseeuw 1987) of n rows, -1 to 1; None where there is one cluster.

    Args:
        distances: float32 (n, n).
        own: int32 (n,), the cluster of each row.
    """
    used, places = np.unique(own, return_inverse=True)
    if len(used) < 2:
        return None
    rows = np.arange(len(own))
    members = np.zeros((len(own), len(used)), np.float32)
    members[rows, places] = 1
    sizes = members.sum(axis=0)
    sums = distances @ members
    others = sizes[places] - 1
    within = sums[rows, places] / np.maximum(others, 1)
    means = sums / sizes
    means[rows, places] = np.inf
    beyond = means.min(axis=1)
    longer = np.maximum(within, beyond)
    # A row that is alone in its cluster counts as 0.
    silhouettes = np.where(
        (others > 0) & (longer > 0), (beyond - within) / np.where(longer > 0, longer, 1), 0
    )
    return float(silhouettes.mean())


def _distances(rows: NDArray[np.float32], compared: str) -> NDArray[np.float32]:
    products: NDArray[np.float32] = rows @ rows.T
    if compared != "euclidean":
        far: NDArray[np.float32] = np.maximum(np.float32(1) - products, np.float32(0))
        return far
    squares = np.einsum("ij,ij->i", rows, rows)
    apart: NDArray[np.float32] = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0))
    return apart


def _drawn(rows: int, most: int, seed: int) -> NDArray[np.int64]:
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _by_size(numbers: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Which cluster comes first, second, ...; and the numbers by that order."""
    order = np.argsort(-np.bincount(numbers, minlength=count), kind="stable")
    place = np.empty(count, np.int32)
    place[order] = np.arange(count)
    return order, place[numbers]


def _cluster(live: Live, number: int, members: NDArray[np.int64], centroid: Centroids) -> Cluster:
    vectors = live.vectors[members]
    away = live.compared == "euclidean"
    scores = -np.linalg.norm(vectors - centroid, axis=1) if away else vectors @ centroid
    mix, labelled = label_mix(live.labels_of(members))
    chosen = members[representatives(vectors, scores)]
    return Cluster(
        number,
        len(members),
        float(live.measured(scores.mean())),
        tuple(live.seen(chosen)),
        mix[:_LABELS],
        labelled,
    )


def representatives(vectors: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Positions of rows that stand for n rows: the one in the middle, then others far from those before.

    Only the half that is nearest to the centre is taken from: what lies at the rim stands for nothing.

    Args:
        vectors: float32 (n, dim).
        scores: float32 (n,), how near each is to the centre.
    """
    core = np.argsort(-scores, kind="stable")[: max(REPRESENTATIVES, int(len(scores) * _CORE))]
    chosen = [0]
    apart = np.full(len(core), np.inf, np.float32)
    while len(chosen) < min(REPRESENTATIVES, len(core)):
        step = vectors[core] - vectors[core[chosen[-1]]]
        apart = np.minimum(apart, np.einsum("ij,ij->i", step, step))
        apart[chosen] = -1
        chosen.append(int(apart.argmax()))
    return core[chosen]


def label_mix(labels: list[Label]) -> tuple[tuple[tuple[str, int], ...], int]:
    """Rows by label, most frequent first, and how many rows have one."""
    given = [label for label in labels if label is not None]
    counts = Counter(name for label in given for name in (label if isinstance(label, tuple) else (label,)))
    return tuple(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))), len(given)
