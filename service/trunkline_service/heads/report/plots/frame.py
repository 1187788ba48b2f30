"""The frame of a plot: its scales, grid, ticks and titles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trunkline_service.heads.report.markup import Child, Markup, tag

Tick = tuple[float, str]


@dataclass(frozen=True)
class Frame:
    """A rectangle of the plane, drawn on a rectangle of pixels.

    Attributes:
        x_domain: Ends of the horizontal axis.
        y_domain: Ends of the vertical axis.
        log_x: Whether the horizontal axis is logarithmic.
        width: Of the drawing.
        height: Of the drawing.
        left: Margin for the vertical axis' ticks.
        right: Margin.
        top: Margin for the vertical axis' title.
        bottom: Margin for the horizontal axis' ticks and title.
    """

    x_domain: tuple[float, float]
    y_domain: tuple[float, float]
    log_x: bool = False
    width: int = 480
    height: int = 330
    left: int = 60
    right: int = 26
    top: int = 34
    bottom: int = 48

    def x(self, value: float) -> float:
        """Pixels from the left."""
        low, high = self.x_domain
        if self.log_x:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.y_domain
        return self.top + (high - value) / (high - low) * (self.height - self.top - self.bottom)

    def draw(
        self,
        *children: Child,
        x_ticks: Sequence[Tick],
        y_ticks: Sequence[Tick],
        x_title: str,
        y_title: str,
        summary: str,
    ) -> Markup:
        """The drawing: grid, ticks, titles, then the children on top.

        Args:
            children: What is plotted.
            x_ticks: (value, text) along the horizontal axis.
            y_ticks: (value, text) along the vertical axis.
            x_title: What the horizontal axis shows.
            y_title: What the vertical axis shows.
            summary: The plot in a sentence, for who can't see it.
        """
        base, end = self.height - self.bottom, self.width - self.right
        grid = [
            tag("line", x1=float(self.left), x2=float(end), y1=self.y(value), y2=self.y(value), class_="grid")
            for value, _ in y_ticks
        ]
        marks = [
            *(
                tag("text", text, x=self.x(value), y=float(base + 18), text_anchor="middle")
                for value, text in x_ticks
            ),
            *(
                tag("text", text, x=float(self.left - 8), y=self.y(value) + 4, text_anchor="end")
                for value, text in y_ticks
            ),
        ]
        middle = (self.left + end) / 2
        titles = [
            tag("text", x_title, x=middle, y=float(self.height - 8), text_anchor="middle", class_="title"),
            # Upright and above: on a phone there is no room beside the ticks.
            tag("text", y_title, x=4.0, y=16.0, class_="title"),
        ]
        axis = tag("line", x1=float(self.left), x2=float(end), y1=float(base), y2=float(base), class_="axis")
        return tag(
            "svg",
            grid,
            axis,
            marks,
            titles,
            children,
            viewBox=f"0 0 {self.width} {self.height}",
            class_="plot",
            role="img",
            aria_label=summary,
        )


def share_ticks(low: float, high: float) -> list[Tick]:
    """Ticks of shares, as percent."""
    ticks = ticks_between(low, high)
    digits = 1 if len(ticks) > 1 and ticks[1] - ticks[0] < 0.0099 else 0
    return [(value, f"{value:.{digits}%}") for value in ticks]


def number_ticks(low: float, high: float, most: int = 6) -> list[Tick]:
    """Ticks of plain numbers."""
    return [(value, f"{value:,.8g}") for value in ticks_between(low, high, most)]


def ticks_between(low: float, high: float, most: int = 6) -> list[float]:
    """Round values from ``low`` to ``high``, at most so many."""
    width = high - low
    if width <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(width / most))
    while width / step > most:
        step *= 2.5 if f"{step:e}".startswith("2") else 2
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A line through points in pixels."""
    steps = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    return tag("path", d=steps, class_=class_)
