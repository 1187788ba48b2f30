"""Curves over the epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trunkline_service.heads.report.figures import number
from trunkline_service.heads.report.markup import Markup
from trunkline_service.heads.report.plots.frame import Frame, number_ticks, path, ticks_between

# Classes of the style sheet, in turn.
_SHADES = ("after", "before", "third", "fourth")


def lines_plot(curves: Mapping[str, Sequence[float]]) -> Markup:
    """One line a curve, from the first epoch on; at least one of them is longer than one epoch."""
    values = [value for curve in curves.values() for value in curve]
    epochs = max(len(curve) for curve in curves.values())
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.5
    frame = Frame((1.0, float(max(2, epochs))), (low - pad, high + pad))
    drawn = [
        path([(frame.x(i + 1.0), frame.y(value)) for i, value in enumerate(curve)], f"line {shade}")
        for curve, shade in zip(curves.values(), shades(len(curves)), strict=True)
    ]
    return frame.draw(
        drawn,
        x_ticks=[
            (epoch, f"{epoch:.0f}") for epoch in ticks_between(1, epochs) if epoch >= 1 and epoch % 1 == 0
        ],
        y_ticks=number_ticks(*frame.y_domain),
        x_title="epoch",
        y_title=", ".join(name.replace("_", " ") for name in curves),
        summary="Training curves. "
        + ", ".join(
            f"{name.replace('_', ' ')} from {number(curve[0])} to {number(curve[-1])}"
            for name, curve in curves.items()
        )
        + ".",
    )


def shades(count: int) -> list[str]:
    """The style class of each of so many curves."""
    return [_SHADES[i % len(_SHADES)] for i in range(count)]
