"""Platt scaling: slope and offset are found again, weighted, and without signal."""

from __future__ import annotations

import numpy as np
import pytest

from trunkline_service.heads.kinds.judged import sigmoid
from trunkline_service.heads.kinds.platt import fit_platt


def test_platt_scaling_finds_slope_and_offset_again() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(20_000, 3)) * [0.1, 1.0, 20.0] + [0.0, 3.0, -40.0]
    slope, offset = np.array([30.0, 2.0, 0.1]), np.array([0.5, -7.0, 3.0])
    indicator = generator.random(scores.shape) < sigmoid(scores * slope + offset)
    found_slope, found_offset = fit_platt(scores, indicator)
    np.testing.assert_allclose(found_slope, slope, rtol=0.1)
    np.testing.assert_allclose(found_offset, offset, rtol=0.1, atol=0.1)


def test_platt_scaling_is_the_logistic_regression_on_smoothed_targets() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(1)
    scores = generator.normal(size=(60, 1))
    indicator = scores + generator.normal(size=(60, 1)) > 0.4
    having = indicator.sum()
    high, low = (having + 1) / (having + 2), 1 / (60 - having + 2)
    target = np.where(indicator, high, low)[:, 0]
    reference = LogisticRegression(C=1e10, tol=1e-10).fit(
        np.concatenate([scores, scores]), [1] * 60 + [0] * 60, sample_weight=[*target, *(1 - target)]
    )
    slope, offset = fit_platt(scores, indicator)
    assert slope[0] == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    assert offset[0] == pytest.approx(reference.intercept_[0], rel=1e-4, abs=1e-5)


def test_platt_scaling_without_signal_is_the_share_of_rows() -> None:
    indicator = np.tile([[True, False]], (10, 1)) & (np.arange(10) < 4)[:, None]
    constant = np.zeros((10, 2))
    slope, offset = fit_platt(constant, indicator)
    np.testing.assert_array_equal(slope, 0)
    np.testing.assert_allclose(sigmoid(offset[None])[0], [(4 * 5 / 6 + 6 / 8) / 10, 1 / 12], rtol=1e-6)
    wrong_way, _ = fit_platt(-indicator.astype(np.float64), indicator)
    assert wrong_way[0] == 0
    separable, _ = fit_platt(indicator.astype(np.float64), indicator)
    assert 1 < separable[0] < 100


def test_weighted_platt_scaling_sees_heavy_rows_alone() -> None:
    generator = np.random.default_rng(2)
    scores = generator.normal(size=(400, 2))
    indicator = scores + generator.normal(size=(400, 2)) > 0
    light = np.arange(400) % 2 == 0
    mixed = np.where(light[:, None], ~indicator, indicator)
    found = fit_platt(scores, mixed, np.where(light, 1e-9, 5.0))
    np.testing.assert_allclose(found, fit_platt(scores[~light], indicator[~light]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fit_platt(scores, indicator, np.full(400, 3.0)), fit_platt(scores, indicator))
