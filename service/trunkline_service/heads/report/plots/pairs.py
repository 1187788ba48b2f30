"""True values against predicted ones."""

from __future__ import annotations

from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.parts import Pairs
from trunkline_service.heads.report.plots.frame import Frame, number_ticks, path


def pairs_plot(pairs: Pairs) -> Markup:
    """A dot a row; on the line, the prediction is right."""
    values = (*pairs.true, *pairs.predicted)
    low, high = min(values), max(values)
    pad = 0.04 * (high - low) or 0.5
    ends = (low - pad, high + pad)
    frame = Frame(ends, ends)
    ticks = number_ticks(*ends)
    dots = [
        tag("circle", cx=frame.x(true), cy=frame.y(said), r=2.5, class_="speck")
        for true, said in zip(pairs.true, pairs.predicted, strict=True)
    ]
    return frame.draw(
        path([(frame.x(ends[0]), frame.y(ends[0])), (frame.x(ends[1]), frame.y(ends[1]))], "ideal"),
        dots,
        x_ticks=ticks,
        y_ticks=ticks,
        x_title=f"{pairs.target}, true",
        y_title="predicted",
        summary=f"True and predicted {pairs.target} of {len(pairs.true)} rows.",
    )
