from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.evaluation.evaluate import (
    Evaluation,
    evaluate,
    expected_calibration_error,
    log_loss,
    wilson_interval,
)
from trunkline_service.heads.kinds.linear import softmax


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 6), n=st.integers(12, 80))
def test_figures_are_scikit_learns(seed: int, classes: int, n: int) -> None:
    from sklearn import metrics

    generator = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(classes), generator.integers(0, classes, n - classes)])
    probabilities = softmax(generator.normal(size=(n, classes)) + np.eye(classes)[codes])
    labels = [f"class {k}" for k in range(classes)]
    found = evaluate(codes, probabilities, labels, folds=5)
    predicted = probabilities.argmax(axis=1)

    assert found.n == n
    assert found.accuracy == pytest.approx(metrics.accuracy_score(codes, predicted))
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(codes, predicted))
    assert found.macro_f1 == pytest.approx(
        metrics.f1_score(codes, predicted, average="macro", labels=range(classes), zero_division=0)
    )
    assert found.log_loss == pytest.approx(metrics.log_loss(codes, probabilities))
    assert np.array_equal(found.confusion, metrics.confusion_matrix(codes, predicted))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        codes, predicted, labels=range(classes), zero_division=0
    )
    reports = found.per_class
    assert [r.label for r in reports] == labels
    assert [r.support for r in reports] == support.tolist()
    assert [r.precision for r in reports] == pytest.approx(precision.tolist())
    assert [r.recall for r in reports] == pytest.approx(recall.tolist())
    assert [r.f1 for r in reports] == pytest.approx(f1.tolist())


def test_the_baseline_names_the_largest_class() -> None:
    codes = np.array([0, 1, 1, 1, 2])
    found = evaluate(codes, np.full((5, 3), 1 / 3), ["a", "b", "c"], folds=2)
    assert found.baseline_accuracy == 0.6
    assert found.accuracy == 0.2
    assert found.confusion == ((1, 0, 0), (3, 0, 0), (1, 0, 0))


def test_calibration_error_by_hand() -> None:
    # Confidences 0.9, 0.9 (one right) and 0.6, 0.6 (both right): (|1 - 1.8| + |2 - 1.2|) / 4.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    codes = np.array([0, 1, 0, 1])
    assert expected_calibration_error(codes, probabilities) == pytest.approx(0.4)


def test_calibration_error_at_the_ends() -> None:
    certain = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert expected_calibration_error(np.array([0, 0]), certain) == 0.0
    assert expected_calibration_error(np.array([1, 1]), certain) == 1.0


def test_the_edge_of_a_bin_belongs_to_the_bin_below() -> None:
    # In 2 bins 0.5 falls into the lower one, apart from 0.75: |1 - 0.5| / 2 + |0 - 0.75| / 2.
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25]])
    assert expected_calibration_error(np.array([0, 1]), probabilities, bins=2) == pytest.approx(0.625)


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    assert log_loss(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(52 * np.log(2))


def test_wilson_by_hand() -> None:
    # 8 of 10 at 95%: the interval that textbooks print is (0.4901, 0.9433).
    assert wilson_interval(8, 10) == pytest.approx((0.49016, 0.94331), abs=1e-4)
    low, high = wilson_interval(10, 10)
    assert low == pytest.approx(0.72246, abs=1e-4)
    assert high == pytest.approx(1.0)
    assert wilson_interval(0, 10)[0] == 0.0


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(pair: tuple[int, int]) -> None:
    successes, n = pair
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1


@pytest.fixture
def document() -> dict[str, Any]:
    probabilities = softmax(np.random.default_rng(1).normal(size=(9, 3)))
    found = evaluate(np.arange(9) % 3, probabilities, ["a", "b", "<c>"], folds=3)
    loaded = json.loads(json.dumps(found.to_json()))
    assert Evaluation.from_json(loaded) == found
    return loaded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ece": "low"}, "ece must be float"),
        ({"n": 2.5}, "n must be int"),
        ({"n": True}, "n must be int"),
        ({"extra": 1}, "has unknown extra"),
        ({"accuracy_interval": [0.1]}, "two numbers"),
        ({"accuracy_interval": [0.1, "x"]}, r"accuracy_interval\[1\]"),
        ({"per_class": [{"label": "a"}]}, r"per_class\[0\] lacks"),
        ({"per_class": [3]}, r"per_class\[0\] must be an object"),
        ({"confusion": [[1, "x"]]}, r"confusion\[0\]\[1\]"),
        ({"confusion": [4]}, r"confusion\[0\] must be list"),
    ],
)
def test_a_broken_document_is_refused(document: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        Evaluation.from_json(document | change)


def test_a_missing_figure_is_named(document: dict[str, Any]) -> None:
    del document["macro_f1"]
    with pytest.raises(ModelFileError, match="lacks macro_f1"):
        Evaluation.from_json(document)
