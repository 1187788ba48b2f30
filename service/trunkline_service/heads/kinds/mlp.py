"""The ``mlp`` kind: one hidden layer of 256 ReLU, for what no linear head can tell apart.

A network for each fold and one for all rows are trained side by side, until the mean loss of held-out
rows has not fallen for a while; the one for all rows is served as it was when that loss was least. The epoch
is chosen on the same folds that are reported, which flatters the figures a little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.evaluation.kinds import AnyEvaluation
from trunkline_service.heads.evaluation.regression import evaluate_regression
from trunkline_service.heads.fitted import Convergence, FittedHead
from trunkline_service.heads.kinds.finish import finish
from trunkline_service.heads.kinds.judged import judge
from trunkline_service.heads.kinds.permitted import check_permitted
from trunkline_service.heads.kinds.transforms import FittedTransform, fit_transform
from trunkline_service.heads.kinds.weighing import row_weights
from trunkline_service.heads.network import Activation, Linear, Mlp, Network, Normaliser
from trunkline_service.heads.options import FitOptions, Progress, Transform, silent
from trunkline_service.heads.solver import mlp as solver
from trunkline_service.heads.solver.workers import workers
from trunkline_service.heads.task import Task
from trunkline_service.heads.training.folds import Folds, make_folds
from trunkline_service.heads.training.training_set import TrainingSet

Rows = NDArray[np.float32]
Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

DEFAULT_GRID = (0.01,)
# Epochs without a better loss after which training ends, and epochs at most; few rows, of which an epoch is a
# few steps, have as many as make up so many steps.
_PATIENCE, _PATIENCE_STEPS = 8, 400
_MOST, _MOST_STEPS = 100, 5000
_LOSSES: dict[Task, solver.Loss] = {
    "single-label": "softmax",
    "multi-label": "sigmoid",
    "regression": "squared",
}
_ACTIVATIONS: dict[Task, Activation] = {
    "single-label": "softmax",
    "multi-label": "sigmoid",
    "regression": "none",
}
# Of the progress: what training takes.
_SEARCH = 0.9
# Between two reports of it.
_STEPS = 64


def fit_mlp(
    data: TrainingSet,
    options: FitOptions = FitOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> FittedHead:
    """A network of one hidden layer, trained by AdamW with dropout and early stopping.

    Args:
        data: For ``single-label``, ``multi-label`` or ``regression``.
        options: ``grid`` are candidates of the weight decay; ``max_iterations`` are epochs, of which there
            are rarely more than 100.
        progress: Called with the share done, rising to 1.0. What it raises ends the fit.

    Raises:
        InvalidArgument: A task or an option that it can't use; rows or weights so large that training
            diverges.
        NotEnoughData: Rows that are all of one group.
    """
    check_permitted(
        "mlp",
        data.task,
        options,
        tasks=("single-label", "multi-label", "regression"),
        transforms=("standardise", "l2", "whiten", "none"),
        float64=False,
    )
    report = progress or silent
    folds = make_folds(data, options.folds, options.seed)
    inputs = _Inputs.of(data, options)
    search = _search(inputs, folds, options, report)
    report(_SEARCH)
    served = search.network
    held_out, known = search.outputs, folds.assigned >= 0
    temperature, out_of_fold = 1.0, held_out
    evaluation: AnyEvaluation
    if data.task == "regression":
        evaluation = evaluate_regression(
            data.values()[known],
            held_out[known],
            data.classes,
            folds.count,
            weights=None if data.weights is None else data.weights[known],
        )
    else:
        judged = judge(data, folds, held_out)
        temperature, evaluation, out_of_fold = judged.temperature, judged.evaluation, judged.out_of_fold
    output = Linear(
        (served.output.W / np.float32(temperature)).astype(np.float32),
        (served.output.b / np.float32(temperature)).astype(np.float32),
    )
    network = Network(Mlp(served.hidden, output), _ACTIVATIONS[data.task], inputs.normaliser)
    head = finish(
        "mlp",
        data,
        options,
        network,
        folds.assigned,
        evaluation=evaluation,
        out_of_fold=out_of_fold,
        hyper_parameters={
            "hidden": solver.HIDDEN,
            "epochs": search.epochs,
            "weight_decay": search.decay,
            "grid": list(options.grid or DEFAULT_GRID),
            "grid_loss": list(search.losses),
            "selected_by": "out-of-fold loss",
            "folds": folds.count,
            "transform": inputs.name,
        },
        notes=(*folds.notes, *([] if search.settled else [_unfinished(len(search.loss))])),
        temperature=temperature,
        convergence=Convergence(search.settled, search.gradient_norm, search.epochs),
        curves={"loss": search.loss, "validation_loss": search.validation_loss},
    )
    report(1.0)
    return head


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Rows and targets as the solver takes them; values are scaled to mean 0 and variance 1."""

    data: TrainingSet
    name: Transform
    rows: Rows
    normaliser: Normaliser | None
    weights: Rows
    targets: Rows | Codes
    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, data: TrainingSet, options: FitOptions) -> _Inputs:
        name = options.transform or "standardise"
        weights = row_weights(data, options)
        counted = np.ones(len(data)) if weights is None else weights
        normaliser = Normaliser(np.zeros(data.dim, np.float32)) if name == "l2" else None
        rows = data.embeddings if normaliser is None else normaliser(data.embeddings)
        centre, spread = np.zeros(len(data.classes)), np.ones(len(data.classes))
        targets: Rows | Codes
        if data.task == "single-label":
            targets = data.codes()
        elif data.task == "multi-label":
            targets = data.indicator().astype(np.float32)
        else:
            values = data.values()
            centre, spread = values.mean(axis=0), values.std(axis=0)
            targets = ((values - centre) / spread).astype(np.float32)
        return cls(data, name, rows, normaliser, counted.astype(np.float32), targets, centre, spread)

    def problem(self, train: Codes) -> tuple[solver.Problem, FittedTransform]:
        """What the solver is to learn from rows at ``train``, and what they go through, fitted on them."""
        transform = fit_transform("none" if self.name == "l2" else self.name, self.rows[train])
        mean = np.zeros(self.data.dim) if transform.mean is None else transform.mean
        matrix = np.ones(self.data.dim) if transform.matrix is None else transform.matrix.T
        problem = solver.Problem(
            rows=self.rows,
            targets=self.targets,
            outputs=len(self.data.classes),
            loss=_LOSSES[self.data.task],
            weights=self.weights,
            train=train,
            mean=mean.astype(np.float32),
            matrix=np.ascontiguousarray(matrix, np.float32),
            start=self._start(train),
        )
        return problem, transform

    def _start(self, positions: Codes) -> Rows:
        """(K,) outputs that are right on average: where training begins."""
        if self.data.task == "regression":
            mean: Rows = self.targets[positions].mean(axis=0, dtype=np.float32)
            return mean
        counts = self.data.indicator()[positions].sum(axis=0)
        others = len(positions) - counts if self.data.task == "multi-label" else 1
        logits: Rows = np.log((counts + 1) / (others + 1)).astype(np.float32)
        return logits


@dataclass(frozen=True, eq=False)
class _Search:
    """What training came to.

    Attributes:
        decay: Of least held-out loss.
        epochs: After which it was least.
        losses: The least of every candidate.
        outputs: (N, K) of held-out rows then.
        network: Of all rows then, on raw (normalised) rows.
        gradient_norm: Of its last epoch.
        loss: Of each epoch, mean over folds.
        validation_loss: Of each epoch.
        settled: Whether it had stopped falling before the last epoch that was allowed.
    """

    decay: float
    epochs: int
    losses: tuple[float, ...]
    outputs: Rows
    network: Mlp
    gradient_norm: float
    loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    settled: bool


class _Candidate:
    """One weight decay: a network for each fold and one for all rows, which train side by side."""

    def __init__(self, inputs: _Inputs, folds: Folds, decay: float, seed: int) -> None:
        self._inputs, self._assigned, self.decay = inputs, folds.assigned, decay
        self._random = np.random.SeedSequence(seed).spawn(folds.count + 1)
        train = [np.flatnonzero(folds.assigned != fold) for fold in range(folds.count)]
        problems = [inputs.problem(positions) for positions in (*train, np.arange(len(inputs.data)))]
        self._transform = problems[-1][1]
        self.trainers = [
            solver.Trainer(problem, decay, own)
            for (problem, _), own in zip(problems, self._random, strict=True)
        ]
        self.loss: list[float] = []
        self.validation_loss: list[float] = []
        self.best = np.inf
        self.epochs = 0

    def judge(self) -> None:
        """After an epoch: keeps the networks' outputs for held-out rows, and weights, if they are the best."""
        *of_folds, whole = self.trainers
        found = np.full((len(self._assigned), len(self._inputs.data.classes)), np.nan, np.float32)
        for fold, trainer in enumerate(of_folds):
            mine = np.flatnonzero(self._assigned == fold)
            found[mine] = trainer.outputs(mine)
        known = self._assigned >= 0
        losses, _ = solver.row_losses(
            _LOSSES[self._inputs.data.task], found[known], self._inputs.targets[known]
        )
        mean = float(np.average(losses.astype(np.float64), weights=self._inputs.weights[known]))
        self.loss.append(float(np.mean([trainer.loss for trainer in of_folds])))
        self.validation_loss.append(mean)
        if mean < self.best:
            self.best, self.epochs = mean, len(self.loss)
            self._outputs, self._weights, self._norm = found, whole.weights(), whole.gradient_norm

    def result(self, losses: tuple[float, ...], settled: bool) -> _Search:
        hidden, shift, output, bias = self._weights
        spread, centre = self._inputs.spread, self._inputs.centre
        first = self._transform.fold(hidden.T.astype(np.float64), shift.astype(np.float64))
        last = Linear(
            (output.T * spread[:, None]).astype(np.float32), (bias * spread + centre).astype(np.float32)
        )
        return _Search(
            decay=self.decay,
            epochs=self.epochs,
            losses=losses,
            outputs=(self._outputs * spread + centre).astype(np.float32),
            network=Mlp(first, last),
            gradient_norm=self._norm,
            loss=tuple(self.loss),
            validation_loss=tuple(self.validation_loss),
            settled=settled,
        )


def _search(inputs: _Inputs, folds: Folds, options: FitOptions, report: Progress) -> _Search:
    """Trains every candidate until its held-out loss has not fallen for a while."""
    decays = options.grid or DEFAULT_GRID
    candidates = [_Candidate(inputs, folds, decay, options.seed) for decay in decays]
    steps = candidates[0].trainers[-1].steps
    patience = max(_PATIENCE, _PATIENCE_STEPS // steps)
    most = min(options.max_iterations, max(_MOST, _MOST_STEPS // steps))
    running, epoch = candidates, 0
    with workers() as (executor, _):
        while running and epoch < most:
            for share in _epoch([t for one in running for t in one.trainers], executor):
                # How long it takes is not known: the share rises ever more slowly.
                report(_SEARCH * (1 - 1 / (1 + (epoch + share) / (2 * patience))))
            for one in running:
                one.judge()
            epoch += 1
            running = [one for one in running if epoch < one.epochs + patience]
    best = min(candidates, key=lambda one: one.best)
    if not best.epochs:
        raise InvalidArgument(
            "the loss of held-out rows was not finite after any epoch: scale the embeddings to sizes near "
            "1, or choose transform standardise"
        )
    return best.result(tuple(one.best for one in candidates), best not in running)


def _epoch(trainers: Sequence[solver.Trainer], executor: Executor) -> Iterator[float]:
    """One epoch of every trainer, side by side; gives the share done, every so many steps."""
    for trainer in trainers:
        trainer.begin()
    share = 0.0
    while share < 1.0:
        # The results of several threads, taken in the order of trainers: who is first changes nothing.
        share = min(executor.map(lambda trainer: trainer.advance(_STEPS), trainers))
        yield share


def _unfinished(epochs: int) -> str:
    return (
        f"training stopped after {epochs} epochs, before the loss of held-out rows had settled: allow more "
        "iterations, or give more rows"
    )
