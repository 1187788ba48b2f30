"""Evaluations of multi-label, regression and anomaly heads, against scikit-learn; their documents."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.evaluation.anomaly import evaluate_anomaly
from trunkline_service.heads.evaluation.evaluate import Evaluation, evaluate
from trunkline_service.heads.evaluation.kinds import evaluation_from_json
from trunkline_service.heads.evaluation.multi_label import evaluate_multi_label
from trunkline_service.heads.evaluation.regression import evaluate_regression
from trunkline_service.heads.kinds.linear import softmax

seeds = st.integers(0, 2**32 - 1)


def single_label(classes=3, n=60, seed=1, **options):
    generator = np.random.default_rng(seed)
    codes = generator.permutation(np.arange(n) % classes)
    probabilities = softmax(generator.normal(size=(n, classes)) + np.eye(classes)[codes])
    return evaluate(codes, probabilities, [f"class {k}" for k in range(classes)], 5, **options)


def multi_label(n=60, count=4, seed=1, **options):
    generator = np.random.default_rng(seed)
    indicator = generator.random((n, count)) < 0.3
    probabilities = np.clip(generator.random((n, count)) * 0.7 + 0.3 * indicator, 0.001, 0.999)
    labels = [f"label {k}" for k in range(count)]
    return indicator, probabilities, evaluate_multi_label(indicator, probabilities, labels, 5, **options)


def regression(n=80, count=2, seed=1, missing=False):
    generator = np.random.default_rng(seed)
    values = generator.normal(1000, 20, (n, count))
    predicted = values + generator.normal(0, 8, (n, count))
    if missing:
        values[generator.random((n, count)) < 0.3] = np.nan
    targets = [f"target {m}" for m in range(count)]
    return values, predicted, evaluate_regression(values, predicted, targets, 5)


def anomaly(n=200, seed=1, share=0.1):
    generator = np.random.default_rng(seed)
    normal = np.arange(n) >= share * n
    scores = np.round(generator.normal(size=n) + 2 * ~normal, 1)
    return normal, scores, evaluate_anomaly(normal, scores, 5)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_multi_label_figures_are_scikit_learns(seed):
    from sklearn import metrics

    indicator, probabilities, found = multi_label(seed=seed)
    given = probabilities >= 0.5
    assert found.macro_f1 == pytest.approx(
        metrics.f1_score(indicator, given, average="macro", zero_division=0)
    )
    assert found.micro_f1 == pytest.approx(metrics.f1_score(indicator, given, average="micro"))
    assert found.exact_match == pytest.approx(metrics.accuracy_score(indicator, given))
    assert found.hamming_loss == pytest.approx(metrics.hamming_loss(indicator, given))
    assert found.auroc == pytest.approx(metrics.roc_auc_score(indicator, probabilities))
    assert found.average_precision == pytest.approx(metrics.average_precision_score(indicator, probabilities))
    assert found.log_loss == pytest.approx(metrics.log_loss(indicator.ravel(), probabilities.ravel()))
    everywhere = metrics.f1_score(indicator, np.ones_like(indicator), average="macro")
    assert found.baseline_macro_f1 == pytest.approx(everywhere)
    for low, high in found.intervals.values():
        assert 0 <= low <= high <= 1
    low, high = found.intervals["exact_match"]
    assert low <= found.exact_match <= high


@settings(max_examples=25, deadline=None)
@given(seed=seeds, missing=st.booleans())
def test_regression_figures_are_scikit_learns(seed, missing):
    from sklearn import metrics

    values, predicted, found = regression(seed=seed, missing=missing)
    for m, report in enumerate(found.per_target):
        there = ~np.isnan(values[:, m])
        truth, said = values[there, m], predicted[there, m]
        assert report.n == there.sum()
        assert report.r2 == pytest.approx(metrics.r2_score(truth, said))
        assert report.mae == pytest.approx(metrics.mean_absolute_error(truth, said))
        assert report.rmse == pytest.approx(metrics.root_mean_squared_error(truth, said))
    assert found.r2 == pytest.approx(np.mean([report.r2 for report in found.per_target]))
    for name in ("r2", "mae", "rmse"):
        low, high = found.intervals[name]
        assert low <= getattr(found, name) <= high


def test_a_target_far_from_zero_keeps_its_digits():
    values = 1e6 + np.arange(500.0)[:, None] % 7
    found = evaluate_regression(values, values + 0.5, ["x"], 5)
    low, high = found.intervals["rmse"]
    assert (low, high) == pytest.approx((0.5, 0.5))
    assert found.intervals["r2"] == pytest.approx((found.r2, found.r2), abs=0.05)


@pytest.mark.parametrize(("error", "r2"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_target_that_never_varies(error, r2):
    found = evaluate_regression(np.full((10, 1), 3.0), np.full((10, 1), 3.0 + error), ["x"], 5)
    assert found.r2 == r2
    assert found.intervals["r2"] == (r2, r2)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_anomaly_figures_are_scikit_learns(seed):
    from sklearn import metrics

    normal, scores, found = anomaly(seed=seed)
    assert found.anomalies == 20
    assert found.auroc == pytest.approx(metrics.roc_auc_score(~normal, scores))
    assert found.average_precision == pytest.approx(metrics.average_precision_score(~normal, scores))
    false, true, _ = metrics.roc_curve(~normal, scores, drop_intermediate=False)
    assert found.false_positive_rate == pytest.approx(false[np.argmax(true >= 0.95)])
    low, high = found.intervals["auroc"]
    assert low <= found.auroc <= high
    assert found.quantiles["0.9"] == pytest.approx(np.quantile(scores[normal], 0.9))


def test_without_known_anomalies_only_normal_scores_are_told():
    _, scores, found = anomaly(share=0)
    assert (found.auroc, found.average_precision, found.false_positive_rate) == (None, None, None)
    assert found.intervals == {}
    assert found.headline == ("99% of normal scores", pytest.approx(np.quantile(scores, 0.99)))


def test_headlines():
    assert single_label().headline[0] == "accuracy"
    assert multi_label()[2].headline[0] == "macro-F1"
    assert regression()[2].headline[0] == "R2"
    assert anomaly()[2].headline[0] == "AUROC"


def test_two_classes_have_the_second_ones_auroc():
    from sklearn.metrics import average_precision_score, roc_auc_score

    codes = np.array([0, 0, 1, 1, 1])
    one = np.array([0.2, 0.6, 0.5, 0.7, 0.9])
    found = evaluate(codes, np.column_stack([1 - one, one]), ["a", "b"], 2)
    assert found.auroc == pytest.approx(roc_auc_score(codes, one))
    both = [average_precision_score(codes == 0, 1 - one), average_precision_score(codes == 1, one)]
    assert found.average_precision == pytest.approx(np.mean(both))


def test_many_classes_keep_their_mistakes_and_no_matrix():
    found = single_label(classes=201, n=2000)
    small = single_label(classes=5, n=2000)
    assert found.confusion == ()
    assert 0 < len(found.confused) <= 1000
    counts = [count for *_, count in found.confused]
    assert counts == sorted(counts, reverse=True)
    assert small.confused == ()
    wrong = round(2000 * (1 - small.accuracy))
    assert sum(count for *_, count in small.mistakes()) == wrong
    true, predicted, count = small.mistakes()[0]
    assert small.confusion[int(true[-1])][int(predicted[-1])] == count == max(c for *_, c in small.mistakes())
    assert found.mistakes()[0][0].startswith("class ")


def test_weights_are_repeated_rows():
    generator = np.random.default_rng(5)
    codes = np.arange(60) % 3
    probabilities = softmax(generator.normal(size=(60, 3)) + np.eye(3)[codes])
    times = generator.integers(1, 4, 60)
    classes = ["a", "b", "c"]
    weighted = evaluate(codes, probabilities, classes, 5, weights=times.astype(float))
    repeated = evaluate(np.repeat(codes, times), np.repeat(probabilities, times, axis=0), classes, 5)
    for name in (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "log_loss",
        "ece",
        "baseline_accuracy",
        "auroc",
    ):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name)), name
    for mine, other in zip(weighted.per_class, repeated.per_class, strict=True):
        assert (mine.precision, mine.recall, mine.f1) == pytest.approx(
            (other.precision, other.recall, other.f1)
        )
    low, high = weighted.accuracy_interval
    assert low < weighted.accuracy < high
    # Rows that vary in weight say less than as many equal ones.
    plain = evaluate(codes, probabilities, classes, 5)
    assert high - low > 0.99 * (plain.accuracy_interval[1] - plain.accuracy_interval[0])


def test_calibration_before_and_after():
    sure = np.array([[0.99, 0.01]] * 10)
    codes = np.array([0] * 7 + [1] * 3)
    found = evaluate(codes, np.array([[0.7, 0.3]] * 10), ["a", "b"], 5, uncalibrated=sure)
    assert found.ece == pytest.approx(0.0, abs=1e-12)
    assert found.ece_before == pytest.approx(0.29)
    indicator = codes[:, None] == [0]
    multi = evaluate_multi_label(indicator, np.full((10, 1), 0.7), ["a"], 5, uncalibrated=sure[:, :1])
    assert multi.ece == pytest.approx(0.0, abs=1e-12)
    assert multi.ece_before == pytest.approx(0.29)


DOCUMENTS = {
    "single-label": single_label,
    "multi-label": lambda: multi_label()[2],
    "regression": lambda: regression()[2],
    "anomaly": lambda: anomaly()[2],
}


@pytest.mark.parametrize("task", DOCUMENTS)
def test_documents_read_back_equal(task):
    found = DOCUMENTS[task]()
    assert evaluation_from_json(task, json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


@pytest.mark.parametrize("task", DOCUMENTS)
@pytest.mark.parametrize("change", [{"n": "many"}, {"extra": 1}, {"intervals": {"x": [1]}}])
def test_broken_documents_are_refused(task, change):
    document = json.loads(json.dumps(DOCUMENTS[task]().to_json()))
    with pytest.raises(ModelFileError, match=next(iter(change))):
        evaluation_from_json(task, document | change)


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("multi-label", {"per_class": [{"label": "a"}]}, r"per_class\[0\] lacks"),
        ("regression", {"per_target": [3]}, r"per_target\[0\] must be an object"),
        ("anomaly", {"quantiles": {"0.5": 1}}, "quantiles lacks 0.9"),
        ("anomaly", {"quantiles": {"0.5": "x"}}, "quantiles: 0.5 must be float"),
        ("single-label", {"confused": [[0, 1]]}, r"confused\[0\] must be two classes and a count"),
        ("single-label", {"confused": [[0, 3, 1]]}, r"confused\[0\] must be two classes and a count"),
    ],
)
def test_broken_parts_are_named(task, change, message):
    document = json.loads(json.dumps(DOCUMENTS[task]().to_json()))
    with pytest.raises(ModelFileError, match=message):
        evaluation_from_json(task, document | change)


def test_heads_of_before_lack_the_newer_figures():
    document = single_label().to_json()
    for name in ("ece_before", "auroc", "average_precision", "intervals", "confused"):
        del document[name]
    found = Evaluation.from_json(json.loads(json.dumps(document)))
    assert (found.ece_before, found.auroc, found.average_precision) == (None, None, None)
    assert (found.intervals, found.confused) == ({}, ())


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_weighted_multi_label_figures_are_scikit_learns(seed):
    from sklearn import metrics

    weights = np.random.default_rng(seed).uniform(0.1, 20, 60)
    indicator, probabilities, found = multi_label(seed=seed, weights=weights)
    given, options = probabilities >= 0.5, {"sample_weight": weights}
    macro = metrics.f1_score(indicator, given, average="macro", zero_division=0, **options)
    assert found.macro_f1 == pytest.approx(macro)
    assert found.micro_f1 == pytest.approx(metrics.f1_score(indicator, given, average="micro", **options))
    assert found.exact_match == pytest.approx(metrics.accuracy_score(indicator, given, **options))
    assert found.hamming_loss == pytest.approx(metrics.hamming_loss(indicator, given, **options))
    assert found.auroc == pytest.approx(metrics.roc_auc_score(indicator, probabilities, **options))
    average = metrics.average_precision_score(indicator, probabilities, **options)
    assert found.average_precision == pytest.approx(average)
    each = np.repeat(weights, 4)
    loss = metrics.log_loss(indicator.ravel(), probabilities.ravel(), sample_weight=each)
    assert found.log_loss == pytest.approx(loss)
    assert [report.support for report in found.per_class] == indicator.sum(axis=0).tolist()


@settings(max_examples=15, deadline=None)
@given(seed=seeds, missing=st.booleans())
def test_weighted_regression_figures_are_scikit_learns(seed, missing):
    from sklearn import metrics

    values, predicted, _ = regression(seed=seed, missing=missing)
    weights = np.random.default_rng(seed).uniform(0.1, 20, 80)
    found = evaluate_regression(values, predicted, ["a", "b"], 5, weights=weights)
    for m, report in enumerate(found.per_target):
        there = ~np.isnan(values[:, m])
        truth, said, own = values[there, m], predicted[there, m], weights[there]
        assert report.r2 == pytest.approx(metrics.r2_score(truth, said, sample_weight=own))
        assert report.mae == pytest.approx(metrics.mean_absolute_error(truth, said, sample_weight=own))
        root = metrics.root_mean_squared_error(truth, said, sample_weight=own)
        assert report.rmse == pytest.approx(root)


def test_whole_weights_are_rows_given_so_often():
    indicator, probabilities, _ = multi_label()
    weights = np.arange(60) % 3 + 1
    labels = [f"label {k}" for k in range(4)]
    often = evaluate_multi_label(
        np.repeat(indicator, weights, axis=0), np.repeat(probabilities, weights, axis=0), labels, 5
    )
    found = evaluate_multi_label(indicator, probabilities, labels, 5, weights=weights.astype(float))
    for name in ("macro_f1", "exact_match", "hamming_loss", "log_loss", "ece", "auroc", "baseline_macro_f1"):
        assert getattr(found, name) == pytest.approx(getattr(often, name))


def test_intervals_are_of_the_weighted_figures():
    # The light half is all wrong.
    light = np.arange(200) % 2 == 0
    weights = np.where(light, 1e-6, 1.0)
    indicator = np.arange(200)[:, None] % 3 == 0
    probabilities = np.where(indicator ^ light[:, None], 0.9, 0.1)
    found = evaluate_multi_label(indicator, probabilities, ["a"], 5, weights=weights)
    assert all(low > 0.99 for low, _ in found.intervals.values())
    values = np.arange(200.0)[:, None]
    predicted = values + np.where(light, 1e3, 0.0)[:, None]
    assert evaluate_regression(values, predicted, ["x"], 5, weights=weights).intervals["mae"][1] < 0.01
