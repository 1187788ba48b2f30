"""The ``logistic`` kind: multinomial logistic regression with an L2 penalty.

The penalty is chosen by out-of-fold log loss after temperature scaling: it judges the probabilities
that are served, and it still tells candidates apart where accuracies tie, as they do on few rows.
Ties go to the stronger penalty. The penalty is chosen on the same folds that are reported, which
flatters the figures a little (a handful of candidates); each row's temperature is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.evaluation.calibrate import cross_fitted, fit_temperature
from trunkline_service.heads.evaluation.evaluate import evaluate, log_loss
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.linear import Standardiser, fold_affine, softmax
from trunkline_service.heads.solver.scikit import Solver
from trunkline_service.heads.training.folds import stratified_folds, usable_folds
from trunkline_service.heads.training.training_set import TrainingSet

DEFAULT_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1)
_MAX_ITERATIONS = 1000


def fit_logistic(
    data: TrainingSet,
    *,
    folds: int = 5,
    grid: Sequence[float] | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    max_iterations: int = _MAX_ITERATIONS,
) -> FittedHead:
    """A calibrated logistic regression on standardised embeddings.

    Classes are not reweighted: the probabilities hold for the class shares of the training rows.

    Args:
        data: What to learn from.
        folds: Cross-validation folds; fewer are used, with a note, if the smallest class is smaller.
        grid: Candidates of C, the inverse strength of the L2 penalty (scikit-learn's meaning: the
            summed loss is multiplied by C). Default: 1e-4 to 1e1 in powers of ten.
        seed: Of the folds. The same data and seed give the same head.
        progress: Called with the share done, rising to 1.0, after each step. What it raises ends the fit.
        max_iterations: After which a solver run stops; reported as not converged.

    Raises:
        InvalidArgument: ``folds``, ``grid``, ``seed`` or ``max_iterations`` that can't be used.
    """
    candidates = _check_grid(grid)
    _check_integer("seed", seed, 0)
    _check_integer("max_iterations", max_iterations, 1)
    codes, classes = data.codes(), data.classes
    folds, folds_note = usable_folds(codes, folds)
    assigned = stratified_folds(codes, folds, seed)
    solver = Solver(max_iterations, folds * len(candidates) + 1, progress)

    sweep = _sweep(data.embeddings, codes, assigned, candidates, solver)
    sweep_failures = solver.failures
    losses = [_calibrated_loss(logits, codes) for logits in sweep]
    best = int(np.argmin(losses))
    logits = sweep[best].astype(np.float64)
    temperature = fit_temperature(logits, codes)
    out_of_fold = cross_fitted(logits, codes, assigned)

    standardiser = Standardiser.of(data.embeddings)
    coefficients, intercepts = solver.run(
        solver.start(), standardiser(data.embeddings), codes, candidates[best]
    )
    converged = solver.failures == sweep_failures
    W, b = fold_affine(coefficients, intercepts, standardiser, temperature)  # noqa: N806 - the public names
    return FittedHead(
        kind="logistic",
        W=W,
        b=b,
        classes=classes,
        space_id=data.space_id,
        model=data.model,
        collection=data.collection,
        collection_version=data.collection_version,
        training_hash=data.training_hash(),
        rows=len(codes),
        hyper_parameters={
            "C": candidates[best],
            "grid": list(candidates),
            "grid_log_loss": losses,
            "selected_by": "out-of-fold log loss",
            "folds": folds,
            "seed": seed,
            "max_iterations": max_iterations,
        },
        temperature=temperature,
        evaluation=evaluate(codes, out_of_fold, classes, folds),
        converged=converged,
        notes=(
            *data.notes,
            *([folds_note] if folds_note else []),
            *_solver_notes(converged, sweep_failures, folds * len(candidates), max_iterations),
            *_edge_notes(candidates, best),
        ),
        out_of_fold=out_of_fold.astype(np.float32),
    )


def _check_grid(grid: Sequence[float] | None) -> tuple[float, ...]:
    candidates = DEFAULT_GRID if grid is None else tuple(sorted({float(c) for c in grid}))
    if not candidates or not all(math.isfinite(c) and c > 0 for c in candidates):
        raise InvalidArgument(f"grid is {grid!r}; give one or more positive, finite values of C")
    return candidates


def _check_integer(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(f"{name} is {value!r}; it must be an integer from {least} on")


def _sweep(
    embeddings: npt.NDArray[np.float32],
    codes: npt.NDArray[np.int64],
    assigned: npt.NDArray[np.int64],
    candidates: Sequence[float],
    solver: Solver,
) -> npt.NDArray[np.float32]:
    """(candidates, N, K) out-of-fold logits; each fold is standardised by its own training rows."""
    sweep = np.empty((len(candidates), len(codes), int(codes.max()) + 1), dtype=np.float32)
    for fold in np.unique(assigned):
        held_out = assigned == fold
        standardiser = Standardiser.of(embeddings[~held_out])
        rows, unseen = standardiser(embeddings[~held_out]), standardiser(embeddings[held_out])
        estimator = solver.start()
        for i, c in enumerate(candidates):
            coefficients, intercepts = solver.run(estimator, rows, codes[~held_out], c)
            sweep[i, held_out] = unseen @ coefficients.T + intercepts
    return sweep


def _calibrated_loss(logits: npt.NDArray[np.float32], codes: npt.NDArray[np.int64]) -> float:
    exact = logits.astype(np.float64)
    return log_loss(codes, softmax(exact / fit_temperature(exact, codes)))


def _solver_notes(converged: bool, sweep_failures: int, runs: int, limit: int) -> list[str]:
    notes = []
    if not converged:
        notes.append(
            f"the solver stopped before its tolerance (at most {limit} iterations): "
            "allow more iterations, or try smaller values of C"
        )
    if sweep_failures:
        notes.append(f"{sweep_failures} of {runs} cross-validation runs stopped before their tolerance")
    return notes


def _edge_notes(candidates: Sequence[float], best: int) -> list[str]:
    if len(candidates) < 2 or 0 < best < len(candidates) - 1:
        return []
    side = "smallest" if best == 0 else "largest"
    return [f"the chosen C = {candidates[best]:g} is the {side} of the grid; a wider grid may do better"]
