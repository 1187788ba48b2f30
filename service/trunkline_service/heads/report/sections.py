"""The parts of the page, each a section with its heading; None where the report lacks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.heads.report.figures import Figure, figure_value, figures
from trunkline_service.heads.report.findings import beside_previous, findings, twice_the_labels
from trunkline_service.heads.report.html_table import drawn_table
from trunkline_service.heads.report.markup import Child, Markup, join, tag
from trunkline_service.heads.report.plots.bars import Bar, bars_plot
from trunkline_service.heads.report.plots.confusion import MOST_CLASSES, confusion_plot
from trunkline_service.heads.report.plots.curve import curve_plot
from trunkline_service.heads.report.plots.lines import lines_plot, shades
from trunkline_service.heads.report.plots.pairs import pairs_plot
from trunkline_service.heads.report.plots.reliability import reliability_plot
from trunkline_service.heads.report.plots.scores import scores_plot
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.report.text import changes_table, classes_table, mistakes_table

# Rows of the largest tables: what nobody reads only makes the page slow.
_CLASSES = 2000
_MISTAKES = 50
_PLOTTED_TARGETS = 6


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        id: By which it is linked to.
        heading: What the link says.
        body: The part itself.
    """

    id: str
    heading: str
    body: Markup


def section(name: str, heading: str, *children: Child, about: str | None = None) -> Section:
    """A section that can be linked to.

    Args:
        name: Its id.
        heading: Its heading.
        children: What it holds.
        about: A sentence or two below the heading.
    """
    said = None if about is None else tag("p", about, class_="about")
    return Section(name, heading, tag("section", tag("h2", heading), said, children, id=name))


def summary(report: Report) -> Section | None:
    """The headline, what the report comes down to, and all other figures."""
    if report.evaluation is None:
        return None
    first, *others = figures(report.evaluation)
    hero = tag(
        "dl",
        tag("dt", f"{first.name} on held-out rows"),
        tag("dd", first.value, class_="big"),
        tag("dd", f"95% interval {first.interval}", class_="range") if first.interval else None,
        class_="hero",
    )
    said = tag("ul", [tag("li", sentence) for sentence in findings(report)], class_="findings")
    return section(
        "summary",
        "Summary",
        tag("div", hero, said, class_="panel summary"),
        tag("dl", [_tile(figure) for figure in others], class_="tiles"),
        _beside(report),
        about=_how(report),
    )


def _how(report: Report) -> str:
    assert report.evaluation is not None
    rows, folds = report.evaluation.n, report.evaluation.folds
    how = f"by {folds}-fold cross-validation" if folds > 1 else "on the rows of the validation split"
    return f"Told {how}: each of {rows:,} rows was judged by a model that had not learned from it."


def _tile(figure: Figure) -> Markup:
    return tag(
        "div",
        tag("dt", figure.name),
        tag("dd", figure.value, class_="value"),
        tag("dd", figure.interval, class_="range") if figure.interval else None,
        tag("dd", figure.meaning, class_="meaning"),
        class_="tile",
    )


def _beside(report: Report) -> Markup | None:
    if not report.baselines or report.evaluation is None:
        return None
    name, value = report.evaluation.headline
    interval = _headline_interval(report)
    bars = [Bar("this head", value, figure_value(name, value), interval, own=True)]
    bars += [
        Bar(baseline.name, baseline.value, figure_value(name, baseline.value), baseline.interval, own=False)
        for baseline in report.baselines
        if baseline.figure == name
    ]
    heading = tag("h3", f"Beside simple rules: {name}")
    said = tag("p", "The same rows, held out by the same folds.", class_="about")
    return tag("div", heading, said, bars_plot(bars), class_="panel")


def _headline_interval(report: Report) -> tuple[float, float] | None:
    evaluation = report.evaluation
    assert evaluation is not None
    if isinstance(evaluation, Evaluation):
        return evaluation.accuracy_interval
    key = {"macro-F1": "macro_f1", "R2": "r2", "AUROC": "auroc"}.get(evaluation.headline[0], "")
    return evaluation.intervals.get(key)


def improving(report: Report) -> Section | None:
    """The learning curve and the calibration."""
    panels = []
    if report.learning_curve is not None:
        panels.append(("learning curve", _curve(report)))
    if report.reliability is not None:
        panels.append(("reliability", _reliability(report)))
    if not panels:
        return None
    heading = _capital(" and ".join(name for name, _ in panels))
    return section("improving", heading, tag("div", [panel for _, panel in panels], class_="pair"))


def _curve(report: Report) -> Markup:
    curve = report.learning_curve
    assert curve is not None
    return tag(
        "div",
        tag("h3", "Learning curve"),
        tag("p", twice_the_labels(curve), class_="about"),
        curve_plot(curve),
        class_="panel",
    )


def _reliability(report: Report) -> Markup:
    after, before = report.reliability, report.reliability_before
    assert after is not None
    key = [tag("li", "as served")]
    if before is not None:
        key.append(tag("li", "before calibration", class_="before"))
    said = "On the dotted line, answers given with a confidence of 80% are right in 80 of 100 cases."
    return tag(
        "div",
        tag("h3", "Reliability"),
        tag("p", said, class_="about"),
        reliability_plot(after, before),
        tag("ul", key, class_="key"),
        class_="panel",
    )


def values(report: Report) -> Section | None:
    """The scatter of a regression, or the scores of an anomaly head."""
    if report.scores is not None:
        key = [tag("li", "normal rows"), tag("li", "others", class_="before")]
        drawn = join(scores_plot(report.scores), tag("ul", key, class_="key"))
        return section("values", "Scores", tag("div", drawn, class_="panel"))
    if not report.pairs:
        return None
    drawn = join(tag("div", pairs_plot(pairs), class_="panel") for pairs in report.pairs[:_PLOTTED_TARGETS])
    more = len(report.pairs) - _PLOTTED_TARGETS
    about = "Each dot is a held-out row; on the dotted line, the prediction is right."
    if more > 0:
        about += f" The first {_PLOTTED_TARGETS} of {len(report.pairs)} targets are drawn."
    return section("values", "Predicted and true", tag("div", drawn, class_="pair"), about=about)


def classes(report: Report) -> Section | None:
    """Figures by class, and which classes are mixed up."""
    evaluation = report.evaluation
    table = None if evaluation is None else classes_table(evaluation, _CLASSES)
    if evaluation is None or table is None:
        return None
    parts: list[Child] = []
    mistakes = mistakes_table(evaluation, _MISTAKES)
    if isinstance(evaluation, Evaluation) and 0 < len(evaluation.confusion) <= MOST_CLASSES:
        drawn = confusion_plot(evaluation.confusion, [r.label for r in evaluation.per_class])
        said = "Shades are shares of a row. On the diagonal, what was recognised."
        heading = tag("h3", "What is taken for what")
        parts.append(tag("div", heading, tag("p", said, class_="about"), drawn, class_="panel"))
    if mistakes is not None and mistakes.rows:
        parts.append(tag("div", tag("h3", "Most confused pairs"), drawn_table(mistakes), class_="panel"))
    by_class = tag("div", tag("h3", _capital(table.title)), drawn_table(table, sortable=True), class_="panel")
    things = "targets" if report.task == "regression" else "classes"
    return section("classes", _capital(things), tag("div", parts, class_="pair") if parts else None, by_class)


def previous(report: Report) -> Section | None:
    """The same rows by the version before."""
    if report.agreement is None:
        return None
    changed = changes_table(report.agreement, limit=20)
    table = tag("div", tag("h3", "Answers that changed"), drawn_table(changed), class_="panel")
    return section(
        "previous",
        "Since the previous version",
        table if changed.rows else None,
        about=beside_previous(report.agreement),
    )


def test_split(report: Report) -> Section | None:
    """Figures on the test split."""
    if report.test_evaluation is None:
        return None
    said = (
        f"{report.test_evaluation.n:,} rows that nothing was learned from and nothing chosen by. "
        "Look once: who tunes until these rise makes them flatter."
    )
    tiles = tag("dl", [_tile(figure) for figure in figures(report.test_evaluation)], class_="tiles")
    return section("test", "Test split", tiles, about=said)


def training(report: Report) -> Section | None:
    """Curves over the epochs."""
    drawn = {name: curve for name, curve in report.curves.items() if curve}
    if not drawn:
        return None
    key = [
        tag("li", name.replace("_", " "), class_=shade)
        for name, shade in zip(drawn, shades(len(drawn)), strict=True)
    ]
    panel = tag("div", lines_plot(drawn), tag("ul", key, class_="key"), class_="panel")
    return section("training", "Training", tag("div", panel, class_="pair"))


def notes(report: Report) -> Section | None:
    """What was left out and what deserves a look."""
    if not report.notes:
        return None
    listed = tag("ul", [tag("li", note) for note in report.notes], class_="notes")
    return section("notes", "Notes", tag("div", listed, class_="panel"))


def origin(report: Report, card: HeadCard) -> Section:
    """Where the head comes from."""
    facts: Mapping[str, Any] = {
        "head": card.ref,
        "kind": card.kind,
        "task": card.task,
        "collection": f"{card.collection}, version {card.collection_version}, {card.rows:,} rows",
        "learned column": card.target,
        "model": card.model,
        "space": card.space_id,
        "decoding": card.decode,
        "classes": _some(report.classes),
        "hyper-parameters": "; ".join(
            f"{name} {_written(value)}" for name, value in card.hyper_parameters.items()
        ),
        "temperature": f"{card.temperature:.4g}",
        "solver": _solver(card),
        "training set": card.training_hash,
        "head.onnx": card.head_sha256,
        "fitted": card.created_at,
        "Trunkline": card.trunkline_version,
    }
    rows = [(tag("dt", name), tag("dd", value)) for name, value in facts.items() if value]
    return section("origin", "Origin", tag("div", tag("dl", rows, class_="origin"), class_="panel"))


def _solver(card: HeadCard) -> str:
    found = card.convergence
    if not found.iterations:
        return ""
    how = "converged" if found.converged else "stopped before its tolerance"
    return f"{how} after {found.iterations:,} iterations, gradient {found.gradient_norm:.2g}"


def _written(value: Any) -> str:
    """A JSON value for people: numbers of four digits, lists without brackets."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return _some([_written(item) for item in value])
    return str(value)


def _some(names: Sequence[str], most: int = 30) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
