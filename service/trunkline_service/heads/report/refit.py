"""Fitting a head's kind again on part of its rows, to see what fewer labels would have given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.evaluation.learning_curve import RowErrors
from trunkline_service.heads.fit import fit
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.task import Task
from trunkline_service.heads.training.training_set import TrainingSet

Rows = NDArray[np.int64]
Errors = NDArray[np.float64]

# Under which name each kind reports what it chose from its grid.
_CHOSEN = ("C", "alpha", "k")

# What 1 minus the mean error is.
FIGURES: dict[Task, str] = {
    "single-label": "accuracy",
    "multi-label": "mean Jaccard index",
    "regression": "R2",
}


def row_errors(data: TrainingSet, fitted: FittedHead, options: FitOptions) -> RowErrors:
    """Learns from some rows as ``fitted`` did, its hyper-parameter kept, and judges others.

    Raises:
        NotEnoughData: When called: the rows to learn from are too few for the kind.
    """
    chosen = replace(options, grid=_grid(fitted) or options.grid)

    def errors(learned: Rows, judged: Rows) -> Errors:
        found = np.ones(len(judged))
        usable = _usable(data, learned, judged)
        outputs = _refit(data, fitted, chosen, learned, judged[usable])
        found[usable] = output_errors(data, judged[usable], outputs)
        return found

    return errors


def output_errors(data: TrainingSet, rows: Rows, outputs: NDArray[np.float32]) -> Errors:
    """(H,) the error of each row's outputs (H, K), such that 1 minus the mean is the figure of the task."""
    match data.task:
        case "multi-label":
            truth, given = data.indicator()[rows], outputs >= 0.5
            either = (truth | given).sum(axis=1)
            shared = (truth & given).sum(axis=1)
            # A row rightly given no label is right.
            missed: Errors = np.where(either > 0, 1.0 - shared / np.maximum(either, 1), 0.0)
            return missed
        case "regression":
            values = data.values()
            spread = np.nanvar(values, axis=0)
            squares: Errors = (outputs - values[rows]) ** 2 / np.where(spread > 0, spread, 1.0)
            return np.asarray(squares.mean(axis=1), np.float64)
        case _:
            return np.asarray(outputs.argmax(axis=1) != data.codes()[rows], np.float64)


def _grid(fitted: FittedHead) -> tuple[float, ...] | None:
    values = (fitted.hyper_parameters.get(name) for name in _CHOSEN)
    return next(((float(value),) for value in values if isinstance(value, int | float) and value > 0), None)


def _usable(data: TrainingSet, learned: Rows, judged: Rows) -> NDArray[np.bool_]:
    """Which rows can be judged: those of a class that is among the rows to learn from."""
    if data.task != "single-label":
        return np.ones(len(judged), np.bool_)
    codes = data.codes()
    return np.isin(codes[judged], codes[learned])


def _refit(
    data: TrainingSet, fitted: FittedHead, options: FitOptions, learned: Rows, judged: Rows
) -> NDArray[np.float32]:
    """(H, K) outputs for ``judged`` of a head that learned from ``learned`` alone."""
    rows = np.concatenate([learned, judged])
    part = _part(data, _with_company(data, rows), judged)
    again = fit(fitted.kind, part, options)
    assert again.out_of_fold is not None
    assert part.validation is not None
    found = again.out_of_fold[part.validation]
    if again.classes == fitted.classes:
        return found
    # A class that the part lacks is never given.
    outputs = np.zeros((len(found), len(fitted.classes)), np.float32)
    position = {name: k for k, name in enumerate(fitted.classes)}
    outputs[:, [position[name] for name in again.classes]] = found
    return outputs


def _with_company(data: TrainingSet, rows: Rows) -> Rows:
    """The rows but for those that are alone in their class, which a training set leaves out."""
    if data.task != "single-label":
        return rows
    codes = data.codes()[rows]
    return rows[np.bincount(codes)[codes] > 1]


def _part(data: TrainingSet, rows: Rows, judged: Rows) -> TrainingSet:
    labels = data.labels[rows] if isinstance(data.labels, np.ndarray) else [data.labels[i] for i in rows]
    return TrainingSet(
        embeddings=data.embeddings[rows],
        labels=labels,
        space_id=data.space_id,
        collection=data.collection,
        collection_version=data.collection_version,
        model=data.model,
        task=data.task,
        target=data.target,
        targets=data.targets,
        weights=None if data.weights is None else data.weights[rows],
        validation=np.isin(rows, judged),
        decode=data.decode,
        # The folds are kept: what belongs together is on one side already.
        duplicates=False,
    )
