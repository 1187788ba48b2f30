"""A head beside simple rules: one bar each."""

from __future__ import annotations

from typing import NamedTuple

from trunkline_service.heads.report.markup import Markup, tag


class Bar(NamedTuple):
    """One bar.

    Attributes:
        name: What reached it.
        value: From 0 to 1; below 0 nothing is drawn.
        text: The value as text.
        interval: Its 95% interval, or None.
        own: Whether it is the head itself.
    """

    name: str
    value: float
    text: str
    interval: tuple[float, float] | None
    own: bool


def bars_plot(bars: list[Bar]) -> Markup:
    """Horizontal bars from 0 to 1, with lines over their intervals; names and values are text of the page."""
    return tag("ul", [_bar(bar) for bar in bars], class_="bars")


def _bar(bar: Bar) -> Markup:
    parts = [
        tag("rect", width=1000, height=18, class_="track"),
        tag("rect", width=1000 * _within(bar.value), height=18, class_="own" if bar.own else "other"),
    ]
    if bar.interval is not None:
        low, high = (1000 * _within(end) for end in bar.interval)
        parts.append(tag("line", x1=low, x2=high, y1=9, y2=9, class_="whisker"))
    drawing = {"viewBox": "0 0 1000 18", "preserveAspectRatio": "none", "aria_hidden": "true"}
    name, value = tag("span", bar.name, class_="name"), tag("span", bar.text, class_="value")
    return tag("li", name, tag("svg", parts, **drawing), value)


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))
