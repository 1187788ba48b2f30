"""What to label next: uncertain rows, and not the same one twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.heads.evaluation.suggest import suggest


def test_the_least_sure_row_comes_first_and_says_why():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.45, 0.43, 0.12], [0.6, 0.3, 0.1]])
    found = suggest(probabilities, np.eye(3, dtype=np.float32), ["cat", "dog", "tree"], count=2)
    assert found[0].row == 1
    assert found[0].margin == pytest.approx(0.02)
    assert found[0].reason == "cat (45%) or dog (43%)"
    assert [suggestion.row for suggestion in found] == [1, 2]


def test_copies_of_a_doubtful_row_are_not_suggested_again():
    """Ten copies of one doubtful picture and two others: the others come before the second copy."""
    embeddings = np.array([[1.0, 0.0]] * 10 + [[0.0, 1.0], [-1.0, 0.0]], dtype=np.float32)
    one = np.array([0.5] * 10 + [0.6, 0.7])
    found = suggest(np.column_stack([one, 1 - one]), embeddings, ["a", "b"], count=4)
    rows = [suggestion.row for suggestion in found]
    assert rows[0] < 10
    assert set(rows[1:3]) == {10, 11}
    assert rows[3] < 10


def test_only_the_most_uncertain_rows_are_looked_at():
    generator = np.random.default_rng(0)
    one = np.concatenate([np.full(20, 0.55), np.full(500, 0.95)])
    embeddings = generator.normal(size=(520, 4)).astype(np.float32)
    found = suggest(np.column_stack([one, 1 - one]), embeddings, ["a", "b"], count=2)
    assert all(suggestion.row < 20 for suggestion in found)


def test_multi_label_doubts_are_near_one_half():
    probabilities = np.array([[0.9, 0.1], [0.97, 0.52], [0.2, 0.8]])
    found = suggest(probabilities, np.eye(3, dtype=np.float32), ["cat", "dog"], count=1, multi_label=True)
    assert [(s.row, s.reason) for s in found] == [(1, "dog or not (52%)")]
    assert found[0].margin == pytest.approx(0.04)


@settings(deadline=None)
@given(n=st.integers(0, 40), count=st.integers(0, 50), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_suggestions_are_different_rows_that_can_be_judged(n, count, seed, share):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(3), n)
    probabilities[generator.random(n) < share] = np.nan
    # Many rows alike.
    embeddings = np.round(generator.normal(size=(n, 2))).astype(np.float32)
    rows = [s.row for s in suggest(probabilities, embeddings, ["a", "b", "c"], count=count)]
    usable = int((~np.isnan(probabilities[:, 0])).sum())
    assert len(rows) == len(set(rows)) == min(count, usable)
    assert not np.isnan(probabilities[rows]).any()
