"""A map: rows as points of a plane, such that rows that are alike lie near each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument, MissingExtra
from trunkline_service.explore.clusters import part
from trunkline_service.explore.live import Live, Seen, Told
from trunkline_service.index.workers import Workers

Method: TypeAlias = Literal["pca", "umap"]

MOST_POINTS = 100_000
"""Points that a map can have."""

DEFAULT_POINTS = 20_000
"""Of more rows a map shows a sample."""

_BLOCK_ROWS = 16_384


@dataclass(frozen=True, eq=False)
class Map:
    """Rows as points of a plane.

    Attributes:
        collection: Its name.
        version: That was read.
        space_id: Of its vectors.
        metric: ``cosine`` or ``euclidean``.
        method: What placed them.
        rows: How many there are; the map has as many points, or a sample of them.
        explained: Of ``pca``: the share of the variance that lies along each axis. None for others.
        points: The rows that are shown.
        places: float32 (n, 2), x to the right and y upwards, as large as the method gives them; less by a
            power of two where that is more than float32 holds.
        clusters: int32 (n,), the cluster of each point, the largest first, from 0.
    """

    collection: str
    version: int
    space_id: str
    metric: str
    method: Method
    rows: int
    explained: tuple[float, float] | None
    points: tuple[Seen, ...]
    places: NDArray[np.float32]
    clusters: NDArray[np.int32]


def draw_map(
    live: Live,
    method: Method = "pca",
    *,
    points: int = DEFAULT_POINTS,
    clusters: int | None = None,
    seed: int = 0,
    workers: Workers | None = None,
    told: Told = lambda _stage, _share: None,
) -> Map:
    """Places rows in a plane.

    Args:
        live: The rows.
        method: ``pca`` (the plane of the largest variance, of all rows) or ``umap`` (neighbours stay
            neighbours; of the rows that are shown).
        points: The most that are shown; of more rows a random sample is.
        clusters: How many to colour by; None to choose.
        seed: Of what is random.
        workers: Threads; None for the caller's alone.
        told: How far it is.

    Raises:
        InvalidArgument: A method or a number that can't be.
        MissingExtra: ``umap`` is not installed.
        NotEnoughData: No rows.
    """
    if method not in get_args(Method):
        raise InvalidArgument(f"method is {method!r}; it can be 'pca' or 'umap'")
    if not 1 <= points <= MOST_POINTS:
        raise InvalidArgument(f"points is {points}; a map has 1 to {MOST_POINTS:,}")
    rows = len(live)
    if not rows:
        raise live.too_few("a map takes at least one")
    if clusters is not None and not 1 <= clusters <= min(rows, points):
        raise InvalidArgument(
            f"clusters is {clusters}; {min(rows, points):,} points make 1 to {min(rows, points):,}"
        )
    shown = np.arange(rows)
    if rows > points:
        shown = np.sort(np.random.default_rng(seed).choice(rows, points, replace=False))
    vectors = live.vectors if len(shown) == rows else live.vectors[shown]
    explained: tuple[float, float] | None = None
    if method == "pca":
        places, explained = _pca(live.vectors, vectors, told)
        places = _enlarged(places, live.unit)
    else:
        places = _umap(vectors, live.compared, seed, told)
    numbers, centroids, _ = part(vectors, live.compared, clusters, seed=seed, workers=workers, told=told)
    ranks = np.empty(len(centroids), np.int32)
    ranks[np.argsort(-np.bincount(numbers, minlength=len(centroids)), kind="stable")] = np.arange(
        len(centroids)
    )
    return Map(
        live.name,
        live.version,
        live.spec.space_id,
        live.compared,
        method,
        rows,
        explained,
        tuple(live.seen(shown)),
        places,
        ranks[numbers],
    )


def _pca(
    vectors: NDArray[np.float32], shown: NDArray[np.float32], told: Told
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Places (n, 2) of some rows in the plane of the largest variance of all, and the shares of it."""
    told("placing", 0.0)
    middle = vectors.mean(axis=0, dtype=np.float64)
    spread = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), _BLOCK_ROWS):
        told("placing", start / len(vectors))
        block = (vectors[start : start + _BLOCK_ROWS] - middle).astype(np.float32)
        spread += block.T @ block
    values, axes = np.linalg.eigh(spread)
    # eigh's values rise; in one dimension there is no second axis.
    two = axes[:, ::-1][:, :2]
    if two.shape[1] < 2:
        two = np.concatenate([two, np.zeros((len(two), 1))], axis=1)
    # An axis and its opposite are alike: its largest part is made positive, so that a map stays as it was.
    largest = np.abs(two).argmax(axis=0)
    two = two * np.where(two[largest, [0, 1]] < 0, -1.0, 1.0)
    total = max(float(np.maximum(values, 0).sum()), np.finfo(np.float64).tiny)
    shares = [*(np.maximum(values[::-1][:2], 0) / total).tolist(), 0.0]
    places = np.empty((len(shown), 2), np.float32)
    for start in range(0, len(shown), _BLOCK_ROWS):
        places[start : start + _BLOCK_ROWS] = (shown[start : start + _BLOCK_ROWS] - middle) @ two
    told("placing", 1.0)
    return places, (shares[0], shares[1])


def _enlarged(places: NDArray[np.float32], unit: float) -> NDArray[np.float32]:
    """Places times a power of two, or the largest lower one that float32 has room for."""
    largest = math.frexp(float(np.abs(places).max(initial=0)))[1]
    power = math.frexp(unit)[1] - 1
    return np.ldexp(places, min(power, np.finfo(np.float32).maxexp - largest))


def _umap(vectors: NDArray[np.float32], compared: str, seed: int, told: Told) -> NDArray[np.float32]:
    """Places (n, 2) by UMAP (McInnes 2018); of fewer than five rows by PCA, which it can't place."""
    try:
        from umap import UMAP
    except ImportError as exc:
        raise MissingExtra("--method umap needs UMAP: pip install 'trunkline[server,map]'") from exc
    if len(vectors) < 5:
        return _pca(vectors, vectors, told)[0]
    told("placing", 0.0)
    reducer = UMAP(
        n_components=2,
        n_neighbors=min(15, len(vectors) - 1),
        min_dist=0.1,
        metric=compared,
        random_state=seed,
        # With a seed it works in one thread anyway, and warns where it is not told so.
        n_jobs=1,
    )
    places: NDArray[np.float32] = np.asarray(reducer.fit_transform(vectors), np.float32)
    told("placing", 1.0)
    return places
