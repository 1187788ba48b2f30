from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.evaluation.calibrate import cross_fitted, fit_temperature
from trunkline_service.heads.fit import KINDS, FittedHead, fit, fit_logistic
from trunkline_service.heads.kinds.linear import softmax
from trunkline_service.heads.training.folds import stratified_folds
from trunkline_service.heads.training.training_set import TrainingSet

Make = Callable[..., TrainingSet]


def predict(head: FittedHead, data: TrainingSet) -> np.ndarray:
    return softmax(data.embeddings @ head.W.T + head.b)


@pytest.mark.parametrize(("dataset", "least"), [("iris", 0.92), ("wine", 0.95), ("digits", 0.9)])
def test_known_data_sets_are_learned(make_set: Make, dataset: str, least: float) -> None:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{dataset}")()
    head = fit_logistic(make_set(bunch.data, [f"class {k}" for k in bunch.target]))
    figures = head.evaluation
    assert figures.accuracy > least
    assert figures.accuracy_interval[0] < figures.accuracy < figures.accuracy_interval[1]
    assert figures.ece < 0.08
    assert figures.folds == 5
    assert figures.n == head.rows == len(bunch.data)
    assert head.converged
    assert head.W.shape == (len(head.classes), bunch.data.shape[1])
    assert head.W.dtype == head.b.dtype == np.float32


def test_classes_keep_their_order(blobs: Make) -> None:
    data = blobs([30, 20, 25], ["zebra", "ant", "Mole"])
    head = fit_logistic(data)
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
    head = fit_logistic(data, grid=[0.05])
    mean, std = data.embeddings.mean(axis=0), data.embeddings.std(axis=0)
    reference = LogisticRegression(C=0.05, max_iter=1000).fit((data.embeddings - mean) / std, data.labels)
    logits = reference.decision_function((data.embeddings - mean) / std) / head.temperature
    np.testing.assert_allclose(predict(head, data), softmax(logits), atol=2e-4)


def test_two_classes_get_two_columns(blobs: Make) -> None:
    from sklearn.linear_model import LogisticRegression

    data = blobs([40, 30], ["no", "yes"], spread=4.0)
    head = fit_logistic(data, grid=[1.0])
    assert head.W.shape == (2, 6)
    standard = (data.embeddings - data.embeddings.mean(axis=0)) / data.embeddings.std(axis=0)
    odds = LogisticRegression(C=1.0, max_iter=1000).fit(standard, data.labels).decision_function(standard)
    expected = 1 / (1 + np.exp(-odds / head.temperature))
    np.testing.assert_allclose(predict(head, data)[:, 1], expected, atol=2e-4)


def test_out_of_fold_figures_see_through_noise(make_set: Make) -> None:
    generator = np.random.default_rng(0)
    data = make_set(generator.normal(size=(60, 100)), ["a", "b"] * 30)
    head = fit_logistic(data, grid=[10.0])
    codes = data.codes()
    assert (predict(head, data).argmax(axis=1) == codes).mean() == 1.0
    low, high = head.evaluation.accuracy_interval
    assert low < 0.5 < high
    assert head.evaluation.log_loss < 0.8


def test_evaluation_is_that_of_scikit_learns_pipeline_fold_by_fold(blobs: Make) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = blobs([12, 9, 15], ["a", "b", "c"], spread=4.0)
    head = fit_logistic(data, grid=[0.3], folds=3, seed=4)
    codes = data.codes()
    assigned = stratified_folds(codes, 3, seed=4)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000))
    logits = cross_val_predict(
        pipeline, data.embeddings, codes, cv=PredefinedSplit(assigned), method="decision_function"
    )
    expected = cross_fitted(logits, codes, assigned)
    assert head.evaluation.log_loss == pytest.approx(log_loss(codes, expected), rel=1e-4)
    assert head.evaluation.accuracy == np.mean(expected.argmax(axis=1) == codes)
    assert head.temperature == pytest.approx(fit_temperature(logits, codes), rel=1e-4)


def test_the_chosen_penalty_has_the_least_log_loss(blobs: Make) -> None:
    head = fit_logistic(blobs([30, 30], ["a", "b"], spread=5.0), grid=[1e-3, 10.0, 0.1, 0.1])
    chosen = head.hyper_parameters
    assert chosen["grid"] == [1e-3, 0.1, 10.0]
    assert chosen["C"] == chosen["grid"][int(np.argmin(chosen["grid_log_loss"]))]
    assert len(set(chosen["grid_log_loss"])) == 3


def test_a_penalty_at_the_end_of_the_grid_is_noted(blobs: Make) -> None:
    head = fit_logistic(blobs([30, 30], ["a", "b"], spread=3.0), grid=[1e-6, 1e-5])
    assert any("largest of the grid" in note for note in head.notes)
    single = fit_logistic(blobs([30, 30], ["a", "b"], spread=3.0), grid=[1e-5])
    assert not any("of the grid" in note for note in single.notes)


def test_imbalanced_classes(blobs: Make) -> None:
    head = fit_logistic(blobs([300, 12, 6], ["common", "rare", "rarest"]))
    figures = head.evaluation
    assert figures.baseline_accuracy == pytest.approx(300 / 318)
    assert figures.folds == 5
    assert figures.accuracy > figures.baseline_accuracy
    assert figures.balanced_accuracy > 0.8


def test_two_rows_a_class(blobs: Make) -> None:
    head = fit_logistic(blobs([2, 2, 2], ["a", "b", "c"], spread=0.1))
    assert head.evaluation.folds == 2
    assert head.evaluation.accuracy == 1.0
    assert any("2 folds instead of 5" in note for note in head.notes)
    assert np.isfinite(head.W).all()


def test_few_rows_do_not_make_certainty(blobs: Make) -> None:
    data = blobs([2, 2], ["a", "b"], spread=0.01)
    assert predict(fit_logistic(data), data).max() < 0.95


def test_constant_features_weigh_nothing(make_set: Make) -> None:
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(40, 3))
    rows[:20, 0] += 4
    rows[:, 2] = 0.3
    head = fit_logistic(make_set(rows, ["a"] * 20 + ["b"] * 20))
    np.testing.assert_array_equal(head.W[:, 2], 0)
    assert head.evaluation.accuracy > 0.9


def test_the_same_data_and_seed_give_the_same_head(blobs: Make) -> None:
    data = blobs([20, 20], ["a", "b"], spread=4.0)
    first, again, other = (fit_logistic(data, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.W, again.W)
    assert first.evaluation == again.evaluation
    assert first.evaluation.log_loss != other.evaluation.log_loss


def test_provenance_is_kept(fitted: FittedHead, iris: TrainingSet) -> None:
    assert (fitted.space_id, fitted.model) == (iris.space_id, "trunkline-small@1")
    assert (fitted.collection, fitted.collection_version) == ("flowers", 7)
    assert (fitted.training_hash, fitted.rows) == (iris.training_hash(), 150)


def test_a_solver_that_does_not_converge_says_so_and_nothing_else(iris: TrainingSet) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        head = fit_logistic(iris, max_iterations=1)
    assert caught == []
    assert not head.converged
    assert any("the solver stopped before its tolerance" in note for note in head.notes)
    assert any("of 30 cross-validation runs stopped" in note for note in head.notes)


def test_warnings_of_another_kind_are_passed_on(iris: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import LogisticRegression

    original = LogisticRegression.fit

    def noisy(self: Any, *args: Any) -> Any:
        warnings.warn("look here", DeprecationWarning, stacklevel=1)
        return original(self, *args)

    monkeypatch.setattr(LogisticRegression, "fit", noisy)
    with pytest.warns(DeprecationWarning, match="look here"):
        fit_logistic(iris, grid=[1.0], folds=2)


def test_progress_rises_to_one(iris: TrainingSet) -> None:
    shares: list[float] = []
    fit_logistic(iris, folds=3, grid=[0.1, 1.0], progress=shares.append)
    assert shares == pytest.approx([i / 7 for i in range(1, 8)])


def test_progress_can_end_the_fit(iris: TrainingSet) -> None:
    class GaveUpError(Exception):
        pass

    calls: list[float] = []

    def stop(share: float) -> None:
        calls.append(share)
        raise GaveUpError

    with pytest.raises(GaveUpError):
        fit_logistic(iris, progress=stop)
    assert len(calls) == 1


@pytest.mark.parametrize("grid", [[], [0.0], [-1.0], [float("nan")], [1.0, float("inf")]])
def test_grids_that_cannot_be(iris: TrainingSet, grid: list[float]) -> None:
    with pytest.raises(InvalidArgument, match="positive, finite values of C"):
        fit_logistic(iris, grid=grid)


@pytest.mark.parametrize("option", [{"seed": -1}, {"seed": 1.5}, {"max_iterations": 0}, {"folds": 1}])
def test_numbers_that_cannot_be(iris: TrainingSet, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=f"{next(iter(option))} is .*must be an integer"):
        fit_logistic(iris, **option)


def test_kinds_by_name(iris: TrainingSet) -> None:
    assert dict(KINDS) == {"logistic": fit_logistic}
    head = fit("logistic", iris, folds=2, grid=[1.0], seed=3)
    assert head.kind == "logistic"
    assert (head.hyper_parameters["folds"], head.hyper_parameters["seed"]) == (2, 3)
    with pytest.raises(InvalidArgument, match="'forest'; the kinds are logistic"):
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
