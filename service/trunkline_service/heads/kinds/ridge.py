"""The ``ridge`` kind: least squares with an L2 penalty, for values and as a fast classifier.

The whole path of penalties is judged by the squared error on rows held out: each alone, in closed form;
or fold by fold where rows have duplicates or groups, which alone would leak, where there is a validation
split, and where few rows are whitened. A classifier is the regression onto 1 and -1 (Rifkin et al. 2003, "Regularized
least-squares classification"), its scores calibrated afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.evaluation.kinds import AnyEvaluation
from trunkline_service.heads.evaluation.regression import evaluate_regression
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.finish import finish
from trunkline_service.heads.kinds.judged import calibration_parts, judge
from trunkline_service.heads.kinds.permitted import check_permitted
from trunkline_service.heads.kinds.platt import fit_platt
from trunkline_service.heads.kinds.weighing import row_weights
from trunkline_service.heads.network import Activation, Linear, Network, Normaliser
from trunkline_service.heads.options import FitOptions, Progress, Transform, silent
from trunkline_service.heads.solver.ridge import FoldPath, LeaveOneOut, Path
from trunkline_service.heads.solver.ridge_spectrum import Affine
from trunkline_service.heads.solver.workers import workers
from trunkline_service.heads.task import Task
from trunkline_service.heads.training.folds import Folds, make_folds
from trunkline_service.heads.training.training_set import TrainingSet

Floats = npt.NDArray[np.float64]

# Penalties in units of the mean eigenvalue: far below it they change nothing, far above nothing is left.
_COARSE = np.logspace(-6, 3, 37)
# And about the best of these, between it and its neighbours.
_FINE = 10 ** np.array([-0.2, -0.15, -0.1, -0.05, 0.05, 0.1, 0.15, 0.2])
# Multiplications that judging all penalties may take, and rows that they are judged by at least.
_WORK, _LEAST = 1 << 39, 1000
# Rows from which on BLAS shares a decomposition among its threads with profit.
_LARGE = 500
# Rows a feature below which whitening is held out too, fold by fold: of few rows each stretches its own
# direction, and its closed form with the transform of all rows would flatter.
_WHITENING_ROWS = 5
# Rows that are held in float64 at a time.
_BLOCK = 4096
_ACTIVATIONS: dict[Task, Activation] = {
    "single-label": "softmax",
    "multi-label": "sigmoid",
    "regression": "none",
}


def fit_ridge(
    data: TrainingSet,
    options: FitOptions = FitOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> FittedHead:
    """A ridge regression on the values of the data, or on which classes they have.

    Args:
        data: For ``regression``, ``single-label`` or ``multi-label``.
        options: ``grid`` are penalties alpha, in scikit-learn's meaning (the summed squared error is not
            divided by anything); by default 37 in the scale of the data, and 8 about the best. Values have a
            penalty for each target, classes one together. All sums are in float64, whatever ``precision``.
        progress: Called with the share done, rising to 1.0. What it raises ends the fit.

    Raises:
        InvalidArgument: A task or an option that it can't use.
        NotEnoughData: Rows that are all of one group.
    """
    check_permitted(
        "ridge",
        data.task,
        options,
        tasks=("regression", "single-label", "multi-label"),
        transforms=("standardise", "l2", "whiten", "none"),
    )
    report = progress or silent
    name = options.transform or "standardise"
    folds = make_folds(data, options.folds, options.seed)
    with _threads(data) as executor:
        path, normaliser, alone = _path(data, options, name, folds, executor)
        report(0.4)
        among = _some(data, folds, options)
        chosen = _chosen(path, options.grid, among, shared=data.task != "regression")
        report(0.7)
        held_out = path.predictions(chosen.alphas)
    report(0.8)
    # Rows left out one by one are as many folds; their calibration still goes by the folds.
    judged_by = Folds(folds.assigned, len(data), ()) if alone else folds
    linear, temperature, evaluation, out_of_fold = _calibrated(data, path, chosen.alphas, held_out, judged_by)
    network = Network(linear, _ACTIVATIONS[data.task], normaliser)
    report(0.9)
    head = finish(
        "ridge",
        data,
        options,
        network,
        folds.assigned,
        evaluation=evaluation,
        out_of_fold=out_of_fold.astype(np.float32),
        hyper_parameters={
            "alpha": chosen.alphas.tolist() if data.task == "regression" else float(chosen.alphas[0]),
            "grid": chosen.grid.tolist(),
            "grid_squared_error": chosen.errors.tolist(),
            "selected_by": f"{'leave-one-out' if alone else 'out-of-fold'} squared error",
            "folds": judged_by.count,
            "transform": name,
        },
        notes=(*(data.grouping.notes if alone else folds.notes), *_edge_notes(chosen)),
        temperature=temperature,
    )
    report(1.0)
    return head


def _some(data: TrainingSet, folds: Folds, options: FitOptions) -> npt.NDArray[np.bool_] | None:
    """(N,) the rows that penalties are judged by; None for all, unless that would take minutes.

    Of 10,000 outputs, a few thousand rows tell the penalties apart as well as all.
    """
    penalties = len(_COARSE) + len(_FINE) if options.grid is None else len(options.grid)
    most = _WORK // (penalties * data.dim * len(data.classes))
    if most >= len(data):
        return None
    held_out = np.flatnonzero(folds.assigned >= 0)
    chosen = np.random.default_rng(options.seed).permutation(held_out)[: max(most, _LEAST)]
    among = np.zeros(len(data), np.bool_)
    among[chosen] = True
    return among


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Penalties (M,), all that were tried (A,) ascending, and their mean squared errors (A, M)."""

    alphas: Floats
    grid: Floats
    errors: Floats


def _path(
    data: TrainingSet, options: FitOptions, name: Transform, folds: Folds, executor: Executor | None
) -> tuple[Path, Normaliser | None, bool]:
    """The solutions; the normaliser that rows went through; and whether rows are held out alone."""
    rows, normaliser, affine = data.embeddings, None, _affine(name)
    if name == "l2":
        normaliser = Normaliser(np.zeros(data.dim, np.float32))
        rows = normaliser(rows)
    targets = data.values() if data.task == "regression" else np.where(data.indicator(), 1.0, -1.0)
    weights = row_weights(data, options)
    few = name == "whiten" and len(data) < _WHITENING_ROWS * data.dim
    alone = data.validation is None and not few and data.grouping.count == len(data)
    path: Path
    if alone:
        path = LeaveOneOut(rows, targets, weights=weights, transform=affine, executor=executor)
    else:
        path = FoldPath(rows, targets, folds.assigned, weights=weights, transform=affine, executor=executor)
    return path, normaliser, alone


@contextmanager
def _threads(data: TrainingSet) -> Iterator[Executor | None]:
    """Threads of our own, with one of BLAS each; or none, where one large decomposition is all there is."""
    if _LARGE <= len(data) <= data.dim:
        yield None
        return
    with workers() as (executor, _):
        yield executor


def _affine(name: Transform) -> Affine:
    return "none" if name == "l2" else name


def _chosen(
    path: Path, grid: tuple[float, ...] | None, among: npt.NDArray[np.bool_] | None, *, shared: bool
) -> _Chosen:
    """The penalties of least held-out error; of equal ones the strongest."""
    alphas = path.scale * _COARSE if grid is None else np.array(grid)
    errors = path.errors(alphas, among)
    if grid is None:
        around = np.unique(_best(alphas, errors, shared))
        fine = (around[:, None] * _FINE).ravel()
        alphas, errors = np.concatenate([alphas, fine]), np.concatenate([errors, path.errors(fine, among)])
        order = np.argsort(alphas)
        alphas, errors = alphas[order], errors[order]
    return _Chosen(_best(alphas, errors, shared), alphas, errors)


def _best(alphas: Floats, errors: Floats, shared: bool) -> Floats:
    judged = np.repeat(errors.mean(axis=1, keepdims=True), errors.shape[1], axis=1) if shared else errors
    from_strongest = np.argsort(-alphas)
    best: Floats = alphas[from_strongest[judged[from_strongest].argmin(axis=0)]]
    return best


def _calibrated(
    data: TrainingSet, path: Path, alphas: Floats, held_out: Floats, folds: Folds
) -> tuple[Linear, float, AnyEvaluation, npt.NDArray[np.float32]]:
    """The served weights, their temperature, the figures of held-out rows, and their outputs."""
    coefficients, intercepts = path.spectrum.linear(alphas)
    if data.task == "regression":
        known = folds.assigned >= 0
        served = _linear(coefficients, intercepts, 1.0)
        held_out = held_out + _rounding(path.rows, served, coefficients, intercepts)
        evaluation = evaluate_regression(
            data.values()[known],
            held_out[known],
            data.classes,
            folds.count,
            weights=None if data.weights is None else data.weights[known],
        )
        return served, 1.0, evaluation, held_out.astype(np.float32)
    if data.task == "multi-label":
        # About the mean of what was learned from, which is another one for each model: where the penalty leaves
        # scores small and slopes large, a shift of it would count for more than the scores.
        held_out = held_out - _levels(data, path, folds.assigned)
        slopes, offsets, held_out = _platt(data, held_out, folds)
        intercepts = (intercepts - path.spectrum.level) * slopes + offsets
        coefficients = coefficients * slopes[:, None]
    judged = judge(data, folds, held_out)
    linear = _linear(coefficients, intercepts, judged.temperature)
    return linear, judged.temperature, judged.evaluation, judged.out_of_fold


def _rounding(
    rows: npt.NDArray[np.float32], served: Linear, coefficients: Floats, intercepts: Floats
) -> Floats:
    """(N, M) what serving in float32 adds to each row's prediction."""
    added = np.empty((len(rows), len(intercepts)))
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        exact = part.astype(np.float64) @ coefficients.T + intercepts
        added[start : start + _BLOCK] = served(part) - exact
    return added


def _levels(data: TrainingSet, path: Path, assigned: npt.NDArray[np.int64]) -> Floats:
    """(N, K) mean target, of -1 and 1, of the rows that were learned from while each row was held out."""
    weights = np.ones(len(data)) if data.weights is None else data.weights
    targets = np.where(data.indicator(), 1.0, -1.0) * weights[:, None]
    sums, total = targets, weights
    if not isinstance(path, LeaveOneOut):
        sums, total = np.empty_like(targets), np.empty(len(data))
        for fold in np.unique(assigned):
            mine = assigned == fold
            sums[mine], total[mine] = targets[mine].sum(axis=0), weights[mine].sum()
    levels: Floats = (targets.sum(axis=0) - sums) / (weights.sum() - total)[:, None]
    return levels


def _platt(data: TrainingSet, scores: Floats, folds: Folds) -> tuple[Floats, Floats, Floats]:
    """Slopes and offsets by all held-out scores, and held-out logits by the other parts' alone."""
    known = np.flatnonzero(folds.assigned >= 0)
    indicator, parts = data.indicator(), calibration_parts(folds)
    if len(known) < 2:
        # One row says nothing of slopes.
        return np.ones(scores.shape[1]), np.zeros(scores.shape[1]), scores

    def fitted(where: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        return fit_platt(
            scores[where], indicator[where], None if data.weights is None else data.weights[where]
        )

    logits = np.full(scores.shape, np.nan)
    for part in np.unique(parts):
        slopes, offsets = fitted(known[parts != part])
        mine = known[parts == part]
        logits[mine] = scores[mine] * slopes + offsets
    return *fitted(known), logits


def _linear(coefficients: Floats, intercepts: Floats, temperature: float) -> Linear:
    return Linear(
        (coefficients / temperature).astype(np.float32), (intercepts / temperature).astype(np.float32)
    )


def _edge_notes(chosen: _Chosen) -> list[str]:
    if len(chosen.grid) < 2:
        return []
    ends = {float(chosen.grid[0]): "smallest", float(chosen.grid[-1]): "largest"}
    return [
        f"the chosen alpha = {alpha:g} is the {ends[alpha]} of the grid; a wider grid may do better"
        for alpha in sorted(set(chosen.alphas.tolist()) & ends.keys())
    ]
