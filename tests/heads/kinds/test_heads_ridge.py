from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.heads.evaluation.multi_label import MultiLabelEvaluation
from trunkline_service.heads.evaluation.regression import RegressionEvaluation
from trunkline_service.heads.kinds import ridge
from trunkline_service.heads.kinds.judged import sigmoid
from trunkline_service.heads.kinds.platt import fit_platt
from trunkline_service.heads.kinds.ridge import fit_ridge
from trunkline_service.heads.network import Linear
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.solver.ridge import FoldPath, LeaveOneOut
from trunkline_service.heads.training.folds import make_folds
from trunkline_service.heads.training.training_set import TrainingSet

Make = Callable[..., TrainingSet]
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


def test_of_many_outputs_some_rows_judge_the_penalties(clouds: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = clouds(per_class=60, classes=4, distance=5.0)
    whole = fit_ridge(data)
    monkeypatch.setattr("trunkline_service.heads.kinds.ridge._WORK", 1)
    monkeypatch.setattr("trunkline_service.heads.kinds.ridge._LEAST", 120)
    some = fit_ridge(data)
    assert some.hyper_parameters["grid_squared_error"] != whole.hyper_parameters["grid_squared_error"]
    assert some.evaluation is not None
    assert some.evaluation.n == 240
    assert whole.evaluation is not None
    assert some.evaluation.headline[1] == pytest.approx(whole.evaluation.headline[1], abs=0.03)


def test_values_are_learned(values: Make) -> None:
    data = values(rows=80, dim=6, targets=2)
    head = fit_ridge(data)
    figures = head.evaluation
    assert isinstance(figures, RegressionEvaluation)
    assert figures.r2 > 0.95
    assert (figures.n, figures.folds) == (80, 80)
    assert head.hyper_parameters["selected_by"] == "leave-one-out squared error"
    assert head.classes == ("value 0", "value 1")
    assert (head.network.activation, head.task, head.target) == ("none", "regression", "values")
    residual = data.values() - head.network(data.embeddings)
    assert 0.1 < residual.std() < 0.5
    # Each target has the penalty of its own least error.
    errors = np.array(head.hyper_parameters["grid_squared_error"])
    grid = np.array(head.hyper_parameters["grid"])
    assert head.hyper_parameters["alpha"] == grid[errors.argmin(axis=0)].tolist()
    assert list(grid) == sorted(grid)


def test_the_served_weights_are_scikit_learns(values: Make) -> None:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = values(rows=50, dim=5)
    head = fit_ridge(data, FitOptions(grid=(0.1, 1.0, 10.0)))
    reference = make_pipeline(StandardScaler(), RidgeCV([0.1, 1.0, 10.0])).fit(
        data.embeddings.astype(np.float64), data.values()[:, 0]
    )
    assert head.hyper_parameters["alpha"] == [reference[-1].alpha_]
    np.testing.assert_allclose(
        head.network(data.embeddings)[:, 0], reference.predict(data.embeddings.astype(np.float64)), rtol=1e-4
    )


def test_the_grid_is_refined_around_the_best(values: Make) -> None:
    grid = np.array(fit_ridge(values()).hyper_parameters["grid"])
    steps = np.diff(np.log10(grid))
    assert len(grid) == 45
    assert steps.min() == pytest.approx(0.05, rel=1e-3)
    assert steps.max() == pytest.approx(0.25, rel=1e-3)


def test_a_penalty_at_the_end_of_the_grid_is_noted(values: Make) -> None:
    note = "is the smallest of the grid"
    assert any(note in text for text in fit_ridge(values(), FitOptions(grid=(1e3, 1e4))).notes)
    assert not any(note in text for text in fit_ridge(values(), FitOptions(grid=(1e3,))).notes)


def test_rows_with_groups_leave_together(given: Make) -> None:
    generator = np.random.default_rng(0)
    # 15 things, each seen four times, nearly alike: what is known of one view tells the others.
    x = np.repeat(generator.normal(size=(15, 40)), 4, axis=0) + generator.normal(scale=0.01, size=(60, 40))
    y = np.repeat(generator.normal(size=15), 4)
    fields: dict[str, Any] = {"task": "regression", "target": "values", "duplicates": False}
    leaked = fit_ridge(given(x, y, **fields)).evaluation
    honest = fit_ridge(given(x, y, groups=[str(i // 4) for i in range(60)], **fields))
    assert isinstance(leaked, RegressionEvaluation)
    assert isinstance(honest.evaluation, RegressionEvaluation)
    assert leaked.r2 > 0.9
    assert honest.evaluation.r2 < 0.5
    assert honest.hyper_parameters["selected_by"] == "out-of-fold squared error"
    assert honest.evaluation.folds == 5


def test_a_validation_split_is_judged_by(values: Make) -> None:
    validation = np.arange(60) >= 45
    head = fit_ridge(values(validation=validation))
    assert head.evaluation is not None
    assert (head.evaluation.n, head.evaluation.folds) == (15, 1)
    assert head.out_of_fold is not None
    np.testing.assert_array_equal(np.isnan(head.out_of_fold[:, 0]), ~validation)


@pytest.mark.parametrize("classes", [2, 4])
def test_as_a_classifier(clouds: Make, classes: int) -> None:
    data = clouds(per_class=30, classes=classes, distance=5.0)
    head = fit_ridge(data)
    assert head.evaluation is not None
    assert head.evaluation.headline[1] > 0.85
    outputs = head.network(data.embeddings)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    assert isinstance(head.hyper_parameters["alpha"], float)
    # The scores are regressions onto 1 and -1: far from probabilities before they are scaled.
    assert head.evaluation.ece < head.evaluation.ece_before / 2  # type: ignore[union-attr]
    assert 0 < head.temperature < 1


def test_balanced_classes_weigh_alike(given: Make) -> None:
    from sklearn.linear_model import Ridge

    generator = np.random.default_rng(1)
    codes = np.repeat([0, 1], [90, 10])
    x = generator.normal(size=(100, 4)) + codes[:, None]
    data = given(x, [f"c{k}" for k in codes])
    head = fit_ridge(data, FitOptions(grid=(2.0,), class_weight="balanced", transform="none"))
    weights = np.where(codes == 1, 5.0, 100 / 180)
    reference = Ridge(2.0).fit(data.embeddings.astype(np.float64), codes * 2.0 - 1, sample_weight=weights)
    body = head.network.body
    assert isinstance(body, Linear)
    np.testing.assert_allclose(body.W[1] * head.temperature, reference.coef_, rtol=1e-4)
    plain = fit_ridge(data, FitOptions(grid=(2.0,), transform="none"))
    recalls = [one.evaluation.per_class[1].recall for one in (head, plain)]  # type: ignore[union-attr]
    assert recalls[0] > recalls[1]


def test_several_labels_a_row(tags: Make) -> None:
    data = tags(rows=200)
    head = fit_ridge(data)
    figures = head.evaluation
    assert isinstance(figures, MultiLabelEvaluation)
    assert figures.macro_f1 > 0.85
    assert head.network.activation == "sigmoid"
    share = head.network(data.embeddings).mean(axis=0)
    np.testing.assert_allclose(share, data.indicator().mean(axis=0), atol=0.03)


def test_the_fewest_rows(given: Make) -> None:
    head = fit_ridge(given([[0.0, 1.0], [0.1, 1.1], [5.0, 1.0], [5.2, 1.3]], ["a", "a", "b", "b"]))
    assert head.evaluation is not None
    assert head.evaluation.headline[1] == 1.0
    assert np.isfinite(head.network(np.zeros((1, 2), np.float32))).all()


def test_more_features_than_rows(values: Make) -> None:
    head = fit_ridge(values(rows=30, dim=200, noise=0.01))
    assert head.evaluation is not None
    assert np.isfinite(head.network.body.W).all()  # type: ignore[union-attr]
    grouped = fit_ridge(values(rows=30, dim=200, groups=[str(i // 2) for i in range(30)]))
    assert grouped.evaluation is not None
    assert grouped.evaluation.folds == 5


def test_balanced_is_refused_where_there_are_no_single_classes(tags: Make, values: Make) -> None:
    for data in (tags(), values()):
        with pytest.raises(InvalidArgument, match="can't balance classes"):
            fit_ridge(data, FitOptions(class_weight="balanced"))


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


def test_folds_are_those_of_the_data(values: Make) -> None:
    data = values(groups=[str(i // 3) for i in range(60)])
    head = fit_ridge(data, FitOptions(grid=(1.0,), seed=3))
    folds = make_folds(data, 5, 3)
    path = FoldPath(data.embeddings, data.values(), folds.assigned, transform="standardise")
    assert head.out_of_fold is not None
    np.testing.assert_allclose(head.out_of_fold, path.predictions(np.ones(1)), rtol=1e-5)


def test_values_far_from_zero_are_judged_as_they_are_served(values: Make, given: Make) -> None:
    plain = values(rows=300)
    moved = plain.values() * 30 + 1.7e9
    data = given(plain.embeddings[:200], moved[:200], task="regression", targets=("time",))
    head = fit_ridge(data.with_test(plain.embeddings[200:], moved[200:]))
    assert isinstance(head.evaluation, RegressionEvaluation)
    assert isinstance(head.test_evaluation, RegressionEvaluation)
    # Numbers there are 128 apart: each answer is wrong by up to 64, which is 37 in quadratic mean.
    assert head.evaluation.rmse > 30
    assert head.evaluation.rmse == pytest.approx(head.test_evaluation.rmse, rel=0.15)
    assert any("steps of 128" in note and "subtract a constant" in note for note in head.notes)
    assert not any("steps of" in note for note in fit_ridge(plain).notes)


@pytest.mark.parametrize("validation", [False, True])
def test_weights_count_in_the_figures(values: Make, validation: bool) -> None:
    from sklearn.metrics import r2_score

    weights = np.random.default_rng(0).uniform(0.01, 3, 60)
    held_out = np.arange(60) % 2 == 0 if validation else np.ones(60, np.bool_)
    data = values(noise=3.0, weights=weights, validation=held_out if validation else None)
    head = fit_ridge(data, FitOptions(grid=(1.0,)))
    assert isinstance(head.evaluation, RegressionEvaluation)
    assert head.out_of_fold is not None
    truth, said = data.values()[held_out], head.out_of_fold[held_out]
    expected = r2_score(truth, said, sample_weight=weights[held_out])
    assert head.evaluation.r2 == pytest.approx(expected, rel=1e-4)
    assert head.evaluation.r2 != pytest.approx(r2_score(truth, said), rel=1e-3)
    (errors,) = head.hyper_parameters["grid_squared_error"]
    squares = (truth - said)[:, 0] ** 2
    assert errors[0] == pytest.approx(np.average(squares, weights=weights[held_out]), rel=1e-3)


def test_weighted_platt_scaling_sees_heavy_rows_alone() -> None:
    generator = np.random.default_rng(2)
    scores = generator.normal(size=(400, 2))
    indicator = scores + generator.normal(size=(400, 2)) > 0
    light = np.arange(400) % 2 == 0
    mixed = np.where(light[:, None], ~indicator, indicator)
    found = fit_platt(scores, mixed, np.where(light, 1e-9, 5.0))
    np.testing.assert_allclose(found, fit_platt(scores[~light], indicator[~light]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fit_platt(scores, indicator, np.full(400, 3.0)), fit_platt(scores, indicator))


def test_few_whitened_rows_are_held_out_in_folds(clouds: Make) -> None:
    data = clouds(per_class=20, dim=30, distance=1.5)
    few = fit_ridge(data, FitOptions(transform="whiten", grid=(1.0,)))
    assert few.hyper_parameters["selected_by"] == "out-of-fold squared error"
    folds = make_folds(data, 5, 0)
    targets = np.where(data.indicator(), 1.0, -1.0)
    path = FoldPath(data.embeddings, targets, folds.assigned, transform="whiten")
    assert isinstance(few.evaluation, Evaluation)
    right = path.predictions(np.ones(3)).argmax(axis=1) == data.codes()
    assert few.evaluation.accuracy == pytest.approx(right.mean())
    many = fit_ridge(clouds(per_class=60, dim=30), FitOptions(transform="whiten", grid=(1.0,)))
    assert many.hyper_parameters["selected_by"] == "leave-one-out squared error"


def test_validation_rows_are_calibrated_in_halves(tags: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(scores: Any, *more: Any) -> Any:
        seen.append(len(scores))
        return fit_platt(scores, *more)

    monkeypatch.setattr(ridge, "fit_platt", spy)
    fit_ridge(tags(validation=np.arange(80) < 20), FitOptions(grid=(1.0,)))
    assert sorted(seen) == [10, 10, 20]


def test_a_strong_penalty_does_not_blow_up_the_shares_of_rows(given: Make) -> None:
    # Noise, on which scores are next to nothing and Platt's slopes large: the served model's mean target is
    # not that of the model which was held out.
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(1120, 64)).astype(np.float32)
    labels = [tuple(f"l{j}" for j in range(8) if generator.random() < 0.3) for _ in range(1120)]
    data = given(rows[:120], labels[:120], task="multi-label", validation=np.arange(120) >= 100)
    head = fit_ridge(data.with_test(rows[120:], labels[120:]), FitOptions(grid=(2e5,)))
    assert isinstance(head.test_evaluation, MultiLabelEvaluation)
    assert head.test_evaluation.log_loss < 0.75
