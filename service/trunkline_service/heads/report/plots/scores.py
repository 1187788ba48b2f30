"""Anomaly scores of normal rows and of others."""

from __future__ import annotations

from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.parts import Scores
from trunkline_service.heads.report.plots.frame import Frame, number_ticks, share_ticks


def scores_plot(scores: Scores) -> Markup:
    """The share of normal rows, and of others, at each score."""
    normal, others = (_shares(counts) for counts in (scores.normal, scores.others))
    frame = Frame((scores.edges[0], scores.edges[-1]), (0.0, max(*normal, *others, 0.01) * 1.06))
    return frame.draw(
        _bars(frame, scores.edges, normal, "bar after"),
        _bars(frame, scores.edges, others, "bar before"),
        x_ticks=number_ticks(*frame.x_domain),
        y_ticks=share_ticks(*frame.y_domain),
        x_title="score",
        y_title="share of rows",
        summary=f"Scores of {sum(scores.normal):,.0f} normal rows and {sum(scores.others):,.0f} others.",
    )


def _shares(counts: tuple[float, ...]) -> list[float]:
    total = sum(counts) or 1.0
    return [count / total for count in counts]


def _bars(frame: Frame, edges: tuple[float, ...], shares: list[float], class_: str) -> list[Markup]:
    base = frame.y(0)
    return [
        tag(
            "rect",
            x=frame.x(low) + 0.5,
            y=frame.y(share),
            width=max(0.5, frame.x(high) - frame.x(low) - 1),
            height=base - frame.y(share),
            class_=class_,
        )
        for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True)
        if share > 0
    ]
