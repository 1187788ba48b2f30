"""The report as a page; see `standalone`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.report import sections
from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.report.standalone import document, write_page
from trunkline_service.heads.report.suspect_cards import page_data, review


def write_html(report: Report, card: HeadCard, path: Path, root: Path | None = None) -> None:
    """Writes the page; it appears whole or not at all.

    Args:
        report: What it shows.
        card: Of the head.
        path: The file; one that is there is replaced.
        root: The folder below which sources of suspects may be opened for thumbnails; None opens nothing.

    Raises:
        StorageError: The file can't be written.
    """
    write_page(render(report, card, root), path, "the report")


def render(report: Report, card: HeadCard, root: Path | None = None) -> str:
    """The page."""
    parts = [
        sections.summary(report),
        sections.improving(report),
        sections.values(report),
        sections.classes(report),
        sections.test_split(report),
        sections.previous(report),
        review(report, card, root),
        sections.training(report),
        sections.notes(report),
        sections.origin(report, card),
    ]
    shown = [part for part in parts if part is not None]
    return document(
        f"{card.ref}: report",
        _asset("report.css"),
        tag("a", "Skip to the summary", href="#summary", class_="skip"),
        _top(report, card, shown),
        tag("main", [part.body for part in shown]),
        tag("footer", f"{card.ref}, fitted {card.created_at}. This page loads nothing from anywhere."),
        data=page_data(report),
        script=_asset("report.js"),
    )


def _top(report: Report, card: HeadCard, shown: list[sections.Section]) -> Markup:
    outputs = f"{len(report.classes):,} {'targets' if card.task == 'regression' else 'classes'}"
    what = f"A {card.task} head of kind {card.kind}" + (f" for {outputs}" if report.classes else "")
    lead = (
        f"{what}, learned from {card.rows:,} rows of {card.collection} (version {card.collection_version}), "
        f"embedded by {card.model}."
    )
    links = [tag("li", tag("a", part.heading, href=f"#{part.id}")) for part in shown]
    return tag(
        "header",
        tag("p", "Trunkline head report", class_="over"),
        tag("h1", card.ref),
        tag("p", lead, class_="lead"),
        tag("nav", tag("ul", links), aria_label="Parts of this report"),
        class_="top",
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
