"""The images below a prefix of a store, whose folders are listed side by side."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline_service.errors import InvalidArgument, StorageError
from trunkline_service.jobs.sources.folder import is_given, nothing_below
from trunkline_service.jobs.sources.item import SourceItem
from trunkline_service.jobs.sources.layout import IMAGE_SUFFIXES, label_and_split, suffix_of
from trunkline_service.jobs.sources.parallel import Unlisted, list_below
from trunkline_service.jobs.sources.pattern import Pattern
from trunkline_service.jobs.sources.remote_reading import RemoteReader
from trunkline_service.jobs.sources.source import ListedSource, Listing
from trunkline_service.jobs.sources.stores import Entry, child_uri, first_line, place_of

_LISTERS = 8


class RemoteSource(ListedSource):
    """The images below a URL; labels, splits and ids as of a folder.

    Folders are listed by a few threads, and images are given while that goes on, in no certain order.
    One folder's listing is held at a time by each thread.

    Args:
        uri: ``s3://bucket/prefix`` and the like.
        pattern: Which files below it; None for all.
        id_prefix: Stands before every id.

    Raises:
        InvalidArgument, MissingExtra, StorageError: See ``stores.place_of``.
    """

    def __init__(self, uri: str, pattern: Pattern | None = None, id_prefix: str = "") -> None:
        base, question, options = uri.partition("?")
        scheme, separator, rest = base.partition("://")
        super().__init__(f"{scheme}{separator}{rest.rstrip('/')}{question}{options}", id_prefix)
        self._pattern = pattern
        self._place = place_of(self.uri)

    def covers(self, row_id: str, source: str) -> bool:
        """Whether it lies below the URL, where the pattern looks, with its path there as its id."""
        below = row_id.removeprefix(self.id_prefix)
        return (
            row_id == self.id_prefix + below
            and is_given(below, self._pattern, source)
            and source == child_uri(self.uri, below)
        )

    def _nothing(self) -> str:
        return nothing_below(self.uri, self._pattern)

    def _list(self, listing: Listing) -> Iterator[SourceItem]:
        root = self._place.path
        for found in list_below(self._place.store.entries, root, self._may_enter, _LISTERS):
            if isinstance(found, Unlisted):
                self._unlisted(found, listing)
                continue
            names = self._names(found.path)
            hidden = names[-1].startswith(".")
            if hidden or (self._pattern is not None and not self._pattern.matches(names)):
                continue
            if (suffix := suffix_of(names[-1])) in IMAGE_SUFFIXES:
                yield self._item(names, found)
            else:
                listing.left_out[suffix or "no suffix"] += 1

    def _unlisted(self, found: Unlisted, listing: Listing) -> None:
        if found.folder != self._place.path:
            listing.problem(f"{found.folder} can't be listed: {first_line(found.reason)}")
        elif isinstance(found.reason, FileNotFoundError | NotADirectoryError):
            raise InvalidArgument(
                f"there is no folder {self.uri!r}; give one that holds images"
            ) from found.reason
        else:
            raise StorageError(f"{self.uri!r} can't be listed: {first_line(found.reason)}") from found.reason

    def _may_enter(self, folder: str) -> bool:
        names = self._names(folder)
        return not names[-1].startswith(".") and (self._pattern is None or self._pattern.may_hold(names))

    def _names(self, path: str) -> tuple[str, ...]:
        return tuple(path[len(self._place.path) :].strip("/").split("/"))

    def _item(self, names: tuple[str, ...], entry: Entry) -> SourceItem:
        label, split = label_and_split(names[:-1])
        source = child_uri(self.uri, "/".join(names))
        return SourceItem(
            id=self.id_prefix + "/".join(names),
            source=source,
            read=RemoteReader(source),
            label=label,
            split=split,
            size=entry.size,
            mtime=entry.mtime,
            etag=entry.etag,
        )
