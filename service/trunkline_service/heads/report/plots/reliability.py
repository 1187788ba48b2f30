"""The reliability diagram: how often answers of a confidence are right."""

from __future__ import annotations

from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.parts import Reliability
from trunkline_service.heads.report.plots.frame import Frame, path

_BARS = 34
_TICKS = [(k / 5, f"{k / 5:.0%}") for k in range(6)]
# A bin of fewer answers jumps about and tells nothing.
_LEAST_ANSWERS, _LEAST_SHARE = 5.0, 0.002


def reliability_plot(after: Reliability, before: Reliability | None) -> Markup:
    """Share right by confidence, as it is served and before calibration, over a strip of how common each is."""
    frame = Frame((0.0, 1.0), (0.0, 1.0))
    ideal = path([(frame.x(0), frame.y(0)), (frame.x(1), frame.y(1))], "ideal")
    return frame.draw(
        _weights(frame, after),
        ideal,
        [] if before is None else _line(frame, before, "before"),
        _line(frame, after, "after"),
        x_ticks=_TICKS,
        y_ticks=_TICKS,
        x_title="confidence",
        y_title="share right",
        summary=_summary(after),
    )


def _line(frame: Frame, bins: Reliability, class_: str) -> list[Markup]:
    places = [(frame.x(confidence), frame.y(right)) for _, confidence, right in _telling(bins)]
    dots = [
        tag(
            "circle",
            tag("title", f"confidence {confidence:.1%}, right {right:.1%}, {count:,.0f} answers"),
            cx=x,
            cy=y,
            r=4.0,
            class_=f"dot {class_}",
        )
        for (count, confidence, right), (x, y) in zip(_telling(bins), places, strict=True)
    ]
    return [path(places, f"line {class_}"), *dots] if places else []


def _telling(bins: Reliability) -> list[tuple[float, float, float]]:
    """(answers, confidence, right) of the bins that hold enough answers to tell anything."""
    total = sum(bins.count)
    least = max(1.0, min(_LEAST_ANSWERS, total / 20), _LEAST_SHARE * total)
    every = zip(bins.count, bins.confidence, bins.right, strict=True)
    return [values for values in every if values[0] >= least]


def _weights(frame: Frame, bins: Reliability) -> list[Markup]:
    """Bars along the bottom: how many answers have each confidence."""
    most = max(bins.count)
    width = 1 / len(bins.count)
    base = frame.y(0)
    return [
        tag(
            "rect",
            x=frame.x(i * width) + 1,
            y=base - _BARS * count / most,
            width=frame.x(width) - frame.x(0) - 2,
            height=_BARS * count / most,
            class_="weight",
        )
        for i, count in enumerate(bins.count)
        if count > 0
    ]


def _summary(bins: Reliability) -> str:
    said = ", ".join(f"{confidence:.0%} sure: {right:.0%} right" for _, confidence, right in _telling(bins))
    return f"Reliability diagram. {said}."
