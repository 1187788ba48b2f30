"""Paired tests: laws of McNemar's and Holm's, against SciPy and the definitions; out-of-fold predictions."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from trunkline_service.heads.evaluation.paired import holm, mcnemar
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.logistic import fit_logistic
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.training.folds import stratified_folds

counts = st.integers(0, 2000)
p_lists = st.lists(st.floats(0, 1), max_size=12)


@given(counts, counts)
def test_mcnemar_is_the_exact_binomial_test(a, b):
    expected = binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(max(expected, sys.float_info.min), rel=1e-9)


@given(counts, counts)
def test_mcnemar_is_symmetric_and_a_probability_above_zero(a, b):
    assert mcnemar(a, b) == mcnemar(b, a)
    assert 0 < mcnemar(a, b) <= 1


@given(counts)
def test_rows_that_split_evenly_show_nothing(a):
    assert mcnemar(a, a) == 1.0


@given(counts, st.integers(0, 2000))
def test_a_wider_gap_is_never_less_significant(a, gap):
    assert mcnemar(a, a + gap + 1) <= mcnemar(a, a + gap) * (1 + 1e-12)


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)
    assert mcnemar(0, 100_000) == sys.float_info.min


@pytest.mark.parametrize("rows", [(-1, 3), (3, -1)])
def test_negative_counts_are_refused(rows):
    with pytest.raises(ValueError, match="not negative"):
        mcnemar(*rows)


@given(p_lists, st.floats(0.001, 0.999))
def test_holm_rejects_what_his_procedure_rejects(p_values, alpha):
    """Holm 1979: step down from the smallest, comparing with alpha / (those that are left)."""
    rejected = set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if (len(p_values) - rank) * p_values[i] > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


@given(p_lists)
def test_holm_lies_between_the_p_values_and_bonferroni(p_values):
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= min(1.0, len(p_values) * p)


@given(p_lists, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order(p_values, random):
    order = random.sample(range(len(p_values)), len(p_values))
    assert holm([p_values[i] for i in order]) == [holm(p_values)[i] for i in order]


def test_holm_by_hand():
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_a_head_gives_the_predictions_it_was_evaluated_by(fitted: FittedHead, iris):
    codes = iris.codes()
    assert fitted.out_of_fold is not None
    assert fitted.out_of_fold.shape == (len(codes), 3)
    assert fitted.out_of_fold.dtype == np.float32
    np.testing.assert_allclose(fitted.out_of_fold.sum(axis=1), 1, atol=1e-6)
    assert np.mean(fitted.out_of_fold.argmax(axis=1) == codes) == fitted.evaluation.accuracy
    truth = fitted.out_of_fold[np.arange(len(codes)), codes]
    assert -np.log(truth).mean() == pytest.approx(fitted.evaluation.log_loss, rel=1e-5)


def test_no_row_takes_part_in_its_own_prediction(blobs, make_set):
    """A row that is moved changes what other folds are told, and not what was learned for its own."""
    data = blobs([20, 20], ["a", "b"], spread=2.0)
    assigned = stratified_folds(data.codes(), 5, seed=0)
    first = fit_logistic(data, FitOptions(grid=(0.1,)))
    held_out = np.flatnonzero(assigned == 0)
    moved = data.embeddings.copy()
    moved[held_out[0]] += 50
    second = fit_logistic(make_set(moved, data.labels), FitOptions(grid=(0.1,)))
    order = first.out_of_fold[held_out[1:], 0].argsort()
    # Of its own fold nothing but the common temperature can have changed, and that keeps the order.
    np.testing.assert_array_equal(second.out_of_fold[held_out[1:], 0].argsort(), order)
    assert np.abs(first.out_of_fold[assigned != 0] - second.out_of_fold[assigned != 0]).max() > 0.01
