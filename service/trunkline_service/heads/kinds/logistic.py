"""The ``logistic`` kind: multinomial, binary or one-vs-rest logistic regression with an L2 penalty.

The penalty is chosen by held-out log loss after temperature scaling, on the same folds that are reported,
which flatters the figures a little (a handful of candidates); each row's temperature is not. Embeddings are
transformed by statistics of all rows, without their labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.fitted import Convergence, FittedHead
from trunkline_service.heads.kinds.finish import finish
from trunkline_service.heads.kinds.judged import calibrated_loss, judge
from trunkline_service.heads.kinds.penalty import Chosen, PenaltySearch
from trunkline_service.heads.kinds.transforms import FittedTransform, fit_transform
from trunkline_service.heads.kinds.warm import Previous, start_of
from trunkline_service.heads.kinds.weighing import row_weights
from trunkline_service.heads.network import Network
from trunkline_service.heads.options import FitOptions, Progress, silent
from trunkline_service.heads.solver.losses import Loss, Sigmoid, Softmax
from trunkline_service.heads.solver.rows import Rows
from trunkline_service.heads.solver.sweep import Sweep
from trunkline_service.heads.solver.workers import workers
from trunkline_service.heads.training.folds import Folds, for_large, make_folds
from trunkline_service.heads.training.training_set import TrainingSet

# What is left of the progress after the search: the evaluation.
_SEARCH_SHARE = 0.95
# Above so many rows, one part of so many is held out: it tells as much as five folds at a third of the work.
_MANY_ROWS, _HELD_OUT_ROWS = 200_000, 100_000


def fit_logistic(
    data: TrainingSet,
    options: FitOptions = FitOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
    previous: Previous | None = None,
) -> FittedHead:
    """A calibrated logistic regression, on standardised embeddings unless options say otherwise.

    Classes are not reweighted unless asked for: the probabilities hold for the class shares of the rows.

    Args:
        data: ``single-label`` or ``multi-label``.
        options: ``grid`` are candidates of scikit-learn's C: the summed loss is multiplied by it. Without
            one, powers of ten from 1e-6 on, refined around the best.
        progress: Called with the share done, rising to 1.0. What it raises ends the fit.
        previous: Starts from this version's weights and keeps its C, unless a grid is given: a second fit
            on nearly the same rows takes a fraction of the first one's time.

    Raises:
        InvalidArgument: Another task; class weights for ``multi-label``; a previous head of other outputs.
    """
    _check(data, options)
    report = progress or silent
    folds = make_folds(data, options.folds, options.seed)
    if len(data) > _MANY_ROWS:
        folds = for_large(data, folds, _HELD_OUT_ROWS, options.seed)
    transform = fit_transform(options.transform or "standardise", data.embeddings)
    chosen, sweep = _search(data, options, folds, transform, report, previous)

    problem = _Problem.of(data)
    judged = judge(data, folds, problem.columns(chosen.logits))
    coefficients, intercepts = sweep.features(chosen.whole.solution)
    body = transform.fold(
        problem.columns(coefficients.T.astype(np.float64)).T,
        problem.columns(intercepts[None].astype(np.float64))[0],
        judged.temperature,
    )
    solution = chosen.whole.solution
    convergence = Convergence(
        bool(solution.converged[0]), float(solution.gradient_norms[0]), int(solution.iterations[0])
    )
    head = finish(
        "logistic",
        data,
        options,
        Network(body, "sigmoid" if data.task == "multi-label" else "softmax", transform.normaliser),
        folds.assigned,
        evaluation=judged.evaluation,
        out_of_fold=judged.out_of_fold,
        hyper_parameters=_hyper_parameters(chosen, options, folds),
        notes=(*folds.notes, *_notes(chosen, convergence, options)),
        temperature=judged.temperature,
        convergence=convergence,
    )
    report(1.0)
    return head


@dataclass(frozen=True, eq=False)
class _Problem:
    """The loss of a training set, over K outputs; two classes need one output, the log odds of the second."""

    loss: Loss
    outputs: int
    binary: bool

    @classmethod
    def of(cls, data: TrainingSet) -> _Problem:
        classes = len(data.classes)
        if data.task == "multi-label":
            return cls(Sigmoid(data.indicator()), classes, False)
        if classes == 2:
            return cls(Sigmoid(data.codes()[:, None] == 1), 1, True)
        return cls(Softmax(data.codes()), classes, False)

    def columns(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """(N, K) columns, one a class: half of the log odds for the second class, half against the first."""
        return np.concatenate([-outputs, outputs], axis=1) / 2 if self.binary else outputs


def _search(
    data: TrainingSet,
    options: FitOptions,
    folds: Folds,
    transform: FittedTransform,
    report: Progress,
    previous: Previous | None,
) -> tuple[Chosen, Sweep]:
    problem = _Problem.of(data)
    held_out, weights = folds.assigned >= 0, row_weights(data, options)
    share = 0.0

    def tick() -> None:
        report(share)

    def advance(done: float) -> None:
        nonlocal share
        share = _SEARCH_SHARE * done
        report(share)

    with workers() as (executor, count):
        sweep = Sweep(
            Rows(data.embeddings, transform, np.float64 if options.precision == "float64" else np.float32),
            problem.loss,
            problem.outputs,
            np.ones(len(data)) if weights is None else weights,
            folds.assigned,
            executor=executor,
            workers=count,
            device=options.device,
            max_iterations=options.max_iterations,
            tick=tick,
        )
        begin = None if previous is None else start_of(previous, data, transform, sweep, problem.binary)
        search = PenaltySearch(
            sweep,
            lambda logits: calibrated_loss(data, held_out, problem.columns(logits)),
            advance,
            begin,
        )
        grid = options.grid or ((begin.c,) if begin else None)
        return (search.coarse_to_fine() if grid is None else search.over(grid)), sweep


def _check(data: TrainingSet, options: FitOptions) -> None:
    if data.task not in ("single-label", "multi-label"):
        raise InvalidArgument(
            f"kind logistic learns labels, and {data.target!r} is for {data.task}; "
            f"use kind {'ridge' if data.task == 'regression' else 'anomaly'}"
        )
    if options.normal is not None:
        raise InvalidArgument("normal is for anomaly heads, and this is a logistic head; leave normal out")
    if data.task == "multi-label" and options.class_weight != "none":
        raise InvalidArgument(
            "class_weight balanced is for one label a row; multi-label classes are learned each on its own"
        )


def _hyper_parameters(chosen: Chosen, options: FitOptions, folds: Folds) -> dict[str, Any]:
    return {
        "C": chosen.whole.c,
        "grid": [c for c, _ in chosen.tried],
        "grid_log_loss": [loss for _, loss in chosen.tried],
        "selected_by": "out-of-fold log loss",
        "transform": options.transform or "standardise",
        "folds": folds.count,
        "precision": options.precision,
        "max_iterations": options.max_iterations,
    }


def _notes(chosen: Chosen, convergence: Convergence, options: FitOptions) -> list[str]:
    notes = []
    if not convergence.converged:
        notes.append(
            f"the solver stopped before its tolerance, at a gradient of {convergence.gradient_norm:.1e} after "
            f"{convergence.iterations} iterations (at most {options.max_iterations}): allow more iterations, or "
            "try smaller values of C"
        )
    if chosen.failures:
        notes.append(f"{chosen.failures} of {chosen.runs} solver runs stopped before their tolerance")
    return [*notes, *_edge_notes([c for c, _ in chosen.tried], chosen.whole.c)]


def _edge_notes(candidates: Sequence[float], best: float) -> list[str]:
    if len(candidates) < 2 or candidates[0] < best < candidates[-1]:
        return []
    side = "smallest" if best == candidates[0] else "largest"
    return [f"the chosen C = {best:g} is the {side} of the grid; a wider grid may do better"]
