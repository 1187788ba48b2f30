"""The ``centroid`` kind: the class whose mean is nearest, for one to twenty rows a class.

Source: Wang et al. 2019, "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning":
subtract the mean of all rows, scale to length 1, and take the nearest class mean.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.finish import finish
from trunkline_service.heads.kinds.judged import judge
from trunkline_service.heads.kinds.permitted import check_permitted
from trunkline_service.heads.kinds.transforms import FittedTransform, fit_transform
from trunkline_service.heads.network import Network
from trunkline_service.heads.options import FitOptions, Progress, Transform, silent
from trunkline_service.heads.training.folds import Folds, make_folds
from trunkline_service.heads.training.training_set import TrainingSet

Floats = npt.NDArray[np.float64]


def fit_centroid(
    data: TrainingSet,
    options: FitOptions = FitOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> FittedHead:
    """A nearest-mean classifier, with probabilities by a temperature: nothing else is chosen.

    Means have no class shares in them: every class is weighed alike, with or without ``class_weight``.

    Args:
        data: For ``single-label``. Row weights weigh the means.
        options: ``transform`` is ``l2`` by default, which also subtracts the mean row.
        progress: Called with the share done, rising to 1.0. What it raises ends the fit.

    Raises:
        InvalidArgument: A task or an option that it can't use.
        NotEnoughData: Rows that are all of one group.
    """
    check_permitted(
        "centroid",
        data.task,
        options,
        tasks=("single-label",),
        transforms=("l2", "standardise", "whiten", "none"),
        grid=False,
    )
    report = progress or silent
    name = options.transform or "l2"
    folds = make_folds(data, options.folds, options.seed)
    judged = judge(data, folds, _held_out(data, folds, name, report))
    report(0.8)
    everything = np.ones(len(data), np.bool_)
    transform, means = _means(data, everything, name)
    linear = transform.fold(2.0 * means, -(means**2).sum(axis=1), judged.temperature)
    network = Network(linear, "softmax", transform.normaliser)
    head = finish(
        "centroid",
        data,
        options,
        network,
        folds.assigned,
        evaluation=judged.evaluation,
        out_of_fold=judged.out_of_fold,
        hyper_parameters={"transform": name, "folds": folds.count},
        notes=folds.notes,
        temperature=judged.temperature,
    )
    report(1.0)
    return head


def _held_out(data: TrainingSet, folds: Folds, name: Transform, report: Progress) -> npt.NDArray[np.float32]:
    """(N, K) logits of each row by the means of the other folds; NaN for rows that are never held out."""
    logits = np.full((len(data), len(data.classes)), np.nan, np.float32)
    for fold in range(folds.count):
        mine = folds.assigned == fold
        transform, means = _means(data, ~mine, name)
        # -|u - m|^2 without -|u|^2, which is the same for all classes.
        scores = 2.0 * (transform(data.embeddings[mine]) @ means.T) - (means**2).sum(axis=1)
        unknown = np.isnan(scores)
        # A class of which no row is left has no mean: it is as far as the farthest.
        logits[mine] = np.where(unknown, np.nanmin(scores, axis=1, keepdims=True), scores)
        report(0.7 * (fold + 1) / folds.count)
    return logits


def _means(
    data: TrainingSet, chosen: npt.NDArray[np.bool_], name: Transform
) -> tuple[FittedTransform, Floats]:
    """The transform of the chosen rows, and the (K, D) mean of each class of them; NaN without any."""
    rows, codes = data.embeddings[chosen], data.codes()[chosen]
    transform = fit_transform(name, rows, centred=True)
    order = np.argsort(codes, kind="stable")
    weights = np.ones(len(rows)) if data.weights is None else data.weights[chosen]
    weighted = transform(rows)[order] * weights[order, None]
    present, starts = np.unique(codes[order], return_index=True)
    means = np.full((len(data.classes), weighted.shape[1]), np.nan)
    total = np.bincount(codes, weights=weights, minlength=len(means))
    means[present] = np.add.reduceat(weighted, starts, axis=0) / total[present, None]
    return transform, means
