from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.heads.kinds.distance import (
    cross_fitted_distances,
    distance_quantiles,
    fit_distance,
    fit_distance_and_quantiles,
    quantiles_of,
)


def rows_of(seed: int, rows: int, dim: int, offset: float = 2.0) -> np.ndarray:
    """Rows whose variances fall geometrically, along random directions."""
    generator = np.random.default_rng(seed)
    turn = np.linalg.qr(generator.normal(size=(dim, dim)))[0]
    spread = 3.0 * 0.9 ** np.arange(dim)
    return ((generator.normal(size=(rows, dim)) * spread) @ turn.T + offset).astype(np.float32)


def test_with_every_direction_it_is_the_mahalanobis_distance() -> None:
    data = rows_of(0, 400, 7)
    found = fit_distance(data)
    moved = data.astype(np.float64) - data.mean(axis=0, dtype=np.float64)
    inverse = np.linalg.inv(moved.T @ moved / len(data))
    expected = np.sqrt(np.einsum("ij,jk,ik->i", moved, inverse, moved) / 7)
    np.testing.assert_allclose(found(data)[:, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(7), atol=1e-5)


def test_the_largest_variances_and_the_mean_of_the_rest() -> None:
    data = rows_of(1, 2000, 40)
    found = fit_distance(data, max_rank=10)
    values, vectors = np.linalg.eigh(np.cov(data.T.astype(np.float64), bias=True))
    np.testing.assert_allclose(found.variances, values[::-1][:10], rtol=1e-2)
    assert found.rest == pytest.approx((values.sum() - found.variances.sum()) / 30, rel=1e-4)
    # The subspace of the first five is found exactly; the last ones run into what comes next.
    inside = np.linalg.norm(vectors[:, ::-1][:, :5].T @ found.directions.T, axis=1)
    np.testing.assert_allclose(inside, 1, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rows=st.sampled_from([1, 2, 3, 4, 5, 9, 30, 200]),
    dim=st.sampled_from([1, 2, 7, 50]),
    rank=st.sampled_from([1, 3, 64]),
    degenerate=st.sampled_from(["no", "equal", "collinear", "zero"]),
)
def test_any_rows_give_finite_distances(seed: int, rows: int, dim: int, rank: int, degenerate: str) -> None:
    data = rows_of(seed, rows, dim)
    if degenerate == "equal":
        data[:] = data[0]
    elif degenerate == "collinear":
        data[:, dim // 2 :] = data[:, :1]
    elif degenerate == "zero":
        data[:] = 0
    found = fit_distance(data, max_rank=rank)
    new = np.concatenate([data, rows_of(seed + 1, 3, dim)])
    assert np.isfinite(found(new)).all()
    assert (found(new) >= 0).all()
    assert (found.variances > 0).all()
    assert found.rest > 0
    assert 1 <= len(found.variances) <= min(rank, dim, max(1, rows // 5))
    assert (found.mean.dtype, found.directions.dtype, found.variances.dtype) == (np.float32,) * 3
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(len(found.variances)), atol=1e-4)


@pytest.mark.parametrize(("rows", "dim"), [(4, 384), (30, 500), (40, 8), (3000, 50)])
def test_typical_rows_are_about_1_away_and_strange_ones_farther(rows: int, dim: int) -> None:
    data = np.random.default_rng(0).normal(3, 2, size=(rows, dim)).astype(np.float32)
    found, quantiles = fit_distance_and_quantiles(data)
    assert 0.5 < np.median(found(data)) < 1.1
    new = np.random.default_rng(1).normal(3, 2, size=(200, dim)).astype(np.float32)
    assert 0.7 < np.median(found(new)) < 1.6
    assert (found(new * 3) > quantiles["0.99"]).mean() > 0.95


@pytest.mark.parametrize("dim", [20, 400])
def test_held_out_quantiles_hold_for_new_rows(dim: int) -> None:
    data = np.random.default_rng(0).normal(size=(300, dim)).astype(np.float32)
    found, quantiles = fit_distance_and_quantiles(data)
    assert list(quantiles) == ["0.5", "0.9", "0.95", "0.99", "0.999"]
    assert list(quantiles.values()) == sorted(quantiles.values())
    new = found(np.random.default_rng(1).normal(size=(4000, dim)).astype(np.float32))[:, 0]
    assert (new < quantiles["0.5"]).mean() == pytest.approx(0.55, abs=0.15)
    assert (new < quantiles["0.99"]).mean() > 0.97
    # On the rows themselves, it would have promised too much.
    assert np.quantile(found(data), 0.95) < quantiles["0.95"]


def test_quantiles_by_rank() -> None:
    assert quantiles_of(np.array([3.0, np.nan, 1.0, 2.0])) == {
        "0.5": 2.0,
        "0.9": 3.0,
        "0.95": 3.0,
        "0.99": 3.0,
        "0.999": 3.0,
    }
    assert quantiles_of(np.arange(1.0, 1000.0)) == {
        "0.5": 500.0,
        "0.9": 900.0,
        "0.95": 950.0,
        "0.99": 990.0,
        "0.999": 999.0,
    }
    assert quantiles_of(np.array([np.nan])) == {}


def test_each_row_is_measured_from_rows_of_other_folds() -> None:
    data = rows_of(2, 60, 5)
    assigned = np.arange(60) % 3
    assigned[::7] = -1
    normal = np.arange(60) % 5 != 0
    everything, held_out = cross_fitted_distances(data, assigned, normal)
    np.testing.assert_array_equal(np.isnan(held_out), assigned < 0)
    for fold in range(3):
        mine = assigned == fold
        expected = fit_distance(data[normal & ~mine])(data[mine])[:, 0]
        np.testing.assert_allclose(held_out[mine], expected, rtol=1e-3)
    np.testing.assert_allclose(everything(data), fit_distance(data[normal])(data), rtol=1e-5)


def test_a_fold_without_which_one_row_is_left_is_not_measured() -> None:
    data = rows_of(3, 4, 6)
    _, held_out = cross_fitted_distances(data, np.array([0, 0, 0, 1]))
    assert np.isnan(held_out[:3]).all()
    assert np.isfinite(held_out[3])
    assert distance_quantiles(data[:2]) == {}


def test_many_rows_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_service.heads.kinds.distance._MOST_ROWS", 100)
    data = rows_of(4, 300, 4)
    first, again, other = (fit_distance(data, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.mean, again.mean)
    assert (first.mean != other.mean).any()
    assert np.median(first(data)) == pytest.approx(1, abs=0.3)
    assert distance_quantiles(data, np.arange(300) % 5)["0.5"] == pytest.approx(1, abs=0.3)
