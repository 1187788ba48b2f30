"""AUROC and average precision: scikit-learn's, whatever the ties and weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trunkline_service.heads.evaluation.ranking import rank, rank_classes, rank_labels


@st.composite
def scored(draw):
    """Scores with many ties, both kinds of rows, and weights."""
    n = draw(st.integers(2, 60))
    scores = draw(hnp.arrays(np.float64, n, elements=st.integers(-4, 4).map(float)))
    positive = draw(hnp.arrays(np.bool_, n))
    positive[0], positive[1] = True, False
    weights = draw(hnp.arrays(np.float64, n, elements=st.floats(0.1, 10)))
    return positive, scores, weights


@settings(deadline=None, max_examples=30)
@given(scored())
def test_ranking_is_scikit_learns(case):
    from sklearn.metrics import average_precision_score, roc_auc_score

    positive, scores, weights = case
    plain, weighted = rank(positive, scores), rank(positive, scores, weights)
    assert plain.auroc == pytest.approx(roc_auc_score(positive, scores))
    assert plain.average_precision == pytest.approx(average_precision_score(positive, scores))
    assert weighted.auroc == pytest.approx(roc_auc_score(positive, scores, sample_weight=weights))
    assert weighted.average_precision == pytest.approx(
        average_precision_score(positive, scores, sample_weight=weights)
    )


@settings(deadline=None, max_examples=30)
@given(scored())
def test_rows_twice_are_rows_of_weight_two(case):
    positive, scores, _ = case
    twice = np.random.default_rng(0).integers(1, 3, len(scores))
    doubled = rank(np.repeat(positive, twice), np.repeat(scores, twice))
    assert rank(positive, scores, twice.astype(float)) == pytest.approx(doubled)


@pytest.mark.parametrize("value", [True, False])
def test_one_kind_of_rows_ranks_nothing(value):
    assert rank(np.full(4, value), np.arange(4.0)) is None


def test_each_class_is_ranked_against_the_others():
    # More classes than are copied at a time, one of them without rows.
    generator = np.random.default_rng(3)
    codes = generator.integers(0, 39, 300)
    probabilities = generator.random((300, 40))
    found = rank_classes(codes, probabilities)
    assert found[39] is None
    assert found[35] == rank(codes == 35, probabilities[:, 35])
    indicator = codes[:, None] == np.arange(40)
    assert rank_labels(indicator, probabilities) == found


def test_too_much_to_sort_is_not_ranked():
    # A matrix of this shape that takes no memory.
    probabilities = np.broadcast_to(np.float32(0.1), (1 << 20, 1 << 9))
    assert rank_classes(np.zeros(1 << 20, np.int64), probabilities) == [None] * (1 << 9)
