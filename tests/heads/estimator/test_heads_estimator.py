from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from trunkline_service.heads.estimator import TrunklineClassifier, classifier
from trunkline_service.heads.storage.registry import HeadRegistry

SPACE = "sp1-" + "0123456789abcdef" * 2
WEIGHTS = (
    "candidates and temperature are chosen by folds of rows: a row of weight 2 is in one fold, its two copies "
    "are one row more in it, and the temperature counts rows"
)


@parametrize_with_checks(
    [TrunklineClassifier(kind) for kind in ("logistic", "ridge")],
    expected_failed_checks=lambda _: {"check_sample_weight_equivalence_on_dense_data": WEIGHTS},
)
def test_scikit_learns_own_checks(estimator: TrunklineClassifier, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def iris() -> tuple[np.ndarray, np.ndarray]:
    return load_iris(return_X_y=True)


@pytest.mark.parametrize("kind", ["logistic", "ridge", "centroid", "knn", "mlp"])
def test_every_kind_learns(kind: str, iris: tuple[np.ndarray, np.ndarray]) -> None:
    rows, labels = iris
    fitted = TrunklineClassifier(kind, max_iterations=1000 if kind != "mlp" else 40).fit(rows, labels)
    assert fitted.score(rows, labels) > 0.75
    probabilities = fitted.predict_proba(rows)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), fitted.predict(rows))
    np.testing.assert_array_equal(fitted.decision_function(rows).argmax(axis=1), fitted.predict(rows))


@pytest.mark.parametrize(
    "labels",
    [
        np.array([9, 10, 100]),
        np.array(["b", "a", "C"]),
        np.array([1.0, -4.0, 20.0]),
        np.array(["ü", "ß", "x"], object),
    ],
)
def test_labels_of_any_type_come_back(labels: np.ndarray, iris: tuple[np.ndarray, np.ndarray]) -> None:
    rows, codes = iris
    fitted = TrunklineClassifier(folds=2, grid=0.1).fit(rows, labels[codes])
    np.testing.assert_array_equal(fitted.classes_, np.unique(labels))
    assert fitted.predict(rows).dtype == labels.dtype
    assert (fitted.predict(rows) == labels[codes]).mean() > 0.9
    np.testing.assert_array_equal(
        fitted.classes_[fitted.predict_proba(rows).argmax(axis=1)], fitted.predict(rows)
    )


def test_booleans() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3))
    truth = rows[:, 0] > 0
    fitted = TrunklineClassifier(folds=2, grid=1.0).fit(rows, truth)
    assert fitted.predict(rows).dtype == np.bool_
    odds = fitted.decision_function(rows)
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), fitted.predict_proba(rows)[:, 1], rtol=1e-6)


def test_it_works_in_pipelines_and_searches(iris: tuple[np.ndarray, np.ndarray]) -> None:
    rows, labels = iris
    pipeline = make_pipeline(StandardScaler(), TrunklineClassifier("ridge", preprocess="none"))
    assert cross_val_score(pipeline, rows, labels, cv=3).mean() > 0.7


def test_a_class_of_a_single_row_is_never_predicted(iris: tuple[np.ndarray, np.ndarray]) -> None:
    rows, labels = iris
    named = labels.copy()
    named[0] = 7
    fitted = TrunklineClassifier(folds=2, grid=0.1).fit(rows, named)
    np.testing.assert_array_equal(fitted.classes_, [0, 1, 2, 7])
    assert (fitted.predict_proba(rows)[:, 3] == 0).all()
    assert (fitted.decision_function(rows)[:, 3] == -np.inf).all()
    assert 7 not in fitted.predict(rows)
    assert any("classes of a single row" in note for note in fitted.head_.notes)


def test_the_grid_and_the_weights_reach_the_fit(iris: tuple[np.ndarray, np.ndarray]) -> None:
    rows, labels = iris
    fitted = TrunklineClassifier(grid=[0.1, 1.0], folds=3, random_state=4).fit(rows, labels)
    assert fitted.head_.hyper_parameters["grid"] == [0.1, 1.0]
    assert fitted.head_.hyper_parameters["seed"] == 4
    half = np.where(labels == 2, 0.0, 1.0)
    without = TrunklineClassifier(grid=1.0, folds=2).fit(rows, labels, sample_weight=half)
    assert without.head_.classes == ("0", "1")
    heavy = TrunklineClassifier(grid=1.0, folds=2, class_weight={1: 1000.0, 0: 1e-3, 2: 1e-3}).fit(
        rows, labels
    )
    assert (heavy.predict(rows) == 1).mean() > 0.6
    balanced = TrunklineClassifier(grid=1.0, folds=2, class_weight="balanced").fit(rows, labels)
    assert balanced.head_.hyper_parameters["class_weight"] == "balanced"


def test_random_states(iris: tuple[np.ndarray, np.ndarray]) -> None:
    rows, labels = iris
    for state in (None, np.random.RandomState(3), np.int64(5)):
        seed = (
            TrunklineClassifier("centroid", random_state=state)
            .fit(rows, labels)
            .head_.hyper_parameters["seed"]
        )
        assert 0 <= seed < 2**31


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kind": "forest"}, "no kind of head is called 'forest'"),
        ({"kind": "anomaly"}, "can't learn single-label data"),
        ({"folds": 1}, "folds is 1"),
        ({"grid": -1.0}, "positive, finite"),
        ({"preprocess": "pca"}, "transform is 'pca'"),
        ({"class_weight": "even"}, "class_weight is 'even'"),
        ({"kind": "knn", "class_weight": {0: 2.0}}, "can't weigh classes"),
    ],
)
def test_what_cannot_be(
    parameters: dict[str, Any], message: str, iris: tuple[np.ndarray, np.ndarray]
) -> None:
    with pytest.raises(ValueError, match=message):
        TrunklineClassifier(**parameters).fit(*iris)


def test_labels_that_are_blank_or_equal_as_text(iris: tuple[np.ndarray, np.ndarray]) -> None:
    rows, labels = iris
    with pytest.raises(ValueError, match="distinct as text, and not blank"):
        TrunklineClassifier().fit(rows, np.array(["a", " ", "b"])[labels])


def test_the_onnx_model_gives_the_same_probabilities(iris: tuple[np.ndarray, np.ndarray]) -> None:
    import onnxruntime as ort

    rows, labels = iris
    fitted = TrunklineClassifier(grid=0.1, folds=2).fit(rows, np.array([9, 10, 100])[labels])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(fitted.to_onnx(SPACE), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"embedding": rows.astype(np.float32)})
    # By the text of the labels: 10, 100, 9.
    assert fitted.head_.classes == ("10", "100", "9")
    np.testing.assert_allclose(found[:, [2, 0, 1]], fitted.predict_proba(rows), atol=1e-5)


def test_it_is_saved_and_served(tmp_path: Path, iris: tuple[np.ndarray, np.ndarray]) -> None:
    rows, labels = iris
    fitted = TrunklineClassifier("centroid").fit(rows, load_iris().target_names[labels])
    registry = HeadRegistry(tmp_path)
    card = fitted.save(registry, "iris", space_id=SPACE, model="small@1", collection="flowers")
    assert (card.name, card.version, card.space_id, card.model) == ("iris", 1, SPACE, "small@1")
    assert (card.collection, card.classes) == ("flowers", ("setosa", "versicolor", "virginica"))
    assert registry.load("iris").card == card


def test_the_example_runs() -> None:
    found = doctest.testmod(classifier)
    assert found.attempted > 0
    assert found.failed == 0


def test_scikit_learn_loads_with_the_estimator_alone() -> None:
    code = (
        "import sys\n"
        "from trunkline_service.heads import fit\n"
        "from trunkline_service.heads.kinds import anomaly, centroid, knn, logistic, mlp, ridge\n"
        "assert 'sklearn' not in sys.modules\n"
        "from trunkline_service.heads import estimator\n"
        "assert 'sklearn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
