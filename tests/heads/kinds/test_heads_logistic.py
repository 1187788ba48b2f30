from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.evaluation.calibrate import cross_fitted, fit_temperature
from trunkline_service.heads.fit import KINDS, fit
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.linear import softmax
from trunkline_service.heads.kinds.logistic import fit_logistic
from trunkline_service.heads.kinds.warm import Previous
from trunkline_service.heads.network import Linear
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.training.folds import stratified_folds
from trunkline_service.heads.training.training_set import TrainingSet

Make = Callable[..., TrainingSet]


def learn(data: TrainingSet, **options: Any) -> FittedHead:
    return fit_logistic(data, FitOptions(**options))


def weights(head: FittedHead) -> Linear:
    assert isinstance(head.network.body, Linear)
    return head.network.body


def predict(head: FittedHead, data: TrainingSet) -> np.ndarray:
    return head.network(data.embeddings)


@pytest.mark.parametrize(("dataset", "least"), [("iris", 0.92), ("wine", 0.95), ("digits", 0.9)])
def test_known_data_sets_are_learned(make_set: Make, dataset: str, least: float) -> None:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{dataset}")()
    head = learn(make_set(bunch.data, [f"class {k}" for k in bunch.target]))
    figures = head.evaluation
    assert figures.accuracy > least
    assert figures.accuracy_interval[0] < figures.accuracy < figures.accuracy_interval[1]
    assert figures.ece < 0.08
    assert figures.folds == 5
    assert figures.n == head.rows == len(bunch.data)
    assert head.convergence.converged
    assert weights(head).W.shape == (len(head.classes), bunch.data.shape[1])
    assert weights(head).W.dtype == weights(head).b.dtype == np.float32


def test_classes_keep_their_order(blobs: Make) -> None:
    data = blobs([30, 20, 25], ["zebra", "ant", "Mole"])
    head = learn(data)
    assert head.classes == ("Mole", "ant", "zebra")
    named = [head.classes[k] for k in predict(head, data).argmax(axis=1)]
    assert np.mean([a == b for a, b in zip(named, data.labels, strict=True)]) > 0.95
    assert [(r.label, r.support) for r in head.evaluation.per_class] == [
        ("Mole", 25),
        ("ant", 20),
        ("zebra", 30),
    ]


def test_the_weights_are_scikit_learns_own(blobs: Make) -> None:
    from sklearn.linear_model import LogisticRegression

    data = blobs([40, 30, 50], ["a", "b", "c"], spread=2.5)
    head = learn(data, grid=(0.05,), precision="float64")
    mean, std = data.embeddings.mean(axis=0), data.embeddings.std(axis=0)
    reference = LogisticRegression(C=0.05, max_iter=10_000, tol=1e-9).fit(
        (data.embeddings - mean) / std, data.labels
    )
    logits = reference.decision_function((data.embeddings - mean) / std) / head.temperature
    np.testing.assert_allclose(predict(head, data), softmax(logits), atol=2e-4)


def test_two_classes_get_two_columns(blobs: Make) -> None:
    from sklearn.linear_model import LogisticRegression

    data = blobs([40, 30], ["no", "yes"], spread=4.0)
    head = learn(data, grid=(1.0,), precision="float64")
    assert weights(head).W.shape == (2, 6)
    standard = (data.embeddings - data.embeddings.mean(axis=0)) / data.embeddings.std(axis=0)
    odds = (
        LogisticRegression(C=1.0, max_iter=10_000, tol=1e-9)
        .fit(standard, data.labels)
        .decision_function(standard)
    )
    expected = 1 / (1 + np.exp(-odds / head.temperature))
    np.testing.assert_allclose(predict(head, data)[:, 1], expected, atol=2e-4)


def test_out_of_fold_figures_see_through_noise(make_set: Make) -> None:
    generator = np.random.default_rng(0)
    data = make_set(generator.normal(size=(60, 100)), ["a", "b"] * 30)
    head = learn(data, grid=(10.0,))
    codes = data.codes()
    assert (predict(head, data).argmax(axis=1) == codes).mean() == 1.0
    low, high = head.evaluation.accuracy_interval
    assert low < 0.5 < high
    assert head.evaluation.log_loss < 0.8


def test_evaluation_is_that_of_scikit_learn_fold_by_fold(blobs: Make) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    data = blobs([12, 9, 15], ["a", "b", "c"], spread=4.0)
    head = learn(data, grid=(0.3,), folds=3, seed=4, precision="float64")
    codes = data.codes()
    assigned = stratified_folds(codes, 3, seed=4)
    # Features are standardised over all rows, without their labels.
    standard = (data.embeddings - data.embeddings.mean(axis=0)) / data.embeddings.std(axis=0)
    logits = cross_val_predict(
        LogisticRegression(C=0.3, max_iter=10_000, tol=1e-9),
        standard,
        codes,
        cv=PredefinedSplit(assigned),
        method="decision_function",
    )
    expected = cross_fitted(logits, codes, assigned)
    assert head.evaluation.log_loss == pytest.approx(log_loss(codes, expected), rel=1e-4)
    assert head.evaluation.accuracy == np.mean(expected.argmax(axis=1) == codes)
    assert head.temperature == pytest.approx(fit_temperature(logits, codes), rel=1e-4)


def test_the_chosen_penalty_has_the_least_log_loss(blobs: Make) -> None:
    head = learn(blobs([30, 30], ["a", "b"], spread=5.0), grid=(1e-3, 10.0, 0.1, 0.1))
    chosen = head.hyper_parameters
    assert chosen["grid"] == [1e-3, 0.1, 10.0]
    assert chosen["C"] == chosen["grid"][int(np.argmin(chosen["grid_log_loss"]))]
    assert len(set(chosen["grid_log_loss"])) == 3


def test_a_penalty_at_the_end_of_the_grid_is_noted(blobs: Make) -> None:
    head = learn(blobs([30, 30], ["a", "b"], spread=3.0), grid=(1e-6, 1e-5))
    assert any("largest of the grid" in note for note in head.notes)
    single = learn(blobs([30, 30], ["a", "b"], spread=3.0), grid=(1e-5,))
    assert not any("of the grid" in note for note in single.notes)


def test_imbalanced_classes(blobs: Make) -> None:
    head = learn(blobs([300, 12, 6], ["common", "rare", "rarest"]))
    figures = head.evaluation
    assert figures.baseline_accuracy == pytest.approx(300 / 318)
    assert figures.folds == 5
    assert figures.accuracy > figures.baseline_accuracy
    assert figures.balanced_accuracy > 0.8


def test_two_rows_a_class(blobs: Make) -> None:
    head = learn(blobs([2, 2, 2], ["a", "b", "c"], spread=0.1))
    assert head.evaluation.folds == 2
    assert head.evaluation.accuracy == 1.0
    assert any("2 folds instead of 5" in note for note in head.notes)
    assert np.isfinite(weights(head).W).all()


def test_few_rows_do_not_make_certainty(blobs: Make) -> None:
    data = blobs([2, 2], ["a", "b"], spread=0.01)
    assert predict(learn(data), data).max() < 0.98


def test_constant_features_weigh_nothing(make_set: Make) -> None:
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(40, 3))
    rows[:20, 0] += 4
    rows[:, 2] = 0.3
    head = learn(make_set(rows, ["a"] * 20 + ["b"] * 20))
    np.testing.assert_array_equal(weights(head).W[:, 2], 0)
    assert head.evaluation.accuracy > 0.9


def test_the_same_data_and_seed_give_the_same_head(blobs: Make) -> None:
    data = blobs([20, 20], ["a", "b"], spread=4.0)
    first, again, other = (learn(data, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(weights(first).W, weights(again).W)
    assert first.evaluation == again.evaluation
    assert first.evaluation.log_loss != other.evaluation.log_loss


def test_provenance_is_kept(fitted: FittedHead, iris: TrainingSet) -> None:
    assert (fitted.space_id, fitted.model) == (iris.space_id, "trunkline-small@1")
    assert (fitted.collection, fitted.collection_version) == ("flowers", 7)
    assert (fitted.training_hash, fitted.rows) == (iris.training_hash(), 150)


def test_a_solver_that_does_not_converge_says_so_and_nothing_else(iris: TrainingSet) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        head = learn(iris, max_iterations=1)
    assert caught == []
    assert not head.convergence.converged
    assert any("the solver stopped before its tolerance" in note for note in head.notes)
    assert any("solver runs stopped before their tolerance" in note for note in head.notes)


def test_progress_rises_to_one(iris: TrainingSet) -> None:
    shares: list[float] = []
    fit_logistic(iris, FitOptions(folds=3, grid=(0.1, 1.0)), shares.append)
    assert shares == sorted(shares)
    assert {0.0, 0.475, 0.95, 1.0} == set(shares)


def test_progress_can_end_the_fit(iris: TrainingSet) -> None:
    class GaveUpError(Exception):
        pass

    calls: list[float] = []

    def stop(share: float) -> None:
        calls.append(share)
        raise GaveUpError

    with pytest.raises(GaveUpError):
        fit_logistic(iris, FitOptions(), stop)
    assert len(calls) == 1


@pytest.mark.parametrize("grid", [[], [0.0], [-1.0], [float("nan")], [1.0, float("inf")]])
def test_grids_that_cannot_be(iris: TrainingSet, grid: list[float]) -> None:
    with pytest.raises(InvalidArgument, match="positive, finite values"):
        learn(iris, grid=tuple(grid))


@pytest.mark.parametrize("option", [{"seed": -1}, {"seed": 1.5}, {"max_iterations": 0}, {"folds": 1}])
def test_numbers_that_cannot_be(iris: TrainingSet, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=f"{next(iter(option))} is .*must be an integer"):
        learn(iris, **option)


def test_kinds_by_name(iris: TrainingSet) -> None:
    assert KINDS == ("anomaly", "centroid", "knn", "logistic", "mlp", "ridge")
    head = fit("logistic", iris, FitOptions(folds=2, grid=(1.0,), seed=3))
    assert head.kind == "logistic"
    assert (head.hyper_parameters["folds"], head.hyper_parameters["seed"]) == (2, 3)
    with pytest.raises(InvalidArgument, match="'forest'; the kinds are anomaly, centroid"):
        fit("forest", iris)


def test_heavy_libraries_load_on_first_use() -> None:
    code = (
        "import sys\n"
        "from trunkline_service.heads import fit\n"
        "from trunkline_service.heads.serving import loaded, onnx_head\n"
        "from trunkline_service.heads.storage import registry\n"
        "print([m for m in ('sklearn', 'scipy', 'onnx', 'onnxruntime', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_coarse_grid_is_refined_around_its_best(blobs: Make) -> None:
    head = learn(blobs([60, 60, 60], ["a", "b", "c"], spread=6.0))
    chosen = head.hyper_parameters
    place = chosen["grid"].index(chosen["C"])
    assert 0 < place < len(chosen["grid"]) - 1
    around = np.array(chosen["grid"][place - 1 : place + 2])
    assert (around[1:] / around[:-1] < 2).all()
    assert chosen["grid_log_loss"][place] == min(chosen["grid_log_loss"])


def test_several_labels_a_row(make_set: Make) -> None:
    generator = np.random.default_rng(4)
    has = generator.random((300, 3)) < [0.5, 0.2, 0.7]
    rows = has @ generator.normal(size=(3, 8)) * 2 + generator.normal(size=(300, 8))
    labels = [tuple(name for name, yes in zip("xyz", row, strict=True) if yes) for row in has]
    data = dataclasses.replace(make_set(rows, ["a", "b"] * 150), labels=labels, task="multi-label")
    head = learn(data)
    assert (head.task, head.classes, head.network.activation) == ("multi-label", ("x", "y", "z"), "sigmoid")
    found = predict(head, data)
    assert ((found > 0.5) == has).mean() > 0.9
    assert not np.allclose(found.sum(axis=1), 1)
    assert head.evaluation is not None
    assert head.evaluation.headline[1] > 0.8
    with pytest.raises(InvalidArgument, match="multi-label classes are learned each on its own"):
        learn(data, class_weight="balanced")


def test_balanced_classes_weigh_alike(blobs: Make) -> None:
    data = blobs([400, 20], ["common", "rare"], spread=6.0)
    plain, balanced = learn(data, grid=(0.01,)), learn(data, grid=(0.01,), class_weight="balanced")
    rare = data.codes() == 1
    recall = [(predict(head, data).argmax(axis=1) == 1)[rare].mean() for head in (plain, balanced)]
    assert recall[1] > recall[0] + 0.2
    assert balanced.hyper_parameters["class_weight"] == "balanced"


def test_a_test_split_is_judged_by_the_finished_head(blobs: Make) -> None:
    data = blobs([40, 40], ["a", "b"], spread=4.0)
    more = blobs([40, 40], ["a", "b"], spread=4.5)
    head = learn(data.with_test(more.embeddings, list(more.labels)))
    without = learn(data)
    assert head.test_evaluation is not None
    assert head.test_evaluation.n == 80
    expected = (predict(head, more).argmax(axis=1) == more.codes()).mean()
    assert head.test_evaluation.headline == ("accuracy", pytest.approx(expected))
    np.testing.assert_array_equal(weights(head).W, weights(without).W)


def test_validation_rows_stand_in_for_folds(blobs: Make) -> None:
    data = blobs([50, 50], ["a", "b"], spread=4.0)
    chosen = np.arange(100) < 30
    head = learn(dataclasses.replace(data, validation=chosen))
    assert head.evaluation is not None
    assert (head.evaluation.n, head.evaluation.folds) == (30, 1)
    assert head.out_of_fold is not None
    assert np.isnan(head.out_of_fold[~chosen]).all()
    assert np.isfinite(head.out_of_fold[chosen]).all()


@pytest.mark.parametrize("transform", ["standardise", "l2", "whiten", "none"])
def test_transforms_are_folded_away(blobs: Make, transform: str) -> None:
    data = blobs([40, 40, 40], ["a", "b", "c"])
    head = learn(data, transform=transform)
    assert (predict(head, data).argmax(axis=1) == data.codes()).mean() > 0.95
    assert (head.network.normaliser is not None) == (transform == "l2")


def test_calibration_halves_what_was_far_off(make_set: Make) -> None:
    # Fewer rows than features: at this C the fit is sure of everything.
    generator = np.random.default_rng(8)
    codes = generator.integers(0, 3, 150)
    rows = 0.1 * generator.normal(size=(3, 200))[codes] + generator.normal(size=(150, 200))
    head = learn(make_set(rows, [f"c{k}" for k in codes]), grid=(10.0,))
    assert head.evaluation is not None
    assert head.evaluation.ece_before > 0.08
    assert head.evaluation.ece < head.evaluation.ece_before / 2


def test_a_refit_starts_where_the_last_one_ended(blobs: Make) -> None:
    data = blobs([300, 300, 300], ["a", "b", "c"], spread=6.0)
    first = learn(data)
    labels = list(data.labels)
    labels[:50] = ["a"] * 50
    corrected = dataclasses.replace(data, labels=labels)
    previous = Previous(
        "flowers@1",
        "logistic",
        first.network,
        first.classes,
        first.temperature,
        first.hyper_parameters,
        first.space_id,
    )
    warm = fit("logistic", corrected, previous=previous)
    cold = learn(corrected, grid=(first.hyper_parameters["C"],))
    assert warm.hyper_parameters["grid"] == [first.hyper_parameters["C"]]
    np.testing.assert_allclose(predict(warm, data), predict(cold, data), atol=5e-3)
    again = fit("logistic", data, previous=previous)
    assert again.convergence.iterations <= 3
    others = blobs([30, 30], ["a", "z"])
    with pytest.raises(InvalidArgument, match="flowers@1 can't be refitted"):
        fit("logistic", others, previous=previous)
    with pytest.raises(InvalidArgument, match="kind ridge is always fitted afresh"):
        fit("ridge", data, previous=previous)


def test_thousands_of_classes(make_set: Make) -> None:
    generator = np.random.default_rng(2)
    codes = np.repeat(np.arange(3_000), 2)
    rows = generator.normal(size=(3_000, 8))[codes] + 0.01 * generator.normal(size=(6_000, 8))
    head = learn(make_set(rows, [f"{k:05}" for k in codes]), grid=(1.0,), folds=2, max_iterations=2)
    assert len(head.classes) == 3_000
    assert head.evaluation is not None
    assert head.evaluation.headline[1] > 0.001


def test_the_distance_knows_strangers(blobs: Make) -> None:
    data = blobs([80, 80], ["a", "b"])
    head = learn(data)
    assert head.network.distance is not None
    far = head.network.distance(data.embeddings + 40)
    assert far.min() > head.distance_quantiles["0.999"]
    assert (head.network.distance(data.embeddings)[:, 0] < head.distance_quantiles["0.99"]).mean() > 0.95
