from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.evaluation.multi_label import MultiLabelEvaluation
from trunkline_service.heads.evaluation.regression import RegressionEvaluation
from trunkline_service.heads.kinds.mlp import fit_mlp
from trunkline_service.heads.kinds.ridge import fit_ridge
from trunkline_service.heads.network import Mlp
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.solver.mlp import Loss, Problem, Trainer, row_losses
from trunkline_service.heads.training.training_set import TrainingSet

Make = Callable[..., TrainingSet]
SHORT = FitOptions(folds=2, max_iterations=12)


@pytest.fixture(scope="module")
def rings(given: Make) -> TrainingSet:
    """Two classes, one around the other: nothing that a plane could part."""
    generator = np.random.default_rng(0)
    codes = np.arange(240) % 2
    angle = generator.uniform(0, 2 * np.pi, 240)
    radius = 1 + 2 * codes + generator.normal(scale=0.2, size=240)
    rows = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) + 5
    return given(rows, ["inner" if k == 0 else "outer" for k in codes])


def test_what_no_plane_can_part(rings: TrainingSet) -> None:
    head = fit_mlp(rings, FitOptions(folds=2, max_iterations=60))
    linear = fit_ridge(rings, FitOptions(folds=2))
    assert head.evaluation is not None
    assert linear.evaluation is not None
    assert head.evaluation.headline[1] > 0.95
    assert linear.evaluation.headline[1] < 0.7
    assert isinstance(head.network.body, Mlp)
    assert head.network.body.hidden.W.shape == (256, 2)
    assert (head.network(rings.embeddings).argmax(axis=1) == rings.codes()).mean() > 0.95


def test_curves_say_where_it_stopped(clouds: Make) -> None:
    head = fit_mlp(clouds(per_class=40, distance=2.0), FitOptions(folds=2))
    loss, validation = head.curves["loss"], head.curves["validation_loss"]
    assert len(loss) == len(validation) > head.hyper_parameters["epochs"]
    assert loss[-1] < loss[0]
    assert np.argmin(validation) + 1 == head.hyper_parameters["epochs"]
    assert head.hyper_parameters["grid_loss"] == [min(validation)]
    assert not any("training stopped" in note for note in head.notes)
    assert head.convergence.converged
    assert head.convergence.iterations == head.hyper_parameters["epochs"]
    assert head.convergence.gradient_norm > 0


def test_too_few_epochs_are_said(clouds: Make) -> None:
    head = fit_mlp(clouds(), FitOptions(folds=2, max_iterations=1))
    assert any("training stopped after 1 epochs" in note for note in head.notes)
    assert not head.convergence.converged
    assert len(head.curves["loss"]) == 1


def test_several_labels_a_row(tags: Make) -> None:
    data = tags(rows=200)
    head = fit_mlp(data, FitOptions(folds=2, max_iterations=40))
    assert isinstance(head.evaluation, MultiLabelEvaluation)
    assert head.evaluation.macro_f1 > 0.8
    assert head.network.activation == "sigmoid"
    np.testing.assert_allclose(
        head.network(data.embeddings).mean(axis=0), data.indicator().mean(axis=0), atol=0.05
    )


def test_values_of_any_size(given: Make) -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(200, 3))
    values = np.stack([1000 + 50 * np.abs(rows[:, 0]), rows[:, 1] * 1e-3], axis=1)
    data = given(rows, values, task="regression", target="values", targets=("big", "small"))
    head = fit_mlp(data, FitOptions(folds=2, max_iterations=150))
    assert isinstance(head.evaluation, RegressionEvaluation)
    assert [report.r2 > 0.7 for report in head.evaluation.per_target] == [True, True]
    error = head.network(data.embeddings) - values
    assert (error.std(axis=0) / values.std(axis=0) < 0.5).all()
    assert head.network.activation == "none"


@pytest.mark.parametrize("transform", ["standardise", "l2", "whiten", "none"])
def test_transforms_are_folded(clouds: Make, transform: Any) -> None:
    data = clouds(per_class=30, distance=6.0)
    head = fit_mlp(data, FitOptions(folds=2, max_iterations=30, transform=transform))
    assert (head.network(data.embeddings).argmax(axis=1) == data.codes()).mean() > 0.9
    assert head.evaluation is not None
    assert head.evaluation.headline[1] > 0.85


def test_candidates_of_the_weight_decay(clouds: Make) -> None:
    data = clouds(distance=2.0)
    head = fit_mlp(data, FitOptions(folds=2, max_iterations=12, grid=(0.01, 300.0)))
    losses = head.hyper_parameters["grid_loss"]
    assert head.hyper_parameters["grid"] == [0.01, 300.0]
    assert losses[0] != losses[1]
    assert head.hyper_parameters["weight_decay"] == [0.01, 300.0][int(np.argmin(losses))]
    alone = fit_mlp(data, FitOptions(folds=2, max_iterations=12, grid=(0.01,)))
    assert alone.hyper_parameters["grid_loss"] == [losses[0]]


def test_balanced_classes_weigh_alike(given: Make) -> None:
    generator = np.random.default_rng(1)
    codes = np.repeat([0, 1], [180, 20])
    data = given(generator.normal(size=(200, 3)) + codes[:, None], [f"c{k}" for k in codes])
    recalls = [
        fit_mlp(data, FitOptions(folds=2, max_iterations=30, class_weight=weight))
        .evaluation.per_class[1]
        .recall  # type: ignore[arg-type, union-attr]
        for weight in ("none", "balanced")
    ]
    assert recalls[1] > recalls[0] + 0.2


def test_two_rows_a_class(clouds: Make) -> None:
    head = fit_mlp(clouds(per_class=2, classes=2, distance=9.0), SHORT)
    assert head.evaluation is not None
    assert head.evaluation.n == 4
    assert np.isfinite(head.network(np.zeros((1, 8), np.float32))).all()


def test_out_of_fold_outputs_are_of_networks_that_had_not_seen_the_row(given: Make) -> None:
    generator = np.random.default_rng(0)
    data = given(generator.normal(size=(60, 80)), [f"c{k}" for k in np.arange(60) % 2])
    head = fit_mlp(data, FitOptions(folds=2, max_iterations=25))
    assert head.evaluation is not None
    # Labels without sense: known by heart after a few epochs, unknown to those who had not seen them.
    assert 0.25 < head.evaluation.headline[1] < 0.75
    assert head.out_of_fold is not None
    assert head.out_of_fold.max() < 0.9


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
def test_gradients_are_those_of_the_losses(loss: Loss) -> None:
    generator = np.random.default_rng(0)
    outputs = generator.normal(size=(6, 3)).astype(np.float32) * 3
    truth: Any = generator.random((6, 3)).round().astype(np.float32)
    if loss == "softmax":
        truth = generator.integers(0, 3, 6)
    _, errors = row_losses(loss, outputs, truth)
    for k in range(3):
        step = np.zeros(3, np.float32)
        step[k] = 1e-2
        above, _ = row_losses(loss, outputs + step, truth)
        below, _ = row_losses(loss, outputs - step, truth)
        np.testing.assert_allclose((above - below) / 2e-2, errors[:, k], atol=2e-3)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
def test_losses_are_finite_far_out(loss: Loss) -> None:
    outputs = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    truth: Any = np.array([0, 0]) if loss == "softmax" else np.array([[1, 0], [1, 0]], np.float32)
    losses, errors = row_losses(loss, outputs, truth)
    assert np.isfinite(losses).all()
    assert np.isfinite(errors).all()
    assert losses[0] < losses[1]


def test_a_step_goes_down_the_numerical_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_service.heads.solver.mlp._DROPOUT", 0.0)
    generator = np.random.default_rng(0)
    rows, codes = generator.normal(size=(12, 4)).astype(np.float32), np.arange(12) % 3
    problem = Problem(
        rows=rows,
        targets=codes,
        outputs=3,
        loss="softmax",
        weights=np.ones(12, np.float32),
        train=np.arange(12),
        mean=np.zeros(4, np.float32),
        matrix=np.ones(4, np.float32),
        start=np.zeros(3, np.float32),
    )
    trainer = Trainer(problem, 0.0, 0)
    hidden, shift, output, bias = (weights.astype(np.float64) for weights in trainer.weights())

    def loss(change: float, i: int, j: int) -> float:
        moved = hidden.copy()
        moved[i, j] += change
        logits = np.maximum(rows @ moved + shift, 0) @ output + bias
        logged = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return float(-logged[np.arange(12), codes].mean())

    trainer.begin()
    assert trainer.advance(100) == 1.0
    assert trainer.loss == pytest.approx(loss(0, 0, 0), rel=1e-5)
    gradient = trainer._gradient[: hidden.size].reshape(hidden.shape)
    for i, j in ((0, 0), (1, 7), (3, 100)):
        assert gradient[i, j] == pytest.approx((loss(1e-5, i, j) - loss(-1e-5, i, j)) / 2e-5, abs=1e-5)
    # AdamW's first step is the learning rate against the sign of the gradient.
    moved = trainer.weights()[0] - hidden
    large = np.abs(gradient) > 1e-4
    np.testing.assert_allclose(moved[large], -1e-3 * np.sign(gradient[large]), rtol=1e-2)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_training_that_diverges_says_so(clouds: Make, given: Make) -> None:
    data = clouds()
    huge = given(data.embeddings * np.float32(3e37), data.labels)
    with pytest.raises(InvalidArgument, match=r"was not finite after any epoch.*transform standardise"):
        fit_mlp(huge, FitOptions(folds=2, max_iterations=3, transform="none"))


def test_weights_count_in_the_figures_of_values(values: Make) -> None:
    from sklearn.metrics import r2_score

    weights = np.random.default_rng(0).uniform(0.01, 3, 60)
    data = values(noise=3.0, weights=weights)
    head = fit_mlp(data, SHORT)
    assert isinstance(head.evaluation, RegressionEvaluation)
    expected = r2_score(data.values(), head.out_of_fold, sample_weight=weights)
    assert head.evaluation.r2 == pytest.approx(expected)
