"""What a report comes down to: a few sentences, the same on the terminal and on the page."""

from __future__ import annotations

from trunkline_service.heads.evaluation.agreement import Agreement
from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.heads.evaluation.learning_curve import LearningCurve
from trunkline_service.heads.report.figures import chance, figure_value, points, share
from trunkline_service.heads.report.report import Report

_SIGNIFICANT = 0.05


def findings(report: Report) -> list[str]:
    """One sentence for each thing worth knowing, the most important first."""
    found: list[str | None] = [_beside_baselines(report)]
    if report.agreement is not None:
        found.append(beside_previous(report.agreement))
    if report.learning_curve is not None:
        found.append(twice_the_labels(report.learning_curve))
    found += [_doubtful_labels(report), _commonest_mistake(report)]
    return [sentence for sentence in found if sentence]


def twice_the_labels(curve: LearningCurve) -> str:
    """What twice the labels would buy."""
    if curve.gain is None or curve.gain_interval is None:
        return "There are too few rows to say what more labels would bring."
    low, high = curve.gain_interval
    if curve.verdict == "little":
        return f"Twice the labels would bring little: at most {points(high)} of {curve.figure}."
    if curve.verdict == "gain":
        return (
            f"Twice the labels would bring about {points(curve.gain)} of {curve.figure} "
            f"({100 * low:.1f} to {100 * high:.1f}, if the curve goes on as it does)."
        )
    return (
        f"What twice the labels would bring is unclear: between {100 * low:.1f} and {points(high)} of "
        f"{curve.figure}."
    )


def beside_previous(agreement: Agreement) -> str:
    """How the head and its previous version compare."""
    previous = agreement.previous
    same = f"{share(agreement.agreement)} of {agreement.rows:,} rows get the same answer as from {previous}"
    if agreement.figure in ("R2", "AUROC"):
        same = f"the answers correlate by {agreement.agreement:.2f} with those of {previous}"
    sentence = f"{same[0].upper()}{same[1:]}"
    if agreement.value is None or agreement.previous_value is None:
        return f"{sentence}."
    rows = "of a test split" if agreement.held_out else "held out here"
    sentence += (
        f"; on these rows, {rows}, {agreement.figure} is {figure_value(agreement.figure, agreement.value)}, "
        f"and was {figure_value(agreement.figure, agreement.previous_value)}"
    )
    if agreement.p_value is not None:
        told = "a clear difference" if agreement.p_value < _SIGNIFICANT else "no clear difference"
        sentence += f" ({told}, {chance(agreement.p_value)})"
    if not agreement.held_out:
        sentence += f". {previous} may have learned from them, which flatters it"
    return f"{sentence}."


def _beside_baselines(report: Report) -> str | None:
    if report.evaluation is None or not report.baselines:
        return None
    best = max(report.baselines, key=lambda baseline: baseline.value)
    name, value = report.evaluation.headline
    if name != best.figure:
        return None
    gap = value - best.value
    told = f"{figure_value(best.figure, best.value)} ({best.name})"
    if best.p_value is not None and best.p_value >= _SIGNIFICANT:
        return f"It is not clearly better than the best simple rule: {told}, {chance(best.p_value)}."
    if gap <= 0:
        return f"It is no better than the best simple rule: {told}."
    ahead = figure_value("R2", gap) if best.figure == "R2" else points(gap)
    return f"It is {ahead} above the best simple rule: {told}."


def _doubtful_labels(report: Report) -> str | None:
    if not report.suspects:
        return None
    shown = len(report.suspects)
    listed = f"the {shown} most suspect are listed" if shown > 1 else "it is listed"
    evaluation = report.evaluation
    if report.estimated_errors and evaluation is not None:
        return f"About {report.estimated_errors:,} of {evaluation.n:,} labels look wrong to it; {listed}."
    return f"Labels that deserve a look: {listed}."


def _commonest_mistake(report: Report) -> str | None:
    if not isinstance(report.evaluation, Evaluation):
        return None
    mistakes = report.evaluation.mistakes()
    if not mistakes:
        return "No row was mistaken."
    true, predicted, rows = mistakes[0]
    return f"The commonest mistake: {true} taken for {predicted}, {rows:,} row{'' if rows == 1 else 's'}."
