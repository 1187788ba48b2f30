"""k-means by matrix products of numpy, some ten times as fast as FAISS's own where its BLAS is slow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled, InvalidArgument
from trunkline_service.index.workers import Workers

# Products of a block with the centroids that are held at a time: 16 MiB, which stay near the processor.
_BLOCK_PRODUCTS = 1 << 22
_MOST_BLOCK_ROWS = 16_384
# Multiply-adds: some milliseconds.
_WORTH_A_THREAD = 100_000_000
# Up to so many, first centroids are drawn far from one another (k-means++), which costs a pass for each.
_DRAWN_APART = 256


def fit_centroids(
    vectors: NDArray[np.float32],
    count: int,
    *,
    metric: str,
    iterations: int = 10,
    sample_per_centroid: int = 64,
    seed: int = 0,
    cancelled: Callable[[], bool] = lambda: False,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Centroids of a sample of the vectors, by Lloyd's iterations; the same seed gives the same ones.

    For ``cosine`` they are of length 1 (spherical k-means). For ``dot``, which is no distance, they are
    those of ``euclidean``. A cluster that runs empty is put on a row that is
    far from its own.

    Args:
        vectors: Finite float32 (N, dim), prepared (`metric.prepared`); may be memory-mapped.
        count: Of centroids, 1..N.
        metric: Of the vectors.
        iterations: The most; fewer where nothing moves any more.
        sample_per_centroid: Rows to look at, times ``count``.
        seed: Of the sample and the first centroids.
        cancelled: Asked often; true ends it.
        threads: To share the rows out among; None for those that BLAS uses by itself, which take long where
            something else runs beside them.

    Returns:
        float32 (count, dim).

    Raises:
        InvalidArgument: ``count`` that can't be.
        Cancelled: It was cancelled.
    """
    if not 1 <= count <= len(vectors):
        raise InvalidArgument(
            f"{count} centroids were asked for {len(vectors)} vectors; ask for 1 to as many"
        )
    rng = np.random.default_rng(seed)
    sample = _sampled(vectors, max(1, sample_per_centroid) * count, rng)
    centroids = _first(sample, count, rng, cancelled)
    assigned: NDArray[np.int32] | None = None
    for _ in range(iterations):
        nearest, scores = _nearest(sample, centroids, metric, cancelled, threads)
        if assigned is not None and np.array_equal(nearest, assigned):
            break
        assigned = nearest
        centroids, empty = _means(sample, assigned, centroids, metric)
        # How far a row is from its centroid, as k-means++ weighs it: copies of one row don't draw a second one.
        far = 1 - scores if metric == "cosine" else scores**2
        _fill(centroids, empty, sample, far, rng)
    return centroids


def assign(
    vectors: NDArray[np.float32],
    centroids: NDArray[np.float32],
    *,
    metric: str,
    cancelled: Callable[[], bool] = lambda: False,
    threads: int | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The nearest centroid of each vector; of equal ones any.

    Args:
        vectors: Finite float32 (N, dim), prepared; may be memory-mapped.
        centroids: float32 (count, dim), of `fit_centroids` with the same metric.
        metric: Of the vectors.
        cancelled: Asked often; true ends it.
        threads: To share the rows out among; None for those that BLAS uses by itself, which take long where
            something else runs beside them.

    Returns:
        Its position, int32 (N,), and how near it is, float32 (N,): the cosine, or for the other metrics minus
        the distance.

    Raises:
        Cancelled: It was cancelled.
    """
    return _nearest(vectors, centroids, metric, cancelled, threads)


def _sampled(vectors: NDArray[np.float32], rows: int, rng: np.random.Generator) -> NDArray[np.float32]:
    if rows >= len(vectors):
        return np.ascontiguousarray(vectors, np.float32)
    # In order, so that a file is read forwards.
    return np.ascontiguousarray(
        vectors[np.sort(rng.choice(len(vectors), rows, replace=False))], dtype=np.float32
    )


def _first(
    sample: NDArray[np.float32], count: int, rng: np.random.Generator, cancelled: Callable[[], bool]
) -> NDArray[np.float32]:
    if count > _DRAWN_APART:
        return sample[rng.choice(len(sample), count, replace=False)]
    # Shifted, so that squares of large coordinates don't drown small distances.
    moved = sample - sample.mean(axis=0)
    squares = np.einsum("ij,ij->i", moved, moved)
    chosen = [int(rng.integers(len(sample)))]
    apart = np.full(len(sample), np.inf, np.float32)
    for _ in range(count - 1):
        _stop_if(cancelled)
        last = chosen[-1]
        np.minimum(apart, squares - 2 * (moved @ moved[last]) + squares[last], out=apart)
        np.maximum(apart, 0, out=apart)
        apart[last] = 0
        share = np.cumsum(apart, dtype=np.float64)
        if share[-1] > 0:
            chosen.append(int(np.searchsorted(share, rng.random() * share[-1], side="right")))
        else:
            chosen.append(int(rng.integers(len(sample))))
    return sample[np.minimum(chosen, len(sample) - 1)]


def _nearest(
    vectors: NDArray[np.float32],
    centroids: NDArray[np.float32],
    metric: str,
    cancelled: Callable[[], bool],
    threads: int | None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    assigned = np.empty(len(vectors), np.int32)
    scores = np.empty(len(vectors), np.float32)
    rows = max(1, min(_MOST_BLOCK_ROWS, _BLOCK_PRODUCTS // len(centroids)))
    # Nearest by distance is largest by x.c - |c|^2/2; shifted to the middle, where that is most precise.
    middle = None if metric == "cosine" else centroids.mean(axis=0)
    turned = np.ascontiguousarray((centroids if middle is None else centroids - middle).T)
    halves = np.einsum("ij,ij->j", turned, turned) / 2

    def run(first: int, end: int) -> None:
        products = np.empty((min(rows, end - first), len(centroids)), np.float32)
        for start in range(first, end, rows):
            _stop_if(cancelled)
            part = slice(start, min(start + rows, end))
            block = np.asarray(vectors[part], np.float32)
            out = products[: len(block)]
            np.matmul(block if middle is None else block - middle, turned, out=out)
            if middle is not None:
                out -= halves
            best = out.argmax(axis=1)
            assigned[part] = best
            if middle is None:
                scores[part] = np.clip(out[np.arange(len(block)), best], -1.0, 1.0)
            else:
                apart = block - centroids[best]
                scores[part] = -np.sqrt(np.einsum("ij,ij->i", apart, apart))

    if threads is None:
        run(0, len(vectors))
    else:
        workers = Workers(threads)
        try:
            workers.shared_out(len(vectors), _WORTH_A_THREAD // centroids.size, run)
        finally:
            workers.close()
    return assigned, scores


def _means(
    sample: NDArray[np.float32], assigned: NDArray[np.int32], centroids: NDArray[np.float32], metric: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The middle of each cluster, and which clusters are empty; the centroids of those stay."""
    from scipy import sparse

    count = len(centroids)
    ones = np.ones(len(sample), np.float64)
    members = sparse.csr_matrix((ones, (assigned, np.arange(len(sample)))), shape=(count, len(sample)))
    sums = np.asarray(members @ sample, np.float64)
    sizes = np.bincount(assigned, minlength=count)
    if metric == "cosine":
        lengths = np.sqrt(np.einsum("ij,ij->i", sums, sums))
        sums /= np.where(lengths > 0, lengths, 1.0)[:, None]
    else:
        sums /= np.maximum(sizes, 1)[:, None]
    sums[sizes == 0] = centroids[sizes == 0]
    return sums.astype(np.float32), np.flatnonzero(sizes == 0)


def _fill(
    centroids: NDArray[np.float32],
    empty: NDArray[np.int64],
    sample: NDArray[np.float32],
    far: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Puts centroids of empty clusters on rows that are far from their own."""
    weights = np.maximum(far, 0).astype(np.float64)
    size = min(len(empty), int(np.count_nonzero(weights)))
    if size:
        rows = rng.choice(len(sample), size, replace=False, p=weights / weights.sum())
        centroids[empty[:size]] = sample[rows]


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("the work was cancelled; nothing was kept")
