"""A report as tables: data only. The command prints them, the page draws some of them."""

from __future__ import annotations

from typing import NamedTuple

from trunkline_service.heads.evaluation.agreement import Agreement
from trunkline_service.heads.evaluation.anomaly import AnomalyEvaluation
from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.heads.evaluation.kinds import AnyEvaluation
from trunkline_service.heads.evaluation.learning_curve import LearningCurve
from trunkline_service.heads.evaluation.regression import RegressionEvaluation
from trunkline_service.heads.evaluation.suspects import Label, Suspect
from trunkline_service.heads.report.figures import between, chance, figure_value, figures, number, share
from trunkline_service.heads.report.parts import Baseline
from trunkline_service.heads.report.report import Report

PER_CLASS = 20
MISTAKES = 10
SUSPECTS = 10


class TextTable(NamedTuple):
    """A table to print.

    Attributes:
        title: What it shows, in a few words.
        header: Headings of its columns.
        rows: Cells, as text.
        numbers: Headings of the columns that are aligned to the right.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()


def tables(report: Report) -> list[TextTable]:
    """The tables of a report, in the order in which they are read; parts that it lacks are left out."""
    found: list[TextTable | None] = []
    if report.evaluation is not None:
        found.append(
            figures_table(
                "validation split" if report.evaluation.folds == 1 else "cross-validated", report.evaluation
            )
        )
    if report.test_evaluation is not None:
        found.append(figures_table("test split", report.test_evaluation))
    if report.baselines:
        found.append(baselines_table(report.baselines))
    if report.learning_curve is not None:
        found.append(curve_table(report.learning_curve))
    if report.agreement is not None:
        found.append(changes_table(report.agreement))
    if report.evaluation is not None:
        found += [classes_table(report.evaluation), mistakes_table(report.evaluation)]
    found.append(_suspects_table(report.suspects[:SUSPECTS]))
    return [table for table in found if table is not None and table.rows]


def shown(label: Label) -> str:
    """A label, or several, as text."""
    return label if isinstance(label, str) else ", ".join(label) or "(none)"


def figures_table(title: str, evaluation: AnyEvaluation) -> TextTable:
    """All figures of an evaluation."""
    rows = tuple((figure.name, figure.value, figure.interval) for figure in figures(evaluation))
    return TextTable(f"{title}, {evaluation.n:,} rows", ("figure", "value", "95% interval"), rows, ("value",))


def baselines_table(baselines: tuple[Baseline, ...]) -> TextTable:
    """What simple rules reach; at least one."""
    rows = tuple(
        (
            baseline.name,
            figure_value(baseline.figure, baseline.value),
            between(baseline.interval, baseline.figure),
            "" if baseline.p_value is None else chance(baseline.p_value),
        )
        for baseline in baselines
    )
    figure = baselines[0].figure
    header = ("rule", figure, "95% interval", "McNemar")
    return TextTable("simple rules on the same rows", header, rows, (figure,))


def curve_table(curve: LearningCurve) -> TextTable:
    """The points of a learning curve."""
    rows = tuple(
        (f"{point.rows:,.0f}", figure_value(curve.figure, point.value), between(point.interval, curve.figure))
        for point in curve.points
    )
    header = ("training rows", curve.figure, "95% interval")
    return TextTable("learning curve", header, rows, header[:2])


def changes_table(agreement: Agreement, limit: int = MISTAKES) -> TextTable:
    """The answers that changed since the previous version."""
    rows = tuple((old, new, f"{count:,}") for old, new, count in agreement.changed[:limit])
    title = f"answers that changed since {agreement.previous}"
    return TextTable(title, ("before", "now", "rows"), rows, ("rows",))


def classes_table(evaluation: AnyEvaluation, limit: int = PER_CLASS) -> TextTable | None:
    """The weakest classes, labels or targets; None for tasks without any."""
    if isinstance(evaluation, AnomalyEvaluation):
        return None
    if isinstance(evaluation, RegressionEvaluation):
        return _targets_table(evaluation, limit)
    weakest = sorted((r.f1, r.label, r.support, r.precision, r.recall) for r in evaluation.per_class)
    rows = tuple(
        (label, f"{support:,}", share(precision), share(recall), share(f1))
        for f1, label, support, precision, recall in weakest[:limit]
    )
    header = ("class", "rows", "precision", "recall", "F1")
    title = _title("by class", "classes", len(weakest), limit)
    return TextTable(title, header, rows, header[1:])


def _targets_table(evaluation: RegressionEvaluation, limit: int) -> TextTable:
    weakest = sorted(evaluation.per_target, key=lambda report: report.r2)
    rows = tuple(
        (t.target, f"{t.n:,}", f"{t.r2:.3f}", number(t.mae), number(t.rmse), number(t.baseline_mae))
        for t in weakest[:limit]
    )
    header = ("target", "rows", "R2", "mean error", "RMSE", "error of the mean")
    return TextTable(_title("by target", "targets", len(weakest), limit), header, rows, header[1:])


def mistakes_table(evaluation: AnyEvaluation, limit: int = MISTAKES) -> TextTable | None:
    """The classes that are mixed up most; None for tasks whose answers do not exclude one another."""
    if not isinstance(evaluation, Evaluation):
        return None
    rows = tuple((true, predicted, f"{count:,}") for true, predicted, count in evaluation.mistakes()[:limit])
    return TextTable("most confused", ("is", "taken for", "rows"), rows, ("rows",))


def _suspects_table(suspects: tuple[Suspect, ...]) -> TextTable:
    rows = tuple(
        (
            suspect.id or f"row {suspect.row}",
            shown(suspect.label),
            shown(suspect.suggested),
            share(suspect.score),
        )
        for suspect in suspects
    )
    header = ("id", "label", "suggested", "label's probability")
    return TextTable("most suspect labels", header, rows, header[3:])


def _title(plain: str, things: str, total: int, limit: int) -> str:
    return plain if total <= limit else f"the {limit:,} weakest of {total:,} {things}"
