"""Suspect labels: seeded flips are found, the ranking is by self-confidence, counts of errors come near."""

from __future__ import annotations

import numpy as np
import pytest

from trunkline_service.heads.evaluation.suspects import (
    Suspect,
    estimated_errors,
    suspects,
    suspects_multi_label,
)
from trunkline_service.heads.kinds.logistic import fit_logistic
from trunkline_service.heads.options import FitOptions


@pytest.fixture(scope="module")
def flipped(make_set):
    """Digits of which 5% are labelled wrong: which ones, their codes, out-of-fold probabilities, classes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    generator = np.random.default_rng(0)
    labels = digits.target.copy()
    wrong = generator.permutation(len(labels))[: len(labels) // 20]
    labels[wrong] = (labels[wrong] + generator.integers(1, 10, len(wrong))) % 10
    data = make_set(digits.data, [str(label) for label in labels])
    fitted = fit_logistic(data, FitOptions(grid=(0.1,)))
    return wrong, data.codes(), fitted.out_of_fold, data.classes


def test_seeded_flips_are_among_the_first_tenth(flipped):
    wrong, codes, probabilities, classes = flipped
    found = {suspect.row for suspect in suspects(codes, probabilities, classes, limit=len(codes) // 10)}
    assert len(found & set(wrong.tolist())) >= 0.9 * len(wrong)


def test_the_number_of_errors_is_told(flipped):
    wrong, codes, probabilities, _ = flipped
    assert estimated_errors(codes, probabilities) == pytest.approx(len(wrong), rel=0.35)


def test_the_order_is_by_the_labels_probability():
    probabilities = np.array([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    found = suspects(
        np.array([0, 0, 0, 1, 0]), probabilities, ["a", "<b>"], ids=list("vwxyz"), sources=list("VWXYZ")
    )
    assert [suspect.id for suspect in found] == ["w", "z", "v"]
    assert found[0] == Suspect(row=1, id="w", source="W", label="a", suggested="<b>", score=0.1)
    assert suspects(np.array([0, 0, 0, 1, 0]), probabilities, ["a", "b"], limit=1) == (
        Suspect(row=1, id="", source="", label="a", suggested="b", score=0.1),
    )


def test_rows_that_were_never_held_out_are_passed_over():
    probabilities = np.array([[np.nan, np.nan], [0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    codes = np.array([0, 0, 0, 1])
    assert [suspect.row for suspect in suspects(codes, probabilities, ["a", "b"])] == [1]
    assert estimated_errors(codes, probabilities) == estimated_errors(codes[1:], probabilities[1:])


def test_without_doubt_there_are_none():
    assert suspects(np.array([0, 1]), np.eye(2), ["a", "b"]) == ()
    assert estimated_errors(np.array([0, 1]), np.eye(2)) == 0


def test_confident_errors_by_hand():
    # Means of a on a, and of b on b: 0.69 and 0.7. Row 2 reaches b's; row 5 reaches neither.
    first = np.array([0.9, 0.9, 0.27, 0.25, 0.25, 0.4])
    probabilities = np.column_stack([first, 1 - first])
    codes = np.array([0, 0, 0, 1, 1, 1])
    # Of the a's one of three is confidently b; of the b's none is confidently a.
    assert estimated_errors(codes, probabilities) == 1


def test_multi_label_doubts_one_label_at_a_time():
    classes = ["cat", "dog", "tree"]
    indicator = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=bool)
    probabilities = np.array([[0.9, 0.2, 0.05], [0.1, 0.9, 0.8], [0.9, 0.1, 0.2]])
    found = suspects_multi_label(indicator, probabilities, classes, ids=["x", "y", "z"])
    assert [(s.id, s.label, s.suggested) for s in found] == [
        ("x", ("cat", "tree"), ("cat",)),
        ("y", ("dog",), ("dog", "tree")),
    ]
    assert [s.score for s in found] == pytest.approx([0.05, 0.2])


def test_multi_label_rows_of_nan_are_passed_over():
    indicator = np.array([[True], [True]])
    found = suspects_multi_label(indicator, np.array([[np.nan], [0.1]]), ["a"])
    assert [s.row for s in found] == [1]
