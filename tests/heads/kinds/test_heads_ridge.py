"""Ridge heads: of values, classes and labels, on what they are judged, and how they are calibrated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.heads.evaluation.multi_label import MultiLabelEvaluation
from trunkline_service.heads.evaluation.regression import RegressionEvaluation
from trunkline_service.heads.kinds import ridge
from trunkline_service.heads.kinds.platt import fit_platt
from trunkline_service.heads.kinds.ridge import fit_ridge
from trunkline_service.heads.network import Linear
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.solver.ridge import FoldPath
from trunkline_service.heads.training.folds import make_folds
from trunkline_service.heads.training.training_set import TrainingSet

Make = Callable[..., TrainingSet]


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
