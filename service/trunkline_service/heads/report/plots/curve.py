"""The learning curve, with its power law drawn on to twice the rows."""

from __future__ import annotations

import math

from trunkline_service.heads.evaluation.learning_curve import LearningCurve
from trunkline_service.heads.report.figures import figure_value
from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.plots.frame import Frame, number_ticks, path, share_ticks

_STEPS = 60


def curve_plot(curve: LearningCurve) -> Markup:
    """The figure by the number of training rows; what is guessed is dashed."""
    frame = _frame(curve)
    last = curve.points[-1]
    ticks = [(point.rows, _rows(point.rows)) for point in curve.points]
    if curve.law is not None:
        ticks.append((2 * last.rows, _rows(2 * last.rows)))
    return frame.draw(
        _law(frame, curve),
        _points(frame, curve),
        x_ticks=ticks,
        y_ticks=(number_ticks if curve.figure == "R2" else share_ticks)(*frame.y_domain),
        x_title="training rows",
        y_title=curve.figure,
        summary="Learning curve. "
        + ", ".join(
            f"{_rows(point.rows)} rows: {figure_value(curve.figure, point.value)}" for point in curve.points
        )
        + ".",
    )


def _frame(curve: LearningCurve) -> Frame:
    ends = [end for point in curve.points for end in point.interval]
    first, last = curve.points[0].rows, curve.points[-1].rows
    if curve.gain_interval is not None:
        ends.append(curve.points[-1].value + curve.gain_interval[1])
    pad = max(0.005, 0.08 * (max(ends) - min(ends)))
    return Frame(
        (first / 1.2, last * (2.4 if curve.law is not None else 1.2)),
        (min(ends) - pad, min(max(ends) + pad, 1.0)),
        log_x=True,
    )


def _points(frame: Frame, curve: LearningCurve) -> list[Markup]:
    drawn = []
    for point in curve.points:
        x, (low, high) = frame.x(point.rows), point.interval
        drawn.append(tag("line", x1=x, x2=x, y1=frame.y(low), y2=frame.y(high), class_="whisker after"))
        told = f"{_rows(point.rows)} rows: {figure_value(curve.figure, point.value)}"
        drawn.append(
            tag("circle", tag("title", told), cx=x, cy=frame.y(point.value), r=4.5, class_="dot after")
        )
    return drawn


def _law(frame: Frame, curve: LearningCurve) -> list[Markup]:
    if curve.law is None or curve.gain_interval is None:
        return []
    first, last = curve.points[0].rows, curve.points[-1]
    ratio = math.log(2 * last.rows / first)
    rows = [first * math.exp(ratio * k / _STEPS) for k in range(_STEPS + 1)]
    places = [(n, (frame.x(n), frame.y(1.0 - curve.law.error(n)))) for n in rows]
    known = [place for n, place in places if n <= last.rows * 1.0001]
    guessed = known[-1:] + [place for n, place in places if n > last.rows * 1.0001]
    low, high = curve.gain_interval
    x, start = frame.x(2 * last.rows), frame.x(last.rows)
    ends = [(start, frame.y(last.value)), (x, frame.y(last.value + high)), (x, frame.y(last.value + low))]
    corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in ends)
    return [
        tag("polygon", points=corners, class_="band"),
        path(known, "line law"),
        path(guessed, "line law guessed"),
    ]


def _rows(rows: float) -> str:
    return f"{rows:,.0f}" if rows < 10_000 else f"{rows / 1000:,.0f}k"
