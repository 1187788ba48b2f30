from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument, NotEnoughData
from trunkline_service.heads.evaluation.anomaly import AnomalyEvaluation
from trunkline_service.heads.kinds.anomaly import fit_anomaly
from trunkline_service.heads.kinds.distance import fit_distance
from trunkline_service.heads.network import Distance
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.training.training_set import TrainingSet

Make = Callable[..., TrainingSet]


@pytest.fixture(scope="module")
def parts(given: Make) -> Callable[..., TrainingSet]:
    """Normal parts labelled ``good``, bad ones farther out, and some without a label."""

    def make(good: int = 100, bad: int = 20, unlabelled: int = 10, **fields: Any) -> TrainingSet:
        generator = np.random.default_rng(2)
        rows = generator.normal(size=(good + bad + unlabelled, 12))
        rows[good : good + bad] *= 2.0
        labels = ["good"] * good + ["scratch", "dent"] * (bad // 2) + [None] * unlabelled
        return given(rows, labels, task="anomaly", **fields)

    return make


def test_bad_parts_score_higher(parts: Make) -> None:
    data = parts()
    head = fit_anomaly(data, FitOptions(normal="good"))
    figures = head.evaluation
    assert isinstance(figures, AnomalyEvaluation)
    assert figures.auroc is not None
    assert figures.auroc > 0.9
    assert (figures.n, figures.anomalies, figures.folds) == (120, 20, 5)
    assert head.rows == 100
    assert (head.task, head.classes, head.network.activation) == ("anomaly", (), "none")
    assert (head.network.distance, head.temperature) == (None, 1.0)


def test_nothing_is_learned_from_other_labels(parts: Make) -> None:
    data = parts()
    body = fit_anomaly(data, FitOptions(normal="good")).network.body
    expected = fit_distance(data.embeddings[:100])
    assert isinstance(body, Distance)
    np.testing.assert_allclose(body(data.embeddings), expected(data.embeddings), rtol=1e-5)


def test_quantiles_are_of_normal_rows_held_out(parts: Make) -> None:
    data = parts()
    head = fit_anomaly(data, FitOptions(normal="good"))
    assert head.out_of_fold is not None
    assert head.out_of_fold.shape == (130, 1)
    scores = np.sort(head.out_of_fold[:100, 0])
    assert head.distance_quantiles["0.9"] == pytest.approx(scores[90])
    assert (head.network(data.embeddings)[:100, 0] < head.distance_quantiles["0.9"]).mean() > 0.9
    assert (head.network(data.embeddings)[100:120, 0] > head.distance_quantiles["0.95"]).mean() > 0.5


def test_without_a_label_every_row_is_normal(parts: Make) -> None:
    head = fit_anomaly(parts())
    assert head.rows == 130
    assert isinstance(head.evaluation, AnomalyEvaluation)
    assert (head.evaluation.auroc, head.evaluation.anomalies) == (None, 0)
    assert head.evaluation.headline[0] == "99% of normal scores"
    assert head.hyper_parameters["normal"] is None


def test_a_label_that_no_row_has(parts: Make) -> None:
    with pytest.raises(InvalidArgument, match="'goood'"):
        fit_anomaly(parts(), FitOptions(normal="goood"))


def test_too_few_normal_rows(parts: Make) -> None:
    with pytest.raises(NotEnoughData, match="at least 4 normal rows, and 3 of collection 'flowers'"):
        fit_anomaly(parts(good=3), FitOptions(normal="good"))


def test_four_rows_are_enough(given: Make) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 300))
    head = fit_anomaly(given(rows, [None] * 4, task="anomaly"))
    assert head.distance_quantiles["0.99"] < 3
    assert head.network(np.asarray(rows * 30, np.float32)).min() > head.distance_quantiles["0.99"]


def test_a_validation_split_without_normal_rows(parts: Make) -> None:
    validation = np.arange(130) >= 100
    with pytest.raises(NotEnoughData, match="no normal row is held out"):
        fit_anomaly(parts(validation=validation), FitOptions(normal="good"))


def test_a_test_split(parts: Make) -> None:
    generator = np.random.default_rng(9)
    rows = generator.normal(size=(40, 12)).astype(np.float32)
    rows[:10] *= 3
    data = parts().with_test(rows, ["dent"] * 10 + ["good"] * 25 + [None] * 5)
    head = fit_anomaly(data, FitOptions(normal="good"))
    assert isinstance(head.test_evaluation, AnomalyEvaluation)
    assert (head.test_evaluation.n, head.test_evaluation.anomalies) == (35, 10)
    assert head.test_evaluation.auroc is not None
    assert head.test_evaluation.auroc > 0.9
    everything = fit_anomaly(data).test_evaluation
    assert isinstance(everything, AnomalyEvaluation)
    assert (everything.n, everything.auroc) == (40, None)


def test_a_test_split_without_normal_rows(parts: Make) -> None:
    data = parts().with_test(np.ones((3, 12), np.float32), ["dent"] * 3)
    head = fit_anomaly(data, FitOptions(normal="good"))
    assert head.test_evaluation is None
    assert any("no row of the test split has label = 'good'" in note for note in head.notes)
