from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.heads.evaluation.calibrate import cross_fitted, fit_temperature
from trunkline_service.heads.kinds.linear import Standardiser, fold_affine, softmax


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(1, 40),
    classes=st.integers(2, 7),
    offset=st.floats(-3, 3),
    spread=st.floats(0.1, 5),
    temperature=st.floats(0.3, 5),
)
def test_folding_changes_no_probability(
    seed: int, dim: int, classes: int, offset: float, spread: float, temperature: float
) -> None:
    generator = np.random.default_rng(seed)
    rows = (generator.normal(size=(20, dim)) * spread + offset).astype(np.float32)
    coefficients = generator.normal(size=(classes, dim)) / np.sqrt(dim)
    intercepts = generator.normal(size=classes)
    standardiser = Standardiser.of(rows)
    unfolded = softmax((standardiser(rows) @ coefficients.T + intercepts) / temperature)
    weights, bias = fold_affine(coefficients, intercepts, standardiser, temperature)
    assert weights.dtype == bias.dtype == np.float32
    np.testing.assert_allclose(softmax(rows @ weights.T + bias), unfolded, atol=1e-5)


def test_standardising_gives_mean_0_and_variance_1() -> None:
    rows = np.random.default_rng(0).normal(5, 3, size=(100, 4)).astype(np.float32)
    out = Standardiser.of(rows)(rows)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-12)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.floats(-1e3, 1e3), st.floats(0, 1e3))
def test_blocks_give_the_moments_of_the_whole(seed: int, rows: int, offset: float, drift: float) -> None:
    generator = np.random.default_rng(seed)
    drawn_rows = generator.normal(size=(rows, 3)) + offset + np.linspace(0, drift, rows)[:, None]
    exact = drawn_rows.astype(np.float32).astype(np.float64)
    found = Standardiser.of(drawn_rows.astype(np.float32))
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-9)
    spread = exact.std(axis=0)
    expected = np.where(spread <= 1e-5 * np.abs(exact.mean(axis=0)), 1.0, spread)
    np.testing.assert_allclose(found.scale, expected, rtol=1e-9)


def test_the_standardiser_of_many_rows_takes_little_memory() -> None:
    rows = np.random.default_rng(0).normal(size=(100_000, 16)).astype(np.float32)
    tracemalloc.start()
    Standardiser.of(rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < rows.nbytes / 4


def test_constant_and_nearly_constant_features_stay_small() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    rows[:, 0] = 0.1
    rows[:, 1] = 1000.0
    rows[::2, 1] = np.nextafter(np.float32(1000), np.float32(2000))
    out = Standardiser.of(rows)(rows)
    assert np.abs(out[:, :2]).max() < 1e-3
    assert out[:, 2].std() == pytest.approx(1)


def test_softmax_by_hand_and_far_from_zero() -> None:
    by_hand = softmax(np.array([[0.0, np.log(3.0)], [1e4, 1e4]]))
    np.testing.assert_allclose(by_hand, [[0.25, 0.75], [0.5, 0.5]])


def drawn(sharpness: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and classes drawn with probabilities softmax(sharpness * logits)."""
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(n, 4))
    cumulated = softmax(sharpness * logits).cumsum(axis=1)
    return logits, (generator.random((n, 1)) > cumulated).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_the_temperature_is_found_again(temperature: float) -> None:
    logits, codes = drawn(1 / temperature)
    assert fit_temperature(logits, codes) == pytest.approx(temperature, rel=0.1)


def test_the_temperature_is_the_best_on_a_fine_grid() -> None:
    logits, codes = drawn(0.6, n=300)
    eps = 1 / (len(codes) + 2)
    target = np.full(logits.shape, eps / 3)
    target[np.arange(len(codes)), codes] = 1 - eps

    def loss(temperature: float) -> float:
        return float(-(target * np.log(softmax(logits / temperature))).sum())

    found = fit_temperature(logits, codes)
    assert all(loss(found) <= loss(found * factor) for factor in (0.5, 0.9, 0.999, 1.001, 1.1, 2.0))


def test_few_separable_rows_do_not_become_certain() -> None:
    logits = np.array([[9.0, -9.0], [9.0, -9.0], [-9.0, 9.0], [-9.0, 9.0]])
    codes = np.array([0, 0, 1, 1])
    confidence = softmax(logits / fit_temperature(logits, codes)).max(axis=1)
    # Laplace: 4 right of 4 gives (4 + 1) / (4 + 2).
    np.testing.assert_allclose(confidence, 5 / 6, rtol=1e-6)


@pytest.mark.parametrize("logits", [np.zeros((6, 3)), np.tile([-5.0, 0.0, 5.0], (6, 1))])
def test_logits_without_signal_end_in_even_probabilities(logits: np.ndarray) -> None:
    codes = np.array([0, 1, 2, 0, 1, 2])
    probabilities = softmax(logits / fit_temperature(logits, codes))
    np.testing.assert_allclose(probabilities, 1 / 3, atol=5e-3)


def test_no_row_takes_part_in_its_own_temperature() -> None:
    logits, codes = drawn(1.0, n=40)
    assigned = np.arange(40) % 4
    before = cross_fitted(logits, codes, assigned)
    held_out = assigned == 2
    changed = codes.copy()
    changed[held_out] = (codes[held_out] + 1) % 4
    after = cross_fitted(logits, changed, assigned)
    np.testing.assert_array_equal(before[held_out], after[held_out])
    assert (before[~held_out] != after[~held_out]).any()


def test_equal_weights_change_no_temperature() -> None:
    logits, codes = drawn(0.6, n=300)
    weighted = fit_temperature(logits, codes, np.full(300, 7.0))
    assert weighted == pytest.approx(fit_temperature(logits, codes), rel=1e-9)


def test_the_weighted_temperature_is_the_best_on_a_fine_grid() -> None:
    logits, codes = drawn(0.6, n=300)
    weights = np.random.default_rng(1).uniform(0.01, 5, 300)
    # As many equal rows as would vary as much.
    eps = 1 / (weights.sum() ** 2 / (weights**2).sum() + 2)
    target = np.full(logits.shape, eps / 3)
    target[np.arange(300), codes] = 1 - eps

    def loss(temperature: float) -> float:
        return float(-(weights[:, None] * target * np.log(softmax(logits / temperature))).sum())

    found = fit_temperature(logits, codes, weights)
    assert all(loss(found) <= loss(found * factor) for factor in (0.5, 0.9, 0.999, 1.001, 1.1, 2.0))


def test_rows_of_next_to_no_weight_choose_no_temperature() -> None:
    logits, codes = drawn(1.0, n=400)
    light = np.arange(400) % 2 == 0
    wrong = np.where(light, (codes + 1) % 4, codes)
    weights = np.where(light, 1e-9, 1.0)
    alone = fit_temperature(logits[~light], codes[~light])
    assert fit_temperature(logits, wrong) > 2 * alone
    assert fit_temperature(logits, wrong, weights) == pytest.approx(alone, rel=1e-5)
    assigned = np.arange(400) // 2 % 4
    found = cross_fitted(logits, wrong, assigned, weights)[~light]
    expected = cross_fitted(logits[~light], codes[~light], assigned[~light])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_without_other_rows_the_temperature_is_1() -> None:
    logits = np.array([[0.3, -0.2, 1.0]])
    np.testing.assert_allclose(
        cross_fitted(logits, np.array([1]), np.zeros(1, np.int64)), softmax(logits), rtol=1e-6
    )


def test_features_of_hardly_any_spread_are_constant() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    rows[:, 0] *= np.float32(1e-38)
    np.testing.assert_array_equal(Standardiser.of(rows).scale[0], 1)
    assert Standardiser.of(rows)(rows)[:, 1].std() == pytest.approx(1)
