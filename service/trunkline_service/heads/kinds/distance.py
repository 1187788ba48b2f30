"""How far an embedding is from the rows that a head learned from: the score behind "unknown".

A probabilistic PCA (Tipping & Bishop 1999, "Probabilistic Principal Component Analysis"): a full covariance
of hundreds of dimensions needs thousands of rows, one of a few directions and a common rest needs few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.network import Distance
from trunkline_service.heads.solver.moments import Moments, moments_by_fold
from trunkline_service.heads.solver.workers import workers

Rows = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
# More rows than this say nothing new about 64 directions and one variance.
_MOST_ROWS = 100_000
# A direction's variance is an estimate from this many rows at least.
_ROWS_A_DIRECTION = 5
# Of one row, no spread is known.
_LEAST_ROWS = 2
# Of the mean variance: no direction counts as narrower. Rows in a subspace would put all others infinitely far.
_FLOOR = 1e-3
# Extra directions and rounds of the subspace iteration (Halko et al. 2011).
_EXTRA, _ROUNDS = 8, 6
_FOLDS = 5
# Of float32, which the variances are kept in; squares of embeddings near 1e19 go beyond it.
_LARGEST = float(np.finfo(np.float32).max)


def fit_distance(embeddings: Rows, max_rank: int = 64, seed: int = 0) -> Distance:
    """The distance from these rows; any number of them, also fewer than dim.

    Args:
        embeddings: (N, dim) float32, finite; N at least 1.
        max_rank: Directions with a variance of their own, at most. Few rows have fewer.
        seed: Of the 100,000 rows that are used where there are more, and of the directions' start.
    """
    never = np.full(len(embeddings), -1)[_sampled(len(embeddings), seed)]
    return cross_fitted_distances(embeddings[_sampled(len(embeddings), seed)], never, None, max_rank, seed)[0]


def distance_quantiles(
    embeddings: Rows, assigned: npt.NDArray[np.int64] | None = None, max_rank: int = 64, seed: int = 0
) -> dict[str, float]:
    """What share of rows lies below which distance, over rows that the distance was not fitted on.

    Args:
        embeddings: (N, dim) float32; N at least 2.
        assigned: (N,) fold of each row, with duplicates in one fold, -1 for rows that are never held out;
            None for five random folds.
        max_rank: As for ``fit_distance``.
        seed: As for ``fit_distance``.

    Returns:
        ``{"0.5": ..., "0.9": ..., "0.95": ..., "0.99": ..., "0.999": ...}``; see ``quantiles_of``.
    """
    return fit_distance_and_quantiles(embeddings, assigned, max_rank, seed)[1]


def fit_distance_and_quantiles(
    embeddings: Rows, assigned: npt.NDArray[np.int64] | None = None, max_rank: int = 64, seed: int = 0
) -> tuple[Distance, dict[str, float]]:
    """``fit_distance`` and ``distance_quantiles`` from one pass over the rows."""
    if assigned is None:
        assigned = np.random.default_rng(seed).permutation(len(embeddings)) % min(_FOLDS, len(embeddings))
    chosen = _sampled(len(embeddings), seed)
    distance, held_out = cross_fitted_distances(embeddings[chosen], assigned[chosen], None, max_rank, seed)
    return distance, quantiles_of(held_out)


def cross_fitted_distances(
    embeddings: Rows,
    assigned: npt.NDArray[np.int64],
    normal: npt.NDArray[np.bool_] | None = None,
    max_rank: int = 64,
    seed: int = 0,
) -> tuple[Distance, Floats]:
    """The distance from all normal rows, and each row's distance from those of the other folds.

    Args:
        embeddings: (N, dim) float32.
        assigned: (N,) fold of each row, -1 for rows that are never held out.
        normal: (N,) the rows to measure from; None for all.
        max_rank: As for ``fit_distance``.
        seed: As for ``fit_distance``.

    Returns:
        The distance, and (N,) float64; NaN for rows that are never held out, and for those of a fold
        without which fewer than two remain.
    """
    folds = int(assigned.max(initial=-1)) + 1
    known = slice(None) if normal is None else normal
    held_out = np.full(len(embeddings), np.nan)

    def measure(fold: int, rest: _Spread) -> None:
        if rest.rows >= _LEAST_ROWS:
            mine = assigned == fold
            held_out[mine] = _distance(rest, max_rank, seed)(embeddings[mine])[:, 0]

    with workers() as (executor, _):
        *without, everything = _spreads(embeddings[known], assigned[known], folds, executor)
        served = executor.submit(_distance, everything, max_rank, seed)
        for _ in executor.map(measure, range(folds), without):
            pass
        return served.result(), held_out


def quantiles_of(values: Floats) -> dict[str, float]:
    """The quantiles of held-out values, by share; what is not finite is left out, and without others there are none.

    The share q of new rows lies below its value, on average over all draws of n rows: the value is the
    ceil(q (n + 1))-th smallest, as in conformal prediction. Few rows can't tell a 0.999 quantile: it is
    then the largest.
    """
    known = np.sort(values[np.isfinite(values)])
    if not len(known):
        return {}
    ranks = [min(len(known), int(np.ceil(share * (len(known) + 1)))) for share in QUANTILES]
    return {f"{share:g}": float(known[rank - 1]) for share, rank in zip(QUANTILES, ranks, strict=True)}


def _sampled(rows: int, seed: int) -> slice | npt.NDArray[np.int64]:
    if rows <= _MOST_ROWS:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(rows, _MOST_ROWS, replace=False))


@dataclass(frozen=True, eq=False)
class _Spread:
    """Number, mean and covariance of rows; the covariance as a product, for it may never be written out."""

    rows: int
    mean: Floats
    variance: float
    times: Callable[[Floats], Floats]


def _spreads(
    rows: Rows, assigned: npt.NDArray[np.int64], folds: int, executor: Executor
) -> Iterator[_Spread]:
    """Of the rows that are not in fold 0, 1, ..., and at last of all."""
    if len(rows) < rows.shape[1]:
        for fold in range(folds):
            yield _few(rows[assigned != fold])
        yield _few(rows)
        return
    total, parts = moments_by_fold(rows, assigned, folds, executor=executor)
    for part in parts:
        yield _many(total - part)
    yield _many(total)


def _few(rows: Rows) -> _Spread:
    mean = rows.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(rows.shape[1])
    moved = rows - mean
    n = max(len(rows), 1)
    return _Spread(len(rows), mean, float((moved**2).sum()) / n, lambda basis: moved.T @ (moved @ basis) / n)


def _many(known: Moments) -> _Spread:
    covariance = known.covariance()
    return _Spread(
        round(known.weight), known.mean, float(covariance.trace()), lambda basis: covariance @ basis
    )


def _distance(known: _Spread, max_rank: int, seed: int) -> Distance:
    dim = len(known.mean)
    rank = min(max_rank, known.rows // _ROWS_A_DIRECTION, dim)
    floor = max(_FLOOR * known.variance / dim, _rounding(known.mean))
    variances, directions = _top(known, rank, seed)
    rank = len(variances)
    if rank == 0:
        # Too few rows for any direction: one variance for all, the first direction's too.
        variances, directions = np.full(1, known.variance / dim), np.eye(1, dim)
        rest = known.variance / dim
    else:
        rest = (known.variance - float(variances.sum())) / (dim - rank) if rank < dim else variances[-1]
    return Distance(
        mean=known.mean.astype(np.float32),
        directions=directions.astype(np.float32),
        variances=np.clip(variances, floor, _LARGEST).astype(np.float32),
        rest=min(max(float(rest), floor), _LARGEST),
    )


def _rounding(mean: Floats) -> float:
    """A variance that float32 can't tell from none, above 0: what rows that are all equal have."""
    return max(1e-12 * float(mean @ mean) / len(mean), 1e-12)


def _top(known: _Spread, rank: int, seed: int) -> tuple[Floats, Floats]:
    """About the ``rank`` largest eigenvalues, descending, and orthonormal rows (rank, dim) that have them.

    By subspace iteration: 64 of 2,048 directions cost a hundredth of all. The variances are exact for the
    directions that it finds, so a direction short of the best one only belongs to the rest instead. Fewer
    come back where the covariance has fewer.
    """
    dim = len(known.mean)
    if rank == 0 or known.variance <= 0:
        return np.zeros(0), np.zeros((0, dim))
    basis = np.random.default_rng(seed).normal(size=(dim, min(rank + _EXTRA, dim)))
    for _ in range(_ROUNDS):
        basis = known.times(basis)
        # By Cholesky, not Householder: a few large products instead of many small ones, whose threads
        # wait for each other where other work holds the cores. The shift keeps it from failing.
        squared = basis.T @ basis
        squared += 1e-14 * squared.trace() * np.eye(len(squared))
        basis = np.linalg.solve(np.linalg.cholesky(squared), basis.T).T
    lengths, turned = np.linalg.eigh(basis.T @ basis)
    kept = lengths > 1e-6 * lengths[-1]
    basis = basis @ (turned[:, kept] / np.sqrt(lengths[kept]))
    variances, turned = np.linalg.eigh(basis.T @ known.times(basis))
    best = np.argsort(variances)[::-1][:rank]
    return variances[best], (basis @ turned[:, best]).T
