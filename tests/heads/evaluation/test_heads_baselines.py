"""Simple rules: as scikit-learn's, on the rows that each fold learned from."""

from __future__ import annotations

import numpy as np
import pytest

from trunkline_service.heads.evaluation import baselines
from trunkline_service.heads.evaluation.agreement import Agreement, changes, correlation, paired


@pytest.fixture
def rows():
    """Embeddings, codes and folds; the first rows are never held out."""
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 4, 200)
    embeddings = (generator.normal(size=(4, 8))[codes] * 2 + generator.normal(size=(200, 8)) + 5).astype(
        np.float32
    )
    assigned = np.where(np.arange(200) < 20, -1, np.arange(200) % 3)
    return embeddings, codes, assigned


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_nearest_centroid_is_scikit_learns(rows, monkeypatch):
    from sklearn.neighbors import NearestCentroid

    embeddings, codes, assigned = rows
    # Small enough that rows come in several chunks.
    monkeypatch.setattr(baselines, "_HELD", 8 * 30)
    found = baselines.nearest_centroid(embeddings, codes, assigned, 4)
    assert (found[assigned == -1] == -1).all()
    for fold in range(3):
        learned, judged = assigned != fold, assigned == fold
        centre = embeddings[learned].mean(axis=0)
        peer = NearestCentroid().fit(unit(embeddings[learned] - centre), codes[learned])
        assert (peer.predict(unit(embeddings[judged] - centre)) == found[judged]).all()
    assert (found == codes)[assigned >= 0].mean() > 0.8


def test_a_class_that_a_fold_lacks_is_never_nearest(rows):
    embeddings, codes, assigned = rows
    assigned = np.where(codes == 2, 1, assigned)
    found = baselines.nearest_centroid(embeddings, codes, assigned, 4)
    assert (found[assigned == 1] != 2).all()


def test_majority_is_of_the_learned_rows(rows):
    _, codes, assigned = rows
    found = baselines.majority(codes, assigned, 4)
    for fold in range(3):
        counts = np.bincount(codes[assigned != fold], minlength=4)
        assert set(found[assigned == fold]) == {counts.argmax()}
    assert (found[assigned == -1] == -1).all()


def test_labels_of_most_rows():
    indicator = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], dtype=bool)
    found = baselines.majority_labels(indicator, np.array([0, 0, 1, -1]))
    # Without the first two: (0, 1) and (1, 1). Without the third: (1, 0), (1, 0), (1, 1).
    assert found.tolist() == [[True, True], [True, True], [True, False], [False, False]]


def test_nearest_side_separates_labels(rows):
    embeddings, codes, assigned = rows
    indicator = np.column_stack([codes == 0, codes == 3, np.zeros(200, bool), np.ones(200, bool)])
    found = baselines.nearest_side(embeddings, indicator, assigned)
    held_out = assigned >= 0
    assert (found == indicator)[held_out, :2].mean() > 0.85
    assert not found[held_out, 2].any()
    assert found[held_out, 3].all()


def test_nearest_side_by_hand():
    embeddings = np.array([[4.0, 0], [2, 0], [0, 2], [0, 4], [3, 1]], dtype=np.float32)
    indicator = np.array([[True], [True], [False], [False], [True]])
    found = baselines.nearest_side(embeddings, indicator, np.array([-1, -1, -1, -1, 0]))
    assert found[4, 0]


def test_means_pass_over_missing_values():
    values = np.array([[1.0, np.nan], [3.0, 4.0], [5.0, 8.0], [9.0, 2.0]])
    found = baselines.mean_values(values, np.array([0, 0, 1, -1]))
    np.testing.assert_allclose(found[:3], [[7.0, 5.0], [7.0, 5.0], [13 / 3, 3.0]])
    assert np.isnan(found[3]).all()


def test_distance_is_from_the_normal_rows_learned_from():
    embeddings = np.array([[0.0, 0], [2, 0], [9, 9], [1, 3]], dtype=np.float32)
    normal = np.array([True, True, False, True])
    found = baselines.distance_from_mean(embeddings, normal, np.array([-1, -1, -1, 0]))
    assert found[3] == pytest.approx(3.0)
    assert np.isnan(found[:3]).all()


def test_changes_are_counted_the_commonest_first():
    before, now = ["a", "a", "b", "b", "c"], ["b", "b", "a", "b", "c"]
    assert changes(before, now) == (("a", "b", 2), ("b", "a", 1))


def test_pairs_count_who_alone_was_right():
    found = paired(np.array([True, True, False, True]), np.array([True, False, True, False]))
    assert (found.only_first, found.only_second) == (2, 1)
    assert found.p_value == 1.0


def test_correlation_is_numpys():
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=(2, 50, 3))
    expected = np.mean([np.corrcoef(a[:, m], b[:, m])[0, 1] for m in range(3)])
    assert correlation(a, b) == pytest.approx(expected)
    assert correlation(np.zeros((4, 1)), np.arange(4.0)[:, None]) == 0.0


def test_agreement_reads_back_equal():
    found = Agreement("x@1", 10, True, "accuracy", 0.5, 0.6, 0.8, 1, 2, 1.0, (("a", "<b>", 3),))
    assert Agreement.from_json(found.to_json()) == found
