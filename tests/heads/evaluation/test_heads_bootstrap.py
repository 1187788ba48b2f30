"""Bootstrap intervals: they hold the truth about as often as they say, and agree with plain resampling."""

from __future__ import annotations

import numpy as np
import pytest

from trunkline_service.heads.evaluation.bootstrap import (
    class_intervals,
    interval,
    resamples_for,
    row_weights,
)


def answers(n, classes, seed, wrong=0.3):
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, classes, n)
    slips = generator.random(n) < wrong
    return codes, np.where(slips, (codes + generator.integers(1, classes, n)) % classes, codes)


def plain_figures(codes, predicted, classes):
    """Accuracy, balanced accuracy and macro-F1 by their definitions."""
    table = np.zeros((classes, classes))
    np.add.at(table, (codes, predicted), 1)
    hits, support, named = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    f1 = 2 * hits / (support + named)
    return hits.sum() / table.sum(), (hits / support).mean(), f1.mean()


@pytest.mark.parametrize("classes", [2, 5])
def test_intervals_are_those_of_rows_drawn_one_by_one(classes):
    codes, predicted = answers(300, classes, seed=1)
    found = class_intervals(codes, predicted, classes)
    generator = np.random.default_rng(2)
    drawn = generator.integers(0, 300, (1000, 300))
    figures = np.array([plain_figures(codes[rows], predicted[rows], classes) for rows in drawn])
    for name, column in zip(("accuracy", "balanced_accuracy", "macro_f1"), figures.T, strict=True):
        low, high = interval(column)
        # Two samples of the same distribution: the ends agree within a fraction of the width.
        assert found[name] == pytest.approx((low, high), abs=0.2 * (high - low))


def test_intervals_cover_the_truth():
    held = 0
    for seed in range(100):
        low, high = class_intervals(*answers(200, 3, seed), 3)["accuracy"]
        held += low <= 0.7 <= high
    # Binomial(100, 0.95) leaves 87..100 about once in a thousand seeds; these seeds are fixed.
    assert held >= 87


def test_equal_weights_change_nothing_but_the_draw():
    codes, predicted = answers(500, 4, seed=3)
    plain = class_intervals(codes, predicted, 4)
    weighted = class_intervals(codes, predicted, 4, np.full(500, 2.5))
    for name, (low, high) in plain.items():
        assert weighted[name] == pytest.approx((low, high), abs=0.25 * (high - low))


def test_the_heavy_rows_decide():
    codes = np.array([0] * 50 + [1] * 50)
    weights = np.where(codes == 0, 100.0, 0.01)
    low, _ = class_intervals(codes, np.zeros(100, np.int64), 2, weights)["accuracy"]
    assert low > 0.99


def test_the_same_rows_give_the_same_intervals():
    case = answers(100, 3, seed=4)
    assert class_intervals(*case, 3) == class_intervals(*case, 3)


def test_all_right_is_all_ones():
    codes = np.arange(30) % 3
    assert class_intervals(codes, codes, 3) == dict.fromkeys(
        ("accuracy", "balanced_accuracy", "macro_f1"), (1.0, 1.0)
    )


def test_all_wrong_is_all_zeros():
    codes = np.arange(30) % 3
    found = class_intervals(codes, (codes + 1) % 3, 3)
    assert set(found.values()) == {(0.0, 0.0)}


def test_a_class_that_no_row_has_counts_as_in_the_figure():
    codes = np.arange(30) % 2
    assert class_intervals(codes, codes, 4)["macro_f1"] == (0.5, 0.5)


def test_fewer_resamples_for_more_work():
    assert resamples_for(1) == 2000
    assert resamples_for(10_000) == 800
    assert resamples_for(10**9) == 200


def test_row_weights_are_counts_with_mean_and_variance_one():
    drawn = np.concatenate(list(row_weights(30_000, 100)))
    assert drawn.shape == (100, 30_000)
    assert drawn.mean() == pytest.approx(1, abs=0.005)
    assert drawn.var() == pytest.approx(1, abs=0.01)
    assert len(np.unique(drawn, axis=0)) == 100
