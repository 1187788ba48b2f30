"""Logistic regression: 50 problems at once, and one after the other."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.benchmarks.heads import made

from trunkline_service.heads.solver.losses import Softmax
from trunkline_service.heads.solver.passes import Pass, Values
from trunkline_service.heads.solver.problems import Problems
from trunkline_service.heads.solver.rows import Rows
from trunkline_service.heads.solver.sweep import Sweep
from trunkline_service.heads.solver.workers import workers

CS = tuple(float(c) for c in np.logspace(-4, 4, 10))
FOLDS = 5
# n, dim, classes, how far apart the classes are.
SHAPES = ((4317, 192, 5, 0.35), (4000, 2048, 37, 0.2), (10_000, 384, 10, 0.25), (50_000, 768, 100, 0.25))
# Newton's method keeps a Hessian of (classes x dim)^2 float64; above this it takes minutes for one problem.
NEWTON = 4_000
Array = NDArray[Any]
Weights = tuple[Array, Array]


class Counted(Pass):
    """A pass that counts the multiplications and additions of its matrix products."""

    def __init__(self, inner: Pass, rows: int) -> None:
        self._inner, self._rows = inner, rows
        self.operations = 0.0

    def __call__(self, problems: Problems, weights: Array, *, curvature: bool = False) -> Values:
        # A problem that leaves a fold out passes over the others.
        rows = np.where(problems.folds >= 0, self._rows * (1 - 1 / FOLDS), self._rows)
        self.operations += 4.0 * float(rows.sum()) * weights[:, 0].size
        return self._inner(problems, weights, curvature=curvature)

    def logits(self, weights: Array, positions: NDArray[np.int64]) -> Array:
        self.operations += 2.0 * len(positions) * weights.size
        return self._inner.logits(weights, positions)


def ours(rows: Array, codes: Array, folds: Array) -> tuple[float, dict[tuple[float, int], Weights], float]:
    """Seconds, the weights of every problem, and operations of matrix products."""
    classes = int(codes.max()) + 1
    started = time.perf_counter()
    found: dict[tuple[float, int], Weights] = {}
    with workers() as (executor, count):
        sweep = Sweep(
            Rows(rows, lambda block: block),
            Softmax(codes),
            classes,
            np.ones(len(rows)),
            folds,
            executor=executor,
            workers=count,
            max_iterations=10_000,
        )
        counted = sweep.evaluate = Counted(sweep.evaluate, len(rows))
        folded = None
        for c in CS:
            folded = sweep.folds(c, folded)
            assert folded.solution.converged.all(), f"C = {c:g} did not converge"
            for fold in range(FOLDS):
                found[c, fold] = sweep.features(folded.solution, fold)
    return time.perf_counter() - started, found, counted.operations


def theirs(
    rows: Array, codes: Array, folds: Array, solver: str, warm: bool, chosen: range
) -> tuple[float, dict[tuple[float, int], Weights]]:
    """Seconds of scikit-learn on the chosen folds, and the weights of their problems."""
    from sklearn.linear_model import LogisticRegression

    found: dict[tuple[float, int], Weights] = {}
    seconds = 0.0
    for fold in chosen:
        rest = folds != fold
        own, truth = np.ascontiguousarray(rows[rest]), codes[rest]
        estimator = LogisticRegression(solver=solver, max_iter=10_000, warm_start=warm)
        for c in CS:
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                estimator.set_params(C=c).fit(own, truth)
            seconds += time.perf_counter() - started
            found[c, fold] = (estimator.coef_.copy(), estimator.intercept_.copy())
    return seconds, found


def objective(rows: Array, codes: Array, weights: Weights, c: float) -> float:
    """scikit-learn's mean loss with its penalty, in float64."""
    coefficients, intercepts = (part.astype(np.float64) for part in weights)
    total = 0.0
    for start in range(0, len(rows), 4096):
        logits = rows[start : start + 4096] @ coefficients.T + intercepts
        logits -= logits.max(axis=1, keepdims=True)
        truth = logits[np.arange(len(logits)), codes[start : start + 4096]]
        # Without the true class, for losses next to nothing.
        powers = np.exp(logits)
        others = powers.sum(axis=1) - np.exp(truth)
        total += float(np.log1p(np.maximum(others, 0) * np.exp(-truth)).sum())
    return total / len(rows) + float((coefficients**2).sum()) / (2 * c * len(rows))


def worst(rows: Array, codes: Array, folds: Array, mine: Any, other: Any) -> float:
    """The largest share by which one of our losses lies above theirs; negative where none does."""
    shares = []
    for (c, fold), weights in other.items():
        rest = folds != fold
        own, truth = rows[rest], codes[rest]
        reference = objective(own, truth, weights, c)
        shares.append((objective(own, truth, mine[c, fold], c) - reference) / reference)
    return max(shares)


def gemm_peak() -> float:
    """Operations a second of a large float32 matrix product on all cores."""
    side = 4096
    matrix = np.random.default_rng(0).random((side, side), np.float32)
    seconds = min(_timed(lambda: matrix @ matrix) for _ in range(4))
    return 2.0 * side**3 / seconds


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def table(quick: bool, data: str | None) -> Iterator[dict[str, str]]:
    """A row for each shape and solver."""
    peak = gemm_peak()
    for number, (n, dim, classes, apart) in enumerate(SHAPES[: 1 if quick else None]):
        real = number == 0 and data is not None
        rows, codes = made.flowers(data) if real and data else made.embeddings(n, dim, classes, apart)
        folds = np.random.default_rng(1).permutation(len(rows)) % FOLDS
        chosen = range(FOLDS if number == 0 else 1)
        # The second of two: the first one loads libraries.
        runs = [ours(rows, codes, folds) for _ in range(2 if number == 0 else 1)]
        seconds, mine, operations = runs[-1]
        shape = f"{len(rows):,} x {dim}, {classes} classes" + (" (flowers5)" if real else "")
        speed = f"{operations / seconds / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s"
        best = np.inf
        for name, solver, warm in (
            ("cold lbfgs", "lbfgs", False),
            ("warm lbfgs", "lbfgs", True),
            ("newton-cholesky", "newton-cholesky", False),
        ):
            if solver == "newton-cholesky" and classes * dim > NEWTON:
                yield _row(f"{shape}: {name}", "not run: a Hessian of " + _size(classes * dim), "")
                continue
            other_seconds, other = theirs(rows, codes, folds, solver, warm, chosen)
            other_seconds *= FOLDS / len(chosen)
            best = min(best, other_seconds)
            excess = worst(rows, codes, folds, mine, other)
            yield _row(
                f"{shape}: {name}",
                f"{other_seconds / seconds:.1f} x ({seconds:.2f} s, {other_seconds:.1f} s), loss at most "
                f"{excess:+.1e} of theirs",
                "20 x" if name == "cold lbfgs" else "",
            )
        yield _row(f"{shape}: the best of them", f"{best / seconds:.1f} x, at {speed}", "7 x")


def _size(side: int) -> str:
    return f"{side**2 * 8 / 1e9:.1f} GB"


def _row(what: str, measured: str, asked: str) -> dict[str, str]:
    return {"what": what, "measured": measured, "asked": asked}
