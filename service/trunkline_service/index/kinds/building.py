"""Approximate structures from vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled, InvalidArgument
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.kinds.faiss_search import faiss_metric, library, openmp_threads
from trunkline_service.index.kinds.hnsw import Hnsw
from trunkline_service.index.kinds.ivf import Ivf, centroids_of, members_of
from trunkline_service.index.kinds.kmeans import assign, fit_centroids
from trunkline_service.index.kinds.spread import spread_of
from trunkline_service.index.options import IndexKind
from trunkline_service.index.workers import Workers

Progress = Callable[[str, float], None]

_ADDED_AT_ONCE = 16_384
# A row is linked in up to milliseconds, and nobody can be told to stop within a block.
_LINKED_AT_ONCE = 1024
_CODE_SAMPLE = 65_536
_CODES = 256


def build(
    kind: IndexKind,
    vectors: NDArray[np.float32],
    *,
    metric: str,
    parameters: dict[str, int],
    progress: Progress,
    cancelled: Callable[[], bool],
    threads: int,
) -> Approximate:
    """Builds one.

    Args:
        kind: ``hnsw``, ``ivf_flat``, ``ivf_sq8`` or ``ivf_pq``.
        vectors: Finite float32 (N, dim), prepared; may be memory-mapped. The result keeps them.
        metric: Of the vectors.
        parameters: ``M`` and ``efConstruction`` of HNSW; ``nlist`` of IVF, ``k_factor`` of what is
            compressed, and ``m`` of product codes, which divides dim.
        progress: Told a phase and the share of it that is done, 0..1.
        cancelled: Asked often; true ends it.
        threads: The most that FAISS uses.

    Raises:
        InvalidArgument: A kind or parameters that can't be for these vectors.
        Cancelled: It was cancelled.
    """
    if kind not in ("hnsw", "ivf_flat", "ivf_sq8", "ivf_pq"):
        raise InvalidArgument(f"no structure is built for an index of kind {kind!r}")
    with openmp_threads(max(1, threads)):
        if kind == "hnsw":
            return _hnsw(vectors, metric, parameters, progress, cancelled)
        return _ivf(kind, vectors, metric, parameters, progress, cancelled, threads)


def _hnsw(
    vectors: NDArray[np.float32],
    metric: str,
    parameters: dict[str, int],
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Hnsw:
    faiss = library()

    index = faiss.IndexHNSWFlat(vectors.shape[1], parameters["M"], faiss_metric(metric))
    index.hnsw.efConstruction = parameters["efConstruction"]
    for block in _blocks(vectors, _LINKED_AT_ONCE, "linking", progress, cancelled):
        index.add(np.ascontiguousarray(vectors[block]))
    return Hnsw(index, vectors, metric, parameters)


def _ivf(
    kind: IndexKind,
    vectors: NDArray[np.float32],
    metric: str,
    parameters: dict[str, int],
    progress: Progress,
    cancelled: Callable[[], bool],
    threads: int,
) -> Ivf:
    faiss = library()

    progress("clustering", 0.0)
    centroids = fit_centroids(
        vectors,
        parameters["nlist"],
        metric=metric,
        iterations=6,
        sample_per_centroid=32,
        cancelled=cancelled,
        threads=threads,
    )
    progress("clustering", 1.0)
    quantizer = faiss.IndexFlat(vectors.shape[1], faiss_metric(metric))
    quantizer.add(centroids)
    index = _empty(kind, quantizer, vectors.shape, metric, parameters)
    nearest = partial(assign, centroids=centroids, metric=metric, cancelled=cancelled, threads=threads)
    if kind != "ivf_flat":
        progress("learning codes", 0.0)
        _learn_codes(kind, index, _left_over(vectors, centroids, nearest), threads, cancelled)
        progress("learning codes", 1.0)
    index.is_trained = True
    for block in _blocks(vectors, _ADDED_AT_ONCE, "adding", progress, cancelled):
        rows = np.ascontiguousarray(vectors[block])
        lists = nearest(rows)[0].astype(np.int64)
        index.add_core(len(rows), faiss.swig_ptr(rows), None, faiss.swig_ptr(lists))
    progress("measuring lists", 0.0)
    spread = spread_of(vectors, members_of(index), centroids_of(index), metric, cancelled)
    progress("measuring lists", 1.0)
    return Ivf(kind, index, vectors, metric, parameters, spread)


def _empty(
    kind: IndexKind, quantizer: Any, shape: tuple[int, ...], metric: str, parameters: dict[str, int]
) -> Any:
    faiss = library()

    rows, dim = shape
    common = (quantizer, dim, parameters["nlist"])
    if kind == "ivf_flat":
        return faiss.IndexIVFFlat(*common, faiss_metric(metric))
    if kind == "ivf_sq8":
        return faiss.IndexIVFScalarQuantizer(*common, faiss.ScalarQuantizer.QT_8bit, faiss_metric(metric))
    if dim % parameters["m"]:
        raise InvalidArgument(f"m of ivf_pq is {parameters['m']}; it must divide the dimension, {dim}")
    if rows < _CODES:
        raise InvalidArgument(f"ivf_pq needs {_CODES} vectors or more; there are {rows}")
    return faiss.IndexIVFPQ(*common, parameters["m"], 8, faiss_metric(metric))


def _left_over(
    vectors: NDArray[np.float32],
    centroids: NDArray[np.float32],
    nearest: Callable[[NDArray[np.float32]], tuple[NDArray[np.int32], NDArray[np.float32]]],
) -> NDArray[np.float32]:
    """Of a sample, what codes are of: what is left of a vector beside its centroid."""
    chosen = np.arange(len(vectors))
    if len(vectors) > _CODE_SAMPLE:
        chosen = np.sort(np.random.default_rng(0).choice(len(vectors), _CODE_SAMPLE, replace=False))
    sample = np.ascontiguousarray(vectors[chosen])
    rest: NDArray[np.float32] = sample - centroids[nearest(sample)[0]]
    return rest


def _learn_codes(
    kind: IndexKind, index: Any, rest: NDArray[np.float32], threads: int, cancelled: Callable[[], bool]
) -> None:
    faiss = library()

    if kind == "ivf_sq8":
        index.train_encoder(len(rest), faiss.swig_ptr(rest), None)
        return
    width = index.d // index.pq.M
    learnt = np.empty((index.pq.M, _CODES, width), np.float32)

    # FAISS's own learning shares out thousands of small products, and waits for each.
    def learn(first: int, end: int) -> None:
        for code in range(first, end):
            piece = np.ascontiguousarray(rest[:, code * width : (code + 1) * width])
            learnt[code] = fit_centroids(piece, _CODES, metric="euclidean", cancelled=cancelled, threads=1)

    workers = Workers(threads)
    try:
        workers.shared_out(len(learnt), 1, learn)
    finally:
        workers.close()
    faiss.copy_array_to_vector(learnt.ravel(), index.pq.centroids)


def _blocks(
    vectors: NDArray[np.float32], rows: int, phase: str, progress: Progress, cancelled: Callable[[], bool]
) -> Iterator[slice]:
    for start in range(0, len(vectors), rows):
        if cancelled():
            raise Cancelled("the build of the index was cancelled; nothing was kept")
        progress(phase, start / len(vectors))
        yield slice(start, start + rows)
    progress(phase, 1.0)
