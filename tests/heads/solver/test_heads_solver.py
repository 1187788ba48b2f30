"""The solver against scikit-learn, against finite differences, and against itself taken apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.solver.basis import Basis
from trunkline_service.heads.solver.lbfgs import Tolerance
from trunkline_service.heads.solver.losses import Loss, Sigmoid, Softmax
from trunkline_service.heads.solver.passes import NumpyPass
from trunkline_service.heads.solver.problems import NO_FOLD, Problems
from trunkline_service.heads.solver.rows import Rows
from trunkline_service.heads.solver.sweep import Sweep
from trunkline_service.heads.solver.torch_pass import TorchPass
from trunkline_service.heads.solver.workers import workers

Array = np.ndarray[Any, Any]


def as_it_is(rows: Array) -> Array:
    return rows


@pytest.fixture(scope="module")
def threads() -> Iterator[Any]:
    with workers() as pair:
        yield pair


def sweep_of(
    threads: Any,
    rows: Array,
    loss: Loss,
    outputs: int,
    *,
    folds: Array | None = None,
    weights: Array | None = None,
    dtype: Any = np.float64,
    **options: Any,
) -> Sweep:
    return Sweep(
        Rows(
            rows,
            as_it_is,
            dtype,
            **({"kept_bytes": options.pop("kept_bytes")} if "kept_bytes" in options else {}),
        ),
        loss,
        outputs,
        np.ones(len(rows)) if weights is None else weights,
        np.zeros(len(rows), np.int64) if folds is None else folds,
        executor=threads[0],
        workers=threads[1],
        **{"max_iterations": 20_000, **options},
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[Array, Array, float]:
    """Rows, classes and C: separable, collinear, wide, imbalanced, with duplicate and constant columns."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = draw(st.integers(2, 5))
    shares = generator.dirichlet(np.full(classes, draw(st.sampled_from([0.4, 1.0, 100.0]))))
    n = draw(st.integers(classes + 3, 120))
    codes = np.concatenate([np.arange(classes), generator.choice(classes, n - classes, p=shares)])
    dim = draw(st.integers(1, 30))
    apart = draw(st.sampled_from([0.0, 0.5, 10.0]))
    rows = apart * generator.normal(size=(classes, dim))[codes] + generator.normal(size=(n, dim))
    for shape in draw(st.lists(st.sampled_from(["same", "constant", "sum", "small"]), max_size=3)):
        extra = {
            "same": rows[:, :1],
            "constant": np.full((n, 1), 0.7),
            "sum": rows.sum(axis=1, keepdims=True),
            "small": 1e-3 * generator.normal(size=(n, 1)),
        }[shape]
        rows = np.hstack([rows, extra])
    return rows, codes, 10.0 ** draw(st.floats(-3, 2))


def slope_of(fitted: Any, rows: Array, codes: Array) -> float:
    """Largest entry of the mean loss's gradient at what scikit-learn found."""
    chances = fitted.predict_proba(rows)
    residuals = chances - np.eye(chances.shape[1])[codes]
    if len(fitted.coef_) == 1:
        residuals = residuals[:, 1:]
    gradient = residuals.T @ rows + fitted.coef_ / fitted.C
    return float(max(np.abs(gradient).max(), np.abs(residuals.sum(axis=0)).max()) / len(rows))


@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_coefficients_are_scikit_learns(threads: Any, problem: tuple[Array, Array, float]) -> None:
    from sklearn.linear_model import LogisticRegression

    rows, codes, c = problem
    classes = int(codes.max()) + 1
    binary = classes == 2
    loss: Loss = Sigmoid(codes[:, None] == 1) if binary else Softmax(codes)
    sweep = sweep_of(threads, rows, loss, 1 if binary else classes)
    solution = sweep.whole(c).solution
    coefficients, intercepts = sweep.features(solution)
    with warnings.catch_warnings():
        # Where scikit-learn's line search ends at the last digits of a float, it says so.
        warnings.simplefilter("ignore")
        reference = LogisticRegression(C=c, tol=1e-10, max_iter=100_000).fit(rows, codes)
        if slope_of(reference, rows, codes) > 1e-10:
            # lbfgs stopped by the loss's last digits, far from that tolerance; its Newton method goes on.
            reference = LogisticRegression(C=c, tol=1e-10, solver="newton-cholesky").fit(rows, codes)
    assert solution.converged.all()
    scale = max(np.abs(reference.coef_).max(), 1e-3)
    np.testing.assert_allclose(coefficients, reference.coef_, atol=1e-4 * scale)
    logits = rows @ coefficients.T + intercepts
    expected = reference.predict_proba(rows)
    if binary:
        chances = 1 / (1 + np.exp(-logits[:, 0]))
        np.testing.assert_allclose(chances, expected[:, 1], atol=1e-4)
        np.testing.assert_allclose(intercepts, reference.intercept_, atol=1e-3)
        return
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), expected, atol=1e-4)
    # Adding the same to all intercepts changes no probability.
    centred = intercepts - intercepts.mean()
    np.testing.assert_allclose(centred, reference.intercept_ - reference.intercept_.mean(), atol=1e-3)


@pytest.fixture(scope="module")
def cloud() -> tuple[Array, Array, Array]:
    generator = np.random.default_rng(3)
    codes = generator.integers(0, 4, 300)
    rows = generator.normal(size=(4, 12))[codes] + generator.normal(size=(300, 12)) * np.logspace(0, -1.5, 12)
    return rows, codes, generator.integers(-1, 3, 300)


def loss_of(name: str, codes: Array) -> tuple[Loss, int]:
    if name == "softmax":
        return Softmax(codes), 4
    return Sigmoid(np.stack([codes == 1, codes != 2, codes > 1], axis=1)), 3


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_gradients_are_those_of_finite_differences(threads: Any, cloud: Any, name: str) -> None:
    rows, codes, folds = cloud
    loss, outputs = loss_of(name, codes)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, len(rows))
    evaluate = sweep_of(threads, rows, loss, outputs, folds=folds, weights=weights).evaluate
    batch = Problems.of(np.array([0.01, 3.0]), np.array([NO_FOLD, 1]), weights, folds)
    generator = np.random.default_rng(2)
    at, along = generator.normal(size=(2, outputs, 4, 13))
    values = evaluate(batch, at, curvature=True)
    step = 1e-6
    rise = evaluate(batch, at + step * along).losses - evaluate(batch, at - step * along).losses
    slope = (values.gradients * along).sum(axis=(0, 2))
    np.testing.assert_allclose(slope, rise / (2 * step), rtol=1e-6)
    assert values.curvatures is not None
    assert values.curvatures.shape == (outputs, 4)
    assert (values.curvatures > 0).all()
    assert (values.curvatures <= 0.25).all()


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_folds_together_are_each_fold_alone(threads: Any, cloud: Any, name: str) -> None:
    rows, codes, folds = cloud
    loss, outputs = loss_of(name, codes)
    sweep = sweep_of(threads, rows, loss, outputs, folds=folds)
    together = sweep.held_out(sweep.folds(0.5, sweep.folds(0.05)))
    for fold in range(3):
        rest = folds != fold
        own = loss_of(name, codes[rest])[0]
        alone = sweep_of(threads, rows[rest], own, outputs)
        coefficients, intercepts = alone.features(alone.whole(0.5).solution)
        logits = rows[~rest] @ coefficients.T + intercepts
        logits -= logits.mean(axis=1, keepdims=True) if name == "softmax" else 0
        found = together[~rest]
        found = found - (found.mean(axis=1, keepdims=True) if name == "softmax" else 0)
        np.testing.assert_allclose(found, logits, atol=1e-5)
    assert np.isnan(together[folds == -1]).all()
    assert np.isfinite(together[folds >= 0]).all()


def test_a_path_ends_where_a_cold_start_ends(threads: Any, cloud: Any) -> None:
    rows, codes, _ = cloud
    fine = Tolerance(decrement=1e-6, gradient=1e-6, noise=1e-6, floor=1e-9)
    warm, cold = (
        sweep_of(threads, rows, Softmax(codes), 4, dtype=np.float32, tolerance=fine) for _ in range(2)
    )
    near = None
    for c in (1e-3, 0.1, 10.0):
        near = warm.whole(c, near)
        start = cold.whole(c)
        assert near.solution.losses == pytest.approx(start.solution.losses, rel=1e-4)
        assert near.solution.converged.all()


def test_row_weights_count_rows(threads: Any, cloud: Any) -> None:
    rows, codes, _ = cloud
    counts = np.random.default_rng(5).integers(1, 4, len(rows))
    weighted = sweep_of(threads, rows, Softmax(codes), 4, weights=counts.astype(float))
    repeated = sweep_of(threads, rows.repeat(counts, axis=0), Softmax(codes.repeat(counts)), 4)
    for one, other in zip(
        weighted.features(weighted.whole(0.2).solution),
        repeated.features(repeated.whole(0.2).solution),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_rows_that_stay_in_a_file_give_the_same(threads: Any, cloud: Any, tmp_path: Any) -> None:
    rows, codes, folds = cloud
    np.save(tmp_path / "rows.npy", rows.astype(np.float32))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    kept = sweep_of(threads, rows.astype(np.float32), Softmax(codes), 4, folds=folds)
    read = sweep_of(threads, mapped, Softmax(codes), 4, folds=folds, kept_bytes=0)
    found = [sweep.held_out(sweep.folds(1.0)) for sweep in (kept, read)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_torch_passes_are_numpys(threads: Any, cloud: Any, name: str) -> None:
    pytest.importorskip("torch")
    rows, codes, folds = cloud
    loss, outputs = loss_of(name, codes)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, len(rows))
    held = Rows(rows, as_it_is, np.float64)
    basis = Basis.of(held, weights, outputs)
    both = (
        NumpyPass(held, basis, loss, weights, folds, *threads),
        TorchPass(held, basis, loss, weights, folds, "cpu"),
    )
    batch = Problems.of(np.array([0.1, 10.0]), np.array([NO_FOLD, 0, 2]), weights, folds)
    at = 3 * np.random.default_rng(2).normal(size=(outputs, 6, 13))
    first, second = (evaluate(batch, at, curvature=True) for evaluate in both)
    np.testing.assert_allclose(first.losses, second.losses, rtol=1e-10)
    np.testing.assert_allclose(first.gradients, second.gradients, atol=1e-10)
    assert first.curvatures is not None
    assert second.curvatures is not None
    np.testing.assert_allclose(first.curvatures, second.curvatures, rtol=1e-10)
    positions = np.array([5, 299, 0])
    np.testing.assert_allclose(both[0].logits(at, positions), both[1].logits(at, positions), atol=1e-10)


def test_a_device_that_is_not_there(threads: Any, cloud: Any) -> None:
    pytest.importorskip("torch")
    rows, codes, _ = cloud
    with pytest.raises(InvalidArgument, match=r"can't use device 'cuda:77'.*use device 'cpu'"):
        sweep_of(threads, rows, Softmax(codes), 4, device="cuda:77")


def test_too_few_iterations_are_told(threads: Any, cloud: Any) -> None:
    rows, codes, _ = cloud
    solution = sweep_of(threads, rows, Softmax(codes), 4, max_iterations=2).whole(10.0).solution
    assert not solution.converged.any()
    assert solution.iterations.tolist() == [2]
    assert solution.gradient_norms[0] > 1e-5


def test_a_tick_that_raises_ends_it(threads: Any, cloud: Any) -> None:
    rows, codes, _ = cloud

    class EnoughError(Exception):
        pass

    def tick() -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        sweep_of(threads, rows, Softmax(codes), 4, tick=tick).whole(1.0)


@pytest.mark.parametrize("kept_bytes", [0, 1 << 20])
def test_the_gram_matrix(kept_bytes: int) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    weights = np.linspace(1, 2, 50)
    gram = Rows(rows, lambda block: 2 * block, np.float64, kept_bytes).gram(weights)
    np.testing.assert_allclose(gram, 4 * (rows * weights[:, None]).T.astype(np.float64) @ rows, rtol=1e-5)


def test_wide_rows_keep_their_features(threads: Any) -> None:
    generator = np.random.default_rng(4)
    rows = (generator.normal(size=(80, 600)) * np.logspace(0, -2, 600)).astype(np.float32)
    codes = generator.integers(0, 3, 80)
    wide = sweep_of(threads, rows, Softmax(codes), 3, dtype=np.float32)
    exact = sweep_of(threads, rows, Softmax(codes), 3)
    assert (wide.basis.whole, exact.basis.whole) == (False, True)
    spectrum = np.linalg.eigvalsh(rows.T.astype(np.float64) @ rows / 80)[-256:]
    np.testing.assert_allclose(wide.basis.spectrum[-20:], spectrum[-20:], rtol=1e-3)
    for c in (0.1, 10.0):
        found, right = wide.whole(c).solution, exact.whole(c).solution
        assert found.losses == pytest.approx(right.losses, rel=1e-3)


def test_folds_do_not_know_what_they_left_out(threads: Any) -> None:
    # Nothing can be learned from noise; with more features than rows, all rows together learn it by heart.
    generator = np.random.default_rng(11)
    rows, codes = generator.normal(size=(150, 400)).astype(np.float32), generator.integers(0, 3, 150)
    sweep = sweep_of(threads, rows, Softmax(codes), 3, folds=np.arange(150) % 5, dtype=np.float32)
    folded = None
    for c in (1e-3, 1.0, 1000.0):
        folded = sweep.folds(c, folded)
        assert (sweep.held_out(folded).argmax(axis=1) == codes).mean() < 0.5
    whole = sweep.whole(1000.0)
    coefficients, intercepts = sweep.features(whole.solution)
    assert ((rows @ coefficients.T + intercepts).argmax(axis=1) == codes).all()


def test_a_tolerance_knows_no_units(threads: Any, cloud: Any) -> None:
    rows, codes, _ = cloud
    found = []
    for scale in (1.0, 1e-5):
        # The same problem in other units: the penalty is one of the weights.
        sweep = sweep_of(threads, scale * rows, Softmax(codes), 4, dtype=np.float32)
        found.append(sweep.whole(1.0 / scale**2).solution)
    assert found[0].losses == pytest.approx(found[1].losses, rel=5e-3)
    assert found[1].iterations[0] > 3
