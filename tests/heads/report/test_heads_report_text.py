"""Figures and findings in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trunkline_service.heads.evaluation.agreement import Agreement
from trunkline_service.heads.evaluation.anomaly import evaluate_anomaly
from trunkline_service.heads.evaluation.evaluate import evaluate
from trunkline_service.heads.evaluation.learning_curve import LearningCurve
from trunkline_service.heads.report.figures import chance, figure_value, figures, number, points, share
from trunkline_service.heads.report.findings import beside_previous, findings, twice_the_labels
from trunkline_service.heads.report.parts import Baseline
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.report.text import classes_table


def evaluation(classes=3, n=300):
    codes = np.arange(n) % classes
    probabilities = np.full((n, classes), 0.2 / (classes - 1))
    probabilities[np.arange(n), (codes + (np.arange(n) < n // 4)) % classes] = 0.8
    return evaluate(codes, probabilities, [f"class {k}" for k in range(classes)], 5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.81234, "0.8123"),
        (12.3456, "12.35"),
        (5120.4, "5,120"),
        (0.00001234, "0.000012"),
        (-2.5, "-2.500"),
    ],
)
def test_numbers_keep_four_digits(value, text):
    assert number(value) == text


def test_other_ways_of_writing():
    assert share(0.7516) == "75.2%"
    assert (points(0.0141), points(0.01)) == ("1.4 points", "1.0 point")
    assert (chance(0.0312), chance(1e-9)) == ("p = 0.031", "p < 0.0001")
    assert (figure_value("R2", -0.0001), figure_value("accuracy", 0.5)) == ("0.000", "50.0%")


def test_figures_come_headline_first_with_intervals():
    found = figures(evaluation())
    assert (found[0].name, found[0].value) == ("Accuracy", "75.0%")
    assert found[0].interval == "69.8% to 79.6%"
    assert all(figure.value and figure.meaning for figure in found)


def test_figures_that_are_unknown_are_left_out():
    found = figures(evaluate_anomaly(np.ones(10, bool), np.arange(10.0), 5))
    assert [figure.name for figure in found] == ["99% of normal scores"]


def curve(gain, low, high, verdict):
    return LearningCurve("accuracy", (), None, gain, None if gain is None else (low, high), verdict)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            curve(0.014, 0.006, 0.02, "gain"),
            "Twice the labels would bring about 1.4 points of accuracy (0.6 to 2.0, if the curve goes on as it does).",
        ),
        (
            curve(0.001, 0.0, 0.003, "little"),
            "Twice the labels would bring little: at most 0.3 points of accuracy.",
        ),
        (
            curve(0.02, 0.001, 0.05, "unclear"),
            "What twice the labels would bring is unclear: between 0.1 and 5.0 points of accuracy.",
        ),
        (curve(None, 0, 0, "unclear"), "There are too few rows to say what more labels would bring."),
    ],
)
def test_what_twice_the_labels_bring(found, sentence):
    assert twice_the_labels(found) == sentence


def test_a_head_no_better_than_a_simple_rule_is_called_so():
    report = Report("single-label", ("class 0", "class 1", "class 2"), evaluation())
    better = replace(report, baselines=(Baseline("nearest centroid", "accuracy", 0.6, p_value=0.001),))
    unclear = replace(report, baselines=(Baseline("nearest centroid", "accuracy", 0.74, p_value=0.3),))
    worse = replace(report, baselines=(Baseline("nearest centroid", "accuracy", 0.8, p_value=0.01),))
    assert findings(better)[0] == "It is 15.0 points above the best simple rule: 60.0% (nearest centroid)."
    assert findings(unclear)[0].startswith("It is not clearly better than the best simple rule: 74.0%")
    assert findings(worse)[0].startswith("It is no better than the best simple rule: 80.0%")


def test_the_commonest_mistake_is_named():
    assert findings(Report("single-label", (), evaluation()))[-1] == (
        "The commonest mistake: class 0 taken for class 1, 25 rows."
    )


def test_a_previous_version_that_saw_the_rows_is_said_to():
    seen = Agreement("flowers@2", 1000, False, "accuracy", 0.8, 0.82, 0.9, 30, 50, 0.03)
    assert beside_previous(seen) == (
        "90.0% of 1,000 rows get the same answer as from flowers@2; on these rows, held out here, accuracy is 82.0%, "
        "and was 80.0% (a clear difference, p = 0.03). flowers@2 may have learned from them, which flatters it."
    )
    unseen = replace(seen, held_out=True, p_value=0.4, figure="R2")
    assert beside_previous(unseen) == (
        "The answers correlate by 0.90 with those of flowers@2; on these rows, of a test split, R2 is 0.820, and was "
        "0.800 (no clear difference, p = 0.4)."
    )
    assert (
        beside_previous(replace(unseen, value=None))
        == "The answers correlate by 0.90 with those of flowers@2."
    )


def test_of_many_classes_the_weakest_are_shown():
    table = classes_table(evaluation(classes=30, n=900), limit=20)
    assert table.title == "the 20 weakest of 30 classes"
    assert len(table.rows) == 20
    shown = [float(row[-1].rstrip("%")) for row in table.rows]
    assert shown == sorted(shown)
