from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.heads.kinds.centroid import fit_centroid
from trunkline_service.heads.kinds.linear import softmax
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.training.training_set import TrainingSet

Make = Callable[..., TrainingSet]


def test_it_is_simple_shot(clouds: Make) -> None:
    data = clouds(per_class=10, classes=4)
    head = fit_centroid(data)
    rows = data.embeddings.astype(np.float64)
    moved = rows - rows.mean(axis=0)
    unit = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    means = np.stack([unit[data.codes() == k].mean(axis=0) for k in range(4)])
    squared = ((unit[:, None] - means) ** 2).sum(axis=2)
    expected = softmax(-squared / head.temperature)
    np.testing.assert_allclose(head.network(data.embeddings), expected, atol=1e-5)
    assert head.network.normaliser is not None
    np.testing.assert_allclose(head.network.normaliser.centre, rows.mean(axis=0), rtol=1e-5)


def test_it_is_scikit_learns_nearest_centroid(clouds: Make) -> None:
    from sklearn.neighbors import NearestCentroid

    data = clouds(per_class=15, classes=3, distance=2.0)
    head = fit_centroid(data, FitOptions(transform="none"))
    reference = NearestCentroid().fit(data.embeddings, data.codes())
    np.testing.assert_array_equal(
        head.network(data.embeddings).argmax(axis=1), reference.predict(data.embeddings)
    )


@pytest.mark.parametrize("transform", ["l2", "standardise", "whiten", "none"])
def test_every_transform_is_folded(clouds: Make, transform: Any) -> None:
    data = clouds(per_class=30, classes=3, distance=5.0)
    head = fit_centroid(data, FitOptions(transform=transform))
    assert head.evaluation is not None
    assert head.evaluation.headline[1] > 0.85
    assert (head.network.normaliser is not None) == (transform == "l2")
    assert (head.network(data.embeddings).argmax(axis=1) == data.codes()).mean() > 0.9


def test_two_rows_a_class(clouds: Make) -> None:
    head = fit_centroid(clouds(per_class=2, classes=5, distance=9.0))
    assert head.evaluation is not None
    assert head.evaluation.folds == 2
    assert head.evaluation.headline == ("accuracy", 1.0)


def test_many_classes_of_few_rows_keep_honest_probabilities(clouds: Make) -> None:
    data = clouds(per_class=5, classes=20, dim=16, distance=3.0)
    head = fit_centroid(data)
    assert head.out_of_fold is not None
    confidence, right = head.out_of_fold.max(axis=1), head.out_of_fold.argmax(axis=1) == data.codes()
    assert confidence.mean() == pytest.approx(right.mean(), abs=0.1)
    assert head.evaluation.ece < head.evaluation.ece_before  # type: ignore[union-attr]


def test_a_class_missing_from_a_fold_is_never_named_there(given: Make) -> None:
    generator = np.random.default_rng(0)
    rows = (
        generator.normal(size=(12, 6)) + np.repeat(np.eye(3), 4, axis=0) @ generator.normal(size=(3, 6)) * 6
    )
    labels = ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    # All of c are one thing: while it is held out, nothing of it is left.
    groups = [None] * 8 + ["thing"] * 4
    head = fit_centroid(given(rows, labels, groups=groups))
    assert head.evaluation is not None
    assert head.evaluation.per_class[2].recall == 0  # type: ignore[union-attr]
    assert head.out_of_fold is not None
    assert np.isfinite(head.out_of_fold).all()
    assert (head.network(np.asarray(rows, np.float32)).argmax(axis=1)[8:] == 2).all()


def test_row_weights_move_the_means(given: Make) -> None:
    rows = np.array([[0.0, 0.0], [2.0, 0.0], [8.0, 1.0], [10.0, 1.0]])
    labels = ["a", "a", "b", "b"]
    head = fit_centroid(
        given(rows, labels, weights=np.array([1.0, 3.0, 1.0, 1.0])), FitOptions(transform="none")
    )
    body: Any = head.network.body
    np.testing.assert_allclose(body.W[0] * head.temperature / 2, [1.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(body.W[1] * head.temperature / 2, [9.0, 1.0], atol=1e-5)
