"""The review of suspect labels: a card each, with a picture and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.evaluation.suspects import Label, Suspect
from trunkline_service.heads.report.figures import share
from trunkline_service.heads.report.markup import Child, Markup, tag
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.report.sections import Section, section
from trunkline_service.heads.report.text import shown
from trunkline_service.heads.report.thumbnails import thumbnail

SHOWN = 24
_OPTIONS = 2000
# Between the labels of a row, the first that is in none of them; ``collections relabel`` splits by "|".
_SEPARATORS = ("|", ";", "\t", "\N{SYMBOL FOR UNIT SEPARATOR}")


def review(report: Report, card: HeadCard, root: Path | None) -> Section | None:
    """All suspects, and the button that saves the corrections."""
    if not report.suspects:
        return None
    cards = [_card(i, suspect, root, report.task) for i, suspect in enumerate(report.suspects)]
    known = tag("datalist", [tag("option", value=name) for name in report.classes[:_OPTIONS]], id="labels")
    more = tag("button", f"Show all {len(cards)}", type="button", id="more", class_="plain", hidden=True)
    return section(
        "suspects",
        "Labels to check",
        known,
        tag("div", cards, class_="suspects"),
        tag("div", more, class_="more") if len(cards) > SHOWN else None,
        _saving(card, separator(report)) if any(suspect.id for suspect in report.suspects) else None,
        about=(
            "The rows whose label the head believes least, though it had not learned from them. Decide for each, "
            "then save the corrections and give them to the collection."
        ),
    )


def page_data(report: Report) -> dict[str, Any]:
    """What the page's script reads."""
    mark = separator(report)
    return {
        "shown": SHOWN,
        "suspects": [
            {
                "id": suspect.id,
                "label": written(suspect.label, mark),
                "suggested": written(suspect.suggested, mark),
            }
            for suspect in report.suspects
        ],
    }


def written(label: Label, separator: str) -> str:
    """A label as a corrections file holds it."""
    return label if isinstance(label, str) else separator.join(label)


def separator(report: Report) -> str:
    """What stands between two labels of a row in the corrections file."""
    free = (mark for mark in _SEPARATORS if not any(mark in name for name in report.classes))
    return next(free, _SEPARATORS[-1])


def _card(index: int, suspect: Suspect, root: Path | None, task: str) -> Markup:
    return tag(
        "article",
        _picture(suspect, root),
        tag(
            "div",
            tag("p", suspect.id or f"row {suspect.row}", class_="id"),
            _doubt(suspect, task),
            _choices(index, suspect) if suspect.id else None,
            class_="told",
        ),
        class_="suspect",
        data_index=index,
    )


def _picture(suspect: Suspect, root: Path | None) -> Markup:
    copy = thumbnail(suspect.source, root)
    if copy.uri is None:
        return tag("div", tag("p", copy.reason), class_="picture")
    image = tag(
        "img",
        src=copy.uri,
        alt=f"image of {suspect.id}",
        width=copy.width,
        height=copy.height,
        loading="lazy",
    )
    return tag("div", image, class_="picture")


def _doubt(suspect: Suspect, task: str) -> Markup:
    if task == "multi-label":
        assert not isinstance(suspect.label, str)
        added = [name for name in suspect.suggested if name not in suspect.label]
        taken = [name for name in suspect.label if name not in suspect.suggested]
        what = (
            ("lacks ", tag("b", added[0]), "?") if added else ("has ", tag("b", taken[0]), ", but does it?")
        )
        return tag("p", what, f" {share(suspect.score)} sure that it is right.", class_="doubt")
    named = (
        tag("b", shown(suspect.label)),
        f" at {share(suspect.score)}; rather ",
        tag("b", shown(suspect.suggested)),
    )
    return tag("p", named, class_="doubt")


def _choices(index: int, suspect: Suspect) -> Markup:
    keep = f"keep {shown(suspect.label)}"
    change = f"change to {shown(suspect.suggested)}"
    return tag(
        "fieldset",
        tag("legend", f"Label of {suspect.id}"),
        _radio(index, "keep", keep, checked=True),
        _radio(index, "suggested", change),
        _radio(index, "other", "other\N{HORIZONTAL ELLIPSIS}"),
        _radio(index, "none", "no label"),
        tag(
            "input",
            type="text",
            list="labels",
            hidden=True,
            autocomplete="off",
            placeholder="another label",
            aria_label=f"Another label of {suspect.id}",
        ),
        class_="choices",
    )


def _radio(index: int, value: str, text: str, *, checked: bool = False) -> Markup:
    chosen = tag("input", type="radio", name=f"label-{index}", value=value, checked=checked)
    return tag("label", chosen, text, class_=None if value == "keep" else "other-way")


def _saving(card: HeadCard, mark: str) -> Markup:
    return tag(
        "div",
        tag("button", "Save corrections.csv", type="button", id="save", class_="main", disabled=True),
        tag("p", "No label changed yet.", id="count", aria_live="polite"),
        tag("p", _next(card, mark), id="after", hidden=True),
        class_="save",
    )


def _next(card: HeadCard, mark: str) -> Child:
    if card.target != "label":
        return f"Saved. They are values of column {card.target}: change them where that column comes from."
    command = ["trunkline collections relabel", card.collection, "--from corrections.csv"]
    if card.task == "multi-label" and mark != "|":
        command.append(f"--separator '{mark}'")
    return ["Saved. Now: ", tag("code", " ".join(command), class_="command")]
