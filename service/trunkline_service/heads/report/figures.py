"""The figures of an evaluation as text: their names, values, intervals and meaning."""

from __future__ import annotations

import math
from typing import NamedTuple

from trunkline_service.heads.evaluation.anomaly import AnomalyEvaluation
from trunkline_service.heads.evaluation.documents import Intervals
from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.heads.evaluation.kinds import AnyEvaluation
from trunkline_service.heads.evaluation.multi_label import MultiLabelEvaluation
from trunkline_service.heads.evaluation.regression import RegressionEvaluation


class Figure(NamedTuple):
    """One figure.

    Attributes:
        name: As people say it.
        value: Its value.
        interval: Its 95% interval; empty where there is none.
        meaning: What it is, in a sentence.
    """

    name: str
    value: str
    interval: str
    meaning: str


def share(value: float) -> str:
    """``75.2%``."""
    return f"{value:.1%}"


def points(value: float) -> str:
    """``1.4 points``: hundredths of a figure."""
    text = f"{100 * value:.1f}"
    return f"{text} point{'' if text == '1.0' else 's'}"


def number(value: float) -> str:
    """Four digits that count: ``0.8123``, ``12.35``, ``5,120``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"


def figure_value(name: str, value: float) -> str:
    """A value as its figure is written: ``0.812`` for R2, ``75.2%`` for all others."""
    # Adding zero makes -0.0 of a value that rounds to nothing a plain 0.
    return f"{round(value, 3) + 0.0:.3f}" if name == "R2" else share(value)


def chance(p_value: float) -> str:
    """``p = 0.03``, ``p < 0.0001``."""
    return "p < 0.0001" if p_value < 1e-4 else f"p = {p_value:.2g}"


def figures(evaluation: AnyEvaluation) -> list[Figure]:
    """All figures of an evaluation, the headline first; those that could not be computed are left out."""
    match evaluation:
        case Evaluation():
            return _single_label(evaluation)
        case MultiLabelEvaluation():
            return _multi_label(evaluation)
        case RegressionEvaluation():
            return _regression(evaluation)
        case AnomalyEvaluation():
            return _anomaly(evaluation)


def between(pair: tuple[float, float] | None, name: str = "") -> str:
    """``73.8% to 76.4%``, as the figure of that name is written; empty for None."""
    return "" if pair is None else f"{figure_value(name, pair[0])} to {figure_value(name, pair[1])}"


def _between_numbers(pair: tuple[float, float] | None) -> str:
    return "" if pair is None else f"{number(pair[0])} to {number(pair[1])}"


def _single_label(found: Evaluation) -> list[Figure]:
    intervals: Intervals = {"accuracy": found.accuracy_interval} | {
        name: pair for name, pair in found.intervals.items() if name != "accuracy"
    }
    listed = [
        _shown(
            "Accuracy", found.accuracy, intervals.get("accuracy"), "Rows whose most probable class is right."
        ),
        _shown(
            "Balanced accuracy",
            found.balanced_accuracy,
            intervals.get("balanced_accuracy"),
            "The mean over classes of the share of their rows that are found.",
        ),
        _shown(
            "Macro-F1",
            found.macro_f1,
            intervals.get("macro_f1"),
            "The mean over classes of F1, which weighs what is missed and what is wrongly named.",
        ),
    ]
    return [*listed, *_ranked(found.auroc, found.average_precision), *_probable(found)]


def _multi_label(found: MultiLabelEvaluation) -> list[Figure]:
    intervals = found.intervals
    return [
        _shown(
            "Macro-F1",
            found.macro_f1,
            intervals.get("macro_f1"),
            "The mean over labels of F1, which weighs what is missed and what is wrongly named.",
        ),
        _shown("Micro-F1", found.micro_f1, intervals.get("micro_f1"), "F1 of all decisions together."),
        _shown(
            "Exact match", found.exact_match, intervals.get("exact_match"), "Rows whose labels are all right."
        ),
        *_ranked(found.auroc, found.average_precision),
        _shown("Hamming loss", found.hamming_loss, None, "Decisions that are wrong, of all rows and labels."),
        *_probable(found),
    ]


def _regression(found: RegressionEvaluation) -> list[Figure]:
    several = " (a mean over targets)" if len(found.per_target) > 1 else ""
    intervals = found.intervals
    return [
        Figure(
            "R2",
            figure_value("R2", found.r2),
            between(intervals.get("r2"), "R2"),
            f"The share of the variance that is explained{several}; 0 is what the mean reaches.",
        ),
        Figure(
            "Mean absolute error",
            number(found.mae),
            _between_numbers(intervals.get("mae")),
            f"How far off a value is on average, in its own unit{several}.",
        ),
        Figure(
            "RMSE",
            number(found.rmse),
            _between_numbers(intervals.get("rmse")),
            f"The root of the mean squared error, in the value's unit{several}; large errors count more.",
        ),
    ]


def _anomaly(found: AnomalyEvaluation) -> list[Figure]:
    listed = []
    if found.auroc is not None:
        interval = found.intervals.get("auroc")
        listed.append(
            _shown("AUROC", found.auroc, interval, "How often an anomaly scores above a normal row.")
        )
    if found.average_precision is not None:
        listed.append(
            _shown(
                "Average precision", found.average_precision, None, "Of a list with the highest scores first."
            )
        )
    if found.false_positive_rate is not None:
        listed.append(
            _shown(
                "False positives at 95% recall",
                found.false_positive_rate,
                None,
                "Normal rows flagged by the threshold that finds 95% of the anomalies.",
            )
        )
    usual = found.quantiles["0.99"]
    listed.append(
        Figure("99% of normal scores", number(usual), "", "So many normal rows score at most this.")
    )
    return listed


def _ranked(auroc: float | None, average_precision: float | None) -> list[Figure]:
    listed = []
    if auroc is not None:
        listed.append(_shown("AUROC", auroc, None, "How often a row of a class scores above one of another."))
    if average_precision is not None:
        listed.append(
            _shown(
                "Average precision",
                average_precision,
                None,
                "The mean over classes, each against all others.",
            )
        )
    return listed


def _probable(found: Evaluation | MultiLabelEvaluation) -> list[Figure]:
    before = "" if found.ece_before is None else f"; {share(found.ece_before)} before calibration"
    return [
        Figure(
            "Calibration error",
            share(found.ece),
            "",
            f"How far confidence and the share of right answers lie apart (ECE, 15 bins{before}).",
        ),
        Figure("Log loss", number(found.log_loss), "", "The mean of -log of the true class's probability."),
    ]


def _shown(name: str, value: float, interval: tuple[float, float] | None, meaning: str) -> Figure:
    return Figure(name, share(value), between(interval), meaning)
