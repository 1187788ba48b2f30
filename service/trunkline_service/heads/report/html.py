"""The report as one HTML file that needs nothing else: no network, no fonts, no scripts of others."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from importlib import resources
from pathlib import Path
from typing import Any

from trunkline_service.errors import StorageError
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.report import sections
from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.report import Report
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
    data = render(report, card, root).encode("utf-8", "replace")
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise StorageError(f"the report can't be written to {path}: {exc.strerror or exc}") from exc


def render(report: Report, card: HeadCard, root: Path | None = None) -> str:
    """The page."""
    style, script = _asset("report.css"), _asset("report.js")
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
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", f"{card.ref}: report"),
            tag("style", Markup(style)),
        ),
        tag(
            "body",
            tag("a", "Skip to the summary", href="#summary", class_="skip"),
            _top(report, card, shown),
            tag("main", [part.body for part in shown]),
            tag("footer", f"{card.ref}, fitted {card.created_at}. This page loads nothing from anywhere."),
            tag("script", Markup(_json(page_data(report))), type="application/json", id="data"),
            tag("script", Markup(script)),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


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


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded; of scripts and styles only these very ones run."""
    return (
        "default-src 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _json(value: Any) -> str:
    """JSON that can't end its script element, or begin another."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
