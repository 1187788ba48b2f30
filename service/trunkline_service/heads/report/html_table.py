"""A table of the page."""

from __future__ import annotations

from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.text import TextTable

# Rows beyond which a table scrolls within its own height.
_SHORT = 12


def drawn_table(table: TextTable, *, sortable: bool = False) -> Markup:
    """A table; one that sorts has a button in each heading and the bare numbers beside the cells."""
    numeric = [heading in table.numbers for heading in table.header]
    headings = [
        tag(
            "th",
            tag("button", heading, type="button") if sortable else heading,
            scope="col",
            class_="number" if is_number else None,
            aria_sort="none" if sortable else None,
        )
        for heading, is_number in zip(table.header, numeric, strict=True)
    ]
    rows = [
        tag("tr", [_cell(text, is_number, sortable) for text, is_number in zip(row, numeric, strict=True)])
        for row in table.rows
    ]
    body = tag("table", tag("thead", tag("tr", headings)), tag("tbody", rows))
    # What scrolls has to be reached by the keyboard, and then needs a name.
    scrolling = {"class_": "scroll tall" if len(rows) > _SHORT else "scroll", "tabindex": 0}
    return tag("div", body, role="region", aria_label=table.title, **scrolling)


def _cell(text: str, is_number: bool, sortable: bool) -> Markup:
    if not is_number:
        return tag("td", text, class_="label")
    if not sortable:
        return tag("td", text, class_="number")
    bare = text.replace(",", "")
    if bare.endswith("%"):
        share = float(bare[:-1])
        return tag("td", _meter(share / 100), text, class_="number", data_value=bare[:-1])
    return tag("td", text, class_="number", data_value=bare)


def _meter(share: float) -> Markup:
    bars = [
        tag("rect", width=100, height=10, rx=5, class_="track"),
        tag("rect", width=100 * share, height=10, rx=5, class_="fill"),
    ]
    drawing = {"viewBox": "0 0 100 10", "preserveAspectRatio": "none", "aria_hidden": "true"}
    return tag("svg", bars, class_="meter", **drawing)
