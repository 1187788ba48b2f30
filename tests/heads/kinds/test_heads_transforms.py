from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.heads.kinds.transforms import fit_transform
from trunkline_service.heads.options import Transform

NAMES: tuple[Transform, ...] = ("standardise", "l2", "whiten", "none")


def rows_of(seed: int, rows: int, dim: int, offset: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(rows, dim)) @ generator.normal(size=(dim, dim)) + offset
    return mixed.astype(np.float32)


@settings(max_examples=40)
@given(
    name=st.sampled_from(NAMES),
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(2, 30),
    dim=st.integers(1, 20),
    offset=st.floats(-5, 5),
    temperature=st.floats(0.3, 5),
)
def test_folding_changes_nothing(
    name: Transform, seed: int, rows: int, dim: int, offset: float, temperature: float
) -> None:
    data = rows_of(seed, rows, dim, offset)
    transform = fit_transform(name, data)
    seen = transform(data)
    assert seen.dtype == np.float32
    generator = np.random.default_rng(seed)
    coefficients = generator.normal(size=(3, seen.shape[1]))
    intercepts = generator.normal(size=3)
    linear = transform.fold(coefficients, intercepts, temperature)
    raw = data if transform.normaliser is None else transform.normaliser(data)
    expected = (seen @ coefficients.T + intercepts) / temperature
    # Float32 weights: what rounding them costs grows with what is added up.
    scale = np.abs(raw) @ np.abs(linear.W).T + np.abs(linear.b) + np.abs(expected) + 1
    assert (np.abs(linear(raw) - expected) / scale).max() < 1e-5
    back, level = transform.unfold(linear, temperature)
    np.testing.assert_allclose(back, coefficients, rtol=1e-4, atol=1e-4 * np.abs(coefficients).max())
    assert np.abs(level - intercepts).max() < 1e-4 * (
        1 + np.abs(linear.W * temperature).sum() * np.abs(data).max()
    )


def test_standardised_rows_have_mean_0_and_variance_1() -> None:
    out = fit_transform("standardise", rows_of(0, 200, 5, 9.0))(rows_of(0, 200, 5, 9.0))
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(("rows", "dim", "kept"), [(300, 6, 6), (12, 40, 11)])
def test_whitened_rows_have_the_identity_as_covariance(rows: int, dim: int, kept: int) -> None:
    data = rows_of(1, rows, dim, 3.0)
    out = fit_transform("whiten", data)(data)
    assert out.shape == (rows, kept)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(out.T, bias=True), np.eye(kept), atol=1e-4)


def test_whitening_drops_directions_without_variance() -> None:
    data = rows_of(2, 50, 4)
    collinear = np.hstack([data, data[:, :1] + data[:, 1:2], np.full((50, 1), 7, np.float32)])
    out = fit_transform("whiten", collinear)(collinear)
    assert out.shape == (50, 4)
    assert np.abs(out).max() < 10


def test_rows_that_are_all_equal_become_zeros() -> None:
    equal = np.full((5, 3), 0.1, np.float32)
    for name in ("standardise", "whiten"):
        assert np.abs(fit_transform(name, equal)(equal)).max() < 1e-6


def test_l2_gives_length_1_and_may_subtract_the_mean_row() -> None:
    data = rows_of(3, 20, 5, 4.0)
    plain, centred = fit_transform("l2", data), fit_transform("l2", data, centred=True)
    np.testing.assert_allclose(plain(data), data / np.linalg.norm(data, axis=1, keepdims=True), rtol=1e-5)
    moved = data - data.mean(axis=0)
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(centred(data), expected, atol=1e-5)


def test_none_is_none() -> None:
    data = rows_of(4, 6, 3)
    assert fit_transform("none", data)(data) is data
