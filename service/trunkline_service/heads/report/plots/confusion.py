"""The confusion matrix as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline_service.heads.report.markup import Markup, tag

MOST_CLASSES = 40
_NUMBERED = 14
_MOST_LETTERS = 18
_LETTER = 6.6
# Of a row's share from which a cell is dark enough for light figures.
_DARK = 0.55


def confusion_plot(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Rows: what images are; columns: what they were taken for. Shades are shares of the row."""
    count = len(classes)
    cell = max(15.0, min(58.0, 520.0 / count))
    longest = max(len(_short(label)) for label in classes)
    margin = 26.0 + _LETTER * longest
    top = 26.0 + _LETTER * longest * 0.72
    size = cell * count
    right = 10.0 + _LETTER * longest * 0.72
    drawn = [
        _cell(margin + k * cell, top + i * cell, cell, rows, sum(row), classes[i], classes[k], i == k, count)
        for i, row in enumerate(matrix)
        for k, rows in enumerate(row)
    ]
    names = [
        *(
            tag(
                "text",
                tag("title", label),
                _short(label),
                x=margin - 8,
                y=top + (i + 0.5) * cell + 4,
                text_anchor="end",
            )
            for i, label in enumerate(classes)
        ),
        *(_column_name(label, margin + (k + 0.5) * cell, top - 8) for k, label in enumerate(classes)),
    ]
    width, height = margin + size + right, top + size + 24
    titles = [
        tag("text", "taken for", x=margin + size / 2, y=height - 6, text_anchor="middle", class_="title"),
        tag(
            "text",
            "is",
            x=12.0,
            y=top + size / 2,
            text_anchor="middle",
            class_="title",
            transform=f"rotate(-90 12 {top + size / 2:.0f})",
        ),
    ]
    return tag(
        "svg",
        drawn,
        names,
        titles,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=int(width),
        class_="plot heat",
        role="img",
        aria_label=f"Confusion matrix of {count} classes; the table of most confused pairs says the same.",
    )


def _cell(
    x: float,
    y: float,
    size: float,
    rows: int,
    total: int,
    true: str,
    predicted: str,
    right: bool,
    count: int,
) -> Markup:
    share = rows / total if total else 0.0
    told = f"{true} taken for {predicted}: {rows:,} of {total:,} ({share:.1%})"
    if right:
        told = f"{true} recognised: {rows:,} of {total:,} ({share:.1%})"
    parts = [
        tag("rect", x=x, y=y, width=size - 2, height=size - 2, rx=3, class_="empty"),
        tag(
            "rect",
            x=x,
            y=y,
            width=size - 2,
            height=size - 2,
            rx=3,
            class_="right" if right else "wrong",
            fill_opacity=round(share**0.7, 3),
        ),
    ]
    if count <= _NUMBERED and rows:
        middle = {"x": x + size / 2 - 1, "y": y + size / 2 + 4}
        shade = "on" if share > _DARK else None
        parts.append(tag("text", f"{rows:,}", text_anchor="middle", class_=shade, **middle))
    return tag("g", tag("title", told), parts)


def _column_name(label: str, x: float, y: float) -> Markup:
    turned = f"rotate(-42 {x:.1f} {y:.1f})"
    return tag("text", tag("title", label), _short(label), x=x, y=y, text_anchor="start", transform=turned)


def _short(label: str) -> str:
    return label if len(label) <= _MOST_LETTERS else f"{label[: _MOST_LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
