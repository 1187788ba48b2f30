"""The frame of the pages about whole collections: the look of a head's report, with a few things of their own."""

from __future__ import annotations

from importlib import resources
from typing import Any

from trunkline_service.heads import report
from trunkline_service.heads.report.markup import Child, tag
from trunkline_service.heads.report.standalone import document


def page(
    what: str, collection: str, lead: str, *body: Child, data: Any = None, script: str | None = None
) -> str:
    """A page.

    Args:
        what: It shows, e.g. ``"near duplicates"``.
        collection: The collection's name and version.
        lead: The sentences at its top.
        body: Its sections.
        data: What the script reads.
        script: The name of an asset; None for none.
    """
    style = resources.files(report).joinpath("assets", "report.css").read_text(encoding="utf-8")
    return document(
        f"{collection}: {what}",
        f"{style}\n{_asset('explore.css')}",
        tag(
            "header",
            tag("p", f"Trunkline {what}", class_="over"),
            tag("h1", collection),
            tag("p", lead, class_="lead"),
            class_="top",
        ),
        tag("main", body),
        tag("footer", "This page loads nothing from anywhere."),
        data=data,
        script=None if script is None else _asset(script),
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
