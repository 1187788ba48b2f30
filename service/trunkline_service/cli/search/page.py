"""Hits as a page of thumbnails that loads nothing from anywhere."""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.search.printing import Asked, columns_of, how, label_words, why_empty
from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.standalone import document, write_page
from trunkline_service.heads.report.thumbnails import Thumbnail, thumbnail

# Some ten megabytes of them; what a browser scrolls through without effort.
MOST_IMAGES = 2000
_ALIKE = 20


@dataclass(frozen=True)
class Answered:
    """What the page shows.

    Attributes:
        found: Hits of N queries.
        names: Of the queries.
        sources: Of their images; None for vectors.
        given: Whether these are files that the command line named, which may be opened wherever they lie.
        collection: That was searched.
        asked: What the words about them depend on.
    """

    found: trunkline.SearchResult
    names: Sequence[str]
    sources: Sequence[str | None]
    given: bool
    collection: str
    asked: Asked


class _Pictures:
    """Makes the thumbnails of one page, as long as there is room on it."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._left = MOST_IMAGES
        self.hits_shown = 0

    def hit(self, source: str) -> Thumbnail:
        """Of a source that a collection recorded."""
        made = self._made(source, self._root)
        self.hits_shown += made.uri is not None
        return made

    def query(self, source: str | None, given: bool) -> Thumbnail:
        """Of a query; see `Answered.given`."""
        if source is None:
            return Thumbnail(None, "a vector")
        return self._made(source, Path("/") if given else self._root)

    def _made(self, source: str, root: Path | None) -> Thumbnail:
        if self._left == 0:
            return Thumbnail(None, f"the page shows {MOST_IMAGES:,} images")
        made = thumbnail(source, root)
        self._left -= made.uri is not None
        return made


def show(answered: Answered, path: Path | None, root: Path | None, *, opened: bool, quiet: bool) -> None:
    """Writes the page and says where it is; with ``opened`` a browser shows it.

    Args:
        answered: What it shows.
        path: The file; None for a new one among the temporary files.
        root: The folder below which sources of hits may be opened; None opens nothing.
        opened: Whether to open it in a browser.
        quiet: Whether standard output belongs to a program.

    Raises:
        StorageError: The file can't be written.
    """
    if path is None:
        path = Path(tempfile.mkdtemp(prefix="trunkline-search-")) / "search.html"
    pictures = _Pictures(root)
    write_page(render(answered, pictures), path, "the page")
    (output.hint if quiet else output.say)(f"wrote {path}")
    if not pictures.hits_shown and any(answered.found.ids):
        output.hint("no image of a hit could be shown: " + _missing(root))
    if opened and not webbrowser.open(path.resolve().as_uri()):
        output.warn(f"no browser was found here; open {path} in one")


def _missing(root: Path | None) -> str:
    if root is None:
        return "name the folder of this machine where they lie with --root DIR"
    return f"the page says why at each; they are looked for below {root}"


def render(answered: Answered, pictures: _Pictures) -> str:
    """The page; see `show`."""
    found, names, asked = answered.found, answered.names, answered.asked
    style = resources.files(__package__).joinpath("assets", "search.css").read_text(encoding="utf-8")
    failed = {failure.index: failure.message for failure in found.errors}
    sections = [
        tag(
            "section",
            _query(name, pictures.query(source, answered.given), failed.get(row)),
            _answer(found, row, pictures, asked) if row not in failed else None,
        )
        for row, (name, source) in enumerate(zip(names, answered.sources, strict=True))
    ]
    queries = output.counted(len(names), "query", "queries")
    # Of the other pages about collections, too.
    title = f"{answered.collection}@{found.version}" if found.version else answered.collection
    words = how(found, asked)
    return document(
        f"{title}: search",
        style,
        tag(
            "header",
            tag("p", "Trunkline search", class_="over"),
            tag("h1", title),
            tag("p", f"{queries}, nearest first. {words[:1].upper()}{words[1:]}.", class_="lead"),
        ),
        tag("main", sections),
        tag(
            "footer",
            f"Scores: {found.metric or 'none'}, higher is nearer. This page loads nothing from anywhere.",
        ),
    )


def _query(name: str, copy: Thumbnail, failure: str | None) -> Markup:
    return tag(
        "div",
        _picture(copy, f"query {name}"),
        tag("div", tag("h2", name), tag("p", failure, class_="failure") if failure else None, class_="told"),
        class_="query",
    )


def _answer(found: trunkline.SearchResult, row: int, pictures: _Pictures, asked: Asked) -> Markup:
    if not found.ids[row]:
        return tag("p", f"{why_empty(asked)[:1].upper()}{why_empty(asked)[1:]}.", class_="lead")
    return tag("ol", list(_hits(found, row, pictures, asked)), class_="hits")


def together(groups: Sequence[str | None]) -> list[int]:
    """Places of hits such that those of a group follow its best one; a hit of no group stands for itself."""
    first: dict[str, int] = {}
    ranks = [rank if group is None else first.setdefault(group, rank) for rank, group in enumerate(groups)]
    return sorted(range(len(groups)), key=ranks.__getitem__)


def _hits(found: trunkline.SearchResult, row: int, pictures: _Pictures, asked: Asked) -> Iterator[Markup]:
    for rank in together(found.groups[row]):
        row_id = found.ids[row][rank]
        group, alike = found.groups[row][rank], found.duplicates[row][rank]
        yield tag(
            "li",
            _picture(pictures.hit(found.sources[row][rank]), f"image of {row_id}"),
            tag(
                "div",
                tag("p", f"{found.scores[row][rank]:.4f}", class_="score"),
                tag("p", label_words(found.labels[row][rank]) or "no label", class_="label"),
                tag("p", f"group {group}", class_="group")
                if group is not None and asked.shows_group
                else None,
                tag("p", row_id, class_="id"),
                [
                    tag("p", f"{name}: {value}", class_="id")
                    for name, value in columns_of(found, row, rank, asked)
                ],
                _alike_ids(alike) if alike else None,
                class_="told",
            ),
        )


def _alike_ids(ids: Sequence[str]) -> Markup:
    shown = [tag("li", row_id) for row_id in ids[:_ALIKE]]
    if len(ids) > _ALIKE:
        shown.append(tag("li", f"and {len(ids) - _ALIKE:,} more"))
    return tag("details", tag("summary", f"{len(ids):,} alike"), tag("ul", shown))


def _picture(copy: Thumbnail, alt: str) -> Markup:
    if copy.uri is None:
        return tag("div", tag("p", copy.reason), class_="picture")
    image = tag("img", src=copy.uri, alt=alt, width=copy.width, height=copy.height, loading="lazy")
    return tag("div", image, class_="picture")
