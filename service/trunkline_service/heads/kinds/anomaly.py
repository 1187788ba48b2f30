"""The ``anomaly`` kind: how far a row is from what is normal, learned from normal rows alone.

The score is `network.Distance`: about 1 for a typical row. Which score is too high is the user's choice, by
the quantiles of normal rows that were held out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trunkline_service.errors import NotEnoughData
from trunkline_service.heads.evaluation.anomaly import AnomalyEvaluation, evaluate_anomaly
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.distance import cross_fitted_distances, quantiles_of
from trunkline_service.heads.kinds.finish import check_finite
from trunkline_service.heads.kinds.permitted import check_permitted
from trunkline_service.heads.network import Network
from trunkline_service.heads.options import FitOptions, Progress, silent
from trunkline_service.heads.training.folds import make_folds
from trunkline_service.heads.training.overlap import overlap_notes
from trunkline_service.heads.training.training_set import TrainingSet

_LEAST_ROWS = 4
_RANK = 64


def fit_anomaly(
    data: TrainingSet,
    options: FitOptions = FitOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> FittedHead:
    """The distance from normal rows.

    Args:
        data: For ``anomaly``. Rows that have a label other than the normal one are anomalies: nothing is
            learned from them, and the figures say how well they are told. All rows count alike.
        options: ``normal`` is the label of normal rows; without it all rows are normal.
        progress: Called with the share done, rising to 1.0. What it raises ends the fit.

    Raises:
        InvalidArgument: A task or an option that it can't use; no row of the normal label.
        NotEnoughData: Fewer than four normal rows.
    """
    check_permitted(
        "anomaly", data.task, options, tasks=("anomaly",), transforms=("none",), grid=False, balanced=()
    )
    report = progress or silent
    normal = data.normal(options.normal)
    if normal.sum() < _LEAST_ROWS:
        raise NotEnoughData(
            f"an anomaly head needs at least {_LEAST_ROWS} normal rows, and {int(normal.sum())} of collection "
            f"{data.collection!r} have {data.target} = {options.normal!r}; label more rows"
        )
    folds = make_folds(data, options.folds, options.seed)
    report(0.1)
    distance, scores = cross_fitted_distances(data.embeddings, folds.assigned, normal, _RANK, options.seed)
    report(0.8)
    network = Network(distance, "none")
    check_finite("anomaly", network)
    known = normal | data.labelled()
    test_evaluation, test_notes = _judge_test(data, network, options.normal)
    head = FittedHead(
        kind="anomaly",
        task="anomaly",
        network=network,
        classes=(),
        space_id=data.space_id,
        model=data.model,
        collection=data.collection,
        collection_version=data.collection_version,
        training_hash=data.training_hash(),
        rows=int(normal.sum()),
        hyper_parameters={
            "normal": options.normal,
            "rank": len(distance.variances),
            "folds": folds.count,
            "seed": options.seed,
        },
        temperature=1.0,
        evaluation=_judge(normal[known], scores[known], folds.count),
        notes=(*data.notes, *folds.notes, *test_notes, *overlap_notes(data)),
        target=data.target,
        decode=data.decode,
        test_evaluation=test_evaluation,
        distance_quantiles=quantiles_of(scores[normal]),
        out_of_fold=scores.astype(np.float32)[:, None],
    )
    report(1.0)
    return head


def _judge(normal: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], folds: int) -> AnomalyEvaluation:
    """The figures of rows that were held out."""
    judged = ~np.isnan(scores)
    if not (normal & judged).any():
        raise NotEnoughData("no normal row is held out: put some into the validation split, or leave it out")
    return evaluate_anomaly(normal[judged], scores[judged], folds)


def _judge_test(
    data: TrainingSet, network: Network, label: str | None
) -> tuple[AnomalyEvaluation | None, list[str]]:
    if data.test is None:
        return None, []
    test = data.test
    known = np.ones(len(test), np.bool_) if label is None else test.labelled()
    normal = known if label is None else np.array([_has(row, label) for row in test.labels], np.bool_)
    if not normal.any():
        return None, [f"no row of the test split has {data.target} = {label!r}: it is not evaluated"]
    scores = network(test.embeddings)[:, 0]
    return evaluate_anomaly(normal[known], scores[known], 0), []


def _has(row: object, label: str) -> bool:
    return label == row or (isinstance(row, tuple) and label in row)
