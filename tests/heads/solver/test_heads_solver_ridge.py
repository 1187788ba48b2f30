"""The ridge solver: leaving a row or a fold out is fitting without it, as scikit-learn does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.heads.solver.ridge import FoldPath, LeaveOneOut

ALPHAS = np.geomspace(1e-3, 1e4, 15)


def problem(
    seed: int, rows: int, dim: int, outputs: int, shape: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, targets and weights, of a shape that is hard for a solver."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, dim)) + generator.normal(size=dim)
    if shape == "collinear":
        x[:, dim // 2 :] = x[:, : dim - dim // 2]
    elif shape == "constant":
        x[:, 0] = 3.0
    elif shape == "duplicates":
        x[rows // 2 :] = x[: rows - rows // 2]
    x = x.astype(np.float32)
    y = x @ generator.normal(size=(dim, outputs)) + generator.normal(size=(rows, outputs))
    return x, y, generator.uniform(0.2, 3.0, rows)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(3, 40),
    dim=st.integers(1, 40),
    outputs=st.integers(1, 3),
    shape=st.sampled_from(["plain", "collinear", "constant", "duplicates"]),
    weighted=st.booleans(),
)
def test_leave_one_out_is_scikit_learns_ridge_cv(
    seed: int, rows: int, dim: int, outputs: int, shape: str, weighted: bool
) -> None:
    from sklearn.linear_model import RidgeCV

    x, y, weights = problem(seed, rows, dim, outputs, shape)
    weights = weights if weighted else np.ones(rows)
    reference = RidgeCV(ALPHAS, store_cv_results=True).fit(x.astype(np.float64), y, sample_weight=weights)
    path = LeaveOneOut(x, y, weights=weights if weighted else None)
    errors = path.errors(ALPHAS)
    theirs = reference.cv_results_.reshape(rows, outputs, -1).mean(axis=0).T * rows / weights.sum()
    np.testing.assert_allclose(errors, theirs, rtol=1e-6, atol=1e-9 * np.abs(theirs).max())
    chosen = ALPHAS[errors.mean(axis=1).argmin()]
    # Two penalties of the same error up to rounding are both right.
    best = theirs.mean(axis=1)
    assert best[list(ALPHAS).index(chosen)] == pytest.approx(best.min(), rel=1e-6)
    if chosen == reference.alpha_:
        coefficients, intercepts = path.spectrum.linear(np.full(outputs, chosen))
        scale = 1e-9 + np.abs(reference.coef_).max()
        np.testing.assert_allclose(coefficients, reference.coef_.reshape(outputs, -1), atol=1e-6 * scale)
        np.testing.assert_allclose(intercepts, np.ravel(reference.intercept_), atol=1e-5 * (1 + scale))


@pytest.mark.parametrize("transform", ["none", "standardise", "whiten"])
@pytest.mark.parametrize(("rows", "dim"), [(30, 5), (12, 30)])
def test_leaving_a_row_out_is_fitting_without_it(rows: int, dim: int, transform: Any) -> None:
    from sklearn.linear_model import Ridge

    x, y, weights = problem(0, rows, dim, 2, "plain")
    mean = np.average(x.astype(np.float64), weights=weights, axis=0)
    moved = x - mean
    covariance = (moved * weights[:, None]).T @ moved / weights.sum()
    seen = moved
    if transform == "standardise":
        seen = moved / np.sqrt(np.diag(covariance))
    elif transform == "whiten":
        values, vectors = np.linalg.eigh(covariance)
        kept = values > 1e-6 * values[-1]
        seen = moved @ vectors[:, kept] / np.sqrt(values[kept])
    alphas = np.array([0.3, 7.0])
    path = LeaveOneOut(x, y, weights=weights, transform=transform)
    predicted = path.predictions(alphas)
    for i in range(0, rows, 5):
        others = np.arange(rows) != i
        for m, alpha in enumerate(alphas):
            model = Ridge(alpha).fit(seen[others], y[others, m], sample_weight=weights[others])
            assert predicted[i, m] == pytest.approx(model.predict(seen[i : i + 1])[0], rel=1e-7)
    np.testing.assert_allclose(
        path.errors(alphas)[[0, 1], [0, 1]],
        np.average((predicted - y) ** 2, weights=weights, axis=0),
        rtol=1e-9,
    )


@pytest.mark.parametrize("transform", ["none", "standardise", "whiten"])
@pytest.mark.parametrize(("rows", "dim"), [(40, 5), (20, 30)])
def test_folds_are_fits_without_them(rows: int, dim: int, transform: Any) -> None:
    x, y, weights = problem(1, rows, dim, 2, "plain")
    assigned = np.arange(rows) % 4 - 1
    path = FoldPath(x, y, assigned, weights=weights, transform=transform)
    alphas = np.array([0.5, 4.0])
    predicted = path.predictions(alphas)
    np.testing.assert_array_equal(np.isnan(predicted).any(axis=1), assigned < 0)
    for fold in range(3):
        mine = assigned == fold
        alone = LeaveOneOut(x[~mine], y[~mine], weights=weights[~mine], transform=transform)
        coefficients, intercepts = alone.spectrum.linear(alphas)
        np.testing.assert_allclose(predicted[mine], x[mine] @ coefficients.T + intercepts, rtol=1e-6)
    whole = LeaveOneOut(x, y, weights=weights, transform=transform)
    for ours, expected in zip(path.spectrum.linear(alphas), whole.spectrum.linear(alphas), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)


def test_threads_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, weights = problem(2, 50, 4, 2, "plain")
    expected = LeaveOneOut(x, y, weights=weights)
    monkeypatch.setattr("trunkline_service.heads.solver.ridge._ROWS", 7)
    monkeypatch.setattr("trunkline_service.heads.solver.ridge._KEPT", 0)
    monkeypatch.setattr("trunkline_service.heads.solver.ridge._COEFFICIENTS", 30)
    with ThreadPoolExecutor(2) as executor:
        path = LeaveOneOut(x, y, weights=weights, executor=executor)
        np.testing.assert_allclose(path.errors(ALPHAS), expected.errors(ALPHAS), rtol=1e-9)
        folds = FoldPath(x, y, np.arange(50) % 3, executor=executor).errors(ALPHAS)
    np.testing.assert_allclose(folds, FoldPath(x, y, np.arange(50) % 3).errors(ALPHAS), rtol=1e-9)


@pytest.mark.parametrize("dim", [4, 60])
def test_errors_among_some_rows(dim: int) -> None:
    x, y, weights = problem(3, 50, dim, 2, "plain")
    some = np.arange(50) % 3 == 0
    for path in (LeaveOneOut(x, y, weights=weights), FoldPath(x, y, np.arange(50) % 4, weights=weights)):
        path.errors(ALPHAS)
        predicted = path.predictions(np.full(2, ALPHAS[4]))
        expected = np.average((predicted - y)[some] ** 2, weights=weights[some], axis=0)
        np.testing.assert_allclose(path.errors(ALPHAS, some)[4], expected, rtol=1e-9)
