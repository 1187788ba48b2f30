"""What every source can do, and what they share."""

from __future__ import annotations

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trunkline_service.errors import InvalidArgument
from trunkline_service.jobs.sources.item import SourceItem
from trunkline_service.jobs.sources.seen import SeenIds

_LABELS_SHOWN = 6
_PROBLEMS_SHOWN = 3
_PROBLEMS_KEPT = 1000


class Source(Protocol):
    """Where a job's images come from.

    Attributes:
        uri: The root, normalised and without secrets: recorded and shown.
        id_prefix: Stands before every id.
    """

    uri: str
    id_prefix: str

    @property
    def multi_label(self) -> bool:
        """Whether labels are lists, by a header or by the images that ``describe`` looks at.

        Where they are, ``items`` gives an image of one label a list of one.

        Raises:
            InvalidArgument: A table that can't be used.
        """
        ...

    def describe(self) -> str:
        """The interpretation, to be shown before the work begins: of the head of the source alone.

        Raises:
            InvalidArgument: There is no image, or a table that can't be used.
        """
        ...

    def items(self) -> Iterator[SourceItem]:
        """The images, lazily and in bounded memory; every call lists them anew.

        An image whose id was given before is left out, and a problem.

        Raises:
            InvalidArgument: There is no image, or a table that can't be used.
        """
        ...

    def problems(self) -> tuple[str, ...]:
        """Why images may be missing from the last listing that went to its end; empty if none are."""
        ...

    def left_out(self) -> Mapping[str, int]:
        """Files that were taken for no images in that listing: counts by suffix."""
        ...

    def covers(self, row_id: str, source: str) -> bool:
        """Whether this source, as it was listed last, gives exactly this id for exactly this place.

        Rows that it does not cover are never its business: those of other jobs, of another root or
        another prefix, and those whose place does not tell their id.

        Args:
            row_id: A row's.
            source: What the row recorded as its source; the image may be gone.
        """
        ...


@dataclass
class Listing:
    """What one pass over a source noticed.

    Attributes:
        left_out: Files that are no images, by suffix.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    _problems: list[str] = field(default_factory=list)
    _more: int = 0

    def problem(self, text: str) -> None:
        """Notes a reason why images are missing. Many are counted, the first ones kept."""
        if len(self._problems) < _PROBLEMS_KEPT:
            self._problems.append(text)
        else:
            self._more += 1

    @property
    def problems(self) -> tuple[str, ...]:
        """The reasons, in the order they were met."""
        return (*self._problems, *([f"and {self._more:,} more"] if self._more else []))


class ListedSource(ABC):
    """A source that is listed in one pass; subclasses say how.

    Args:
        uri: See ``Source``.
        id_prefix: See ``Source``.
    """

    # How many images `describe` looks at.
    _head = 10_000
    # Every id is known to be given once: nothing has to be remembered.
    _ids_are_unique = False
    # Where labels come from, for `describe`.
    _labels_from = "from folder names"
    _no_labels = "no labels (no folders below)"

    def __init__(self, uri: str, id_prefix: str = "") -> None:
        self.uri = uri
        self.id_prefix = id_prefix
        self._last = Listing()
        # Whether a label of the head is a list; None before it was looked at.
        self._lists: bool | None = None

    @property
    def multi_label(self) -> bool:
        """See ``Source.multi_label``."""
        return False

    @abstractmethod
    def _list(self, listing: Listing) -> Iterator[SourceItem]:
        """The images; what goes wrong is noted in ``listing``."""

    @abstractmethod
    def _nothing(self) -> str:
        """What was looked for and not found."""

    @abstractmethod
    def covers(self, row_id: str, source: str) -> bool:
        """See ``Source.covers``."""

    def _notes(self) -> list[str]:
        """More about the interpretation."""
        return []

    def items(self) -> Iterator[SourceItem]:
        """See ``Source.items``."""
        several = self.multi_label
        for item in self._items(Listing()):
            if several and isinstance(item.label, str):
                yield dataclasses.replace(item, label=(item.label,))
            else:
                yield item

    def describe(self) -> str:
        """See ``Source.describe``."""
        listing = Listing()
        head, whole = self._look(listing)
        return "; ".join([*self._counted(head, whole), *self._notes(), *_noticed(listing)])

    def problems(self) -> tuple[str, ...]:
        """See ``Source.problems``."""
        return self._last.problems

    def left_out(self) -> Mapping[str, int]:
        """See ``Source.left_out``."""
        return dict(self._last.left_out)

    def _items(self, listing: Listing) -> Generator[SourceItem, None, None]:
        found = False
        seen = None if self._ids_are_unique else SeenIds()
        for item in self._list(listing):
            found = True
            if seen is None or seen.add(item.id):
                yield item
            else:
                where = repr(item.source) if item.source else "the later image"
                listing.problem(f"id {item.id!r} comes twice; {where} was left out: give it an id of its own")
        self._last = listing
        if not found:
            # An unmounted disk looks like an empty folder; it must not look like a finished job.
            raise InvalidArgument("; ".join([self._nothing(), *_noticed(listing)]))

    def _lists_in_head(self) -> bool:
        """Whether one of the images that ``describe`` looks at has a list of labels."""
        if self._lists is None:
            self._look(Listing())
        return bool(self._lists)

    def _look(self, listing: Listing) -> tuple[list[SourceItem], bool]:
        """The first images, and whether they are all."""
        items = self._items(listing)
        head = list(itertools.islice(items, self._head))
        whole = next(items, None) is None
        # A listing that is not closed would keep its folders and threads.
        items.close()
        self._lists = any(isinstance(item.label, tuple) for item in head)
        return head, whole

    def _counted(self, head: list[SourceItem], whole: bool) -> list[str]:
        labels: Counter[str] = Counter()
        for item in head:
            labels.update((item.label,) if isinstance(item.label, str) else item.label or ())
        splits = Counter(item.split for item in head if item.split is not None)
        parts = [f"{'' if whole else 'at least '}{len(head):,} images"]
        if labels:
            shown = ", ".join(label for label, _count in labels.most_common(_LABELS_SHOWN))
            more = ", ..." if len(labels) > _LABELS_SHOWN or not whole else ""
            parts.append(f"{len(labels)} labels {self._labels_from} ({shown}{more})")
        else:
            parts.append(self._no_labels)
        if splits:
            parts.append("splits " + ", ".join(f"{name} {count:,}" for name, count in sorted(splits.items())))
        return parts


def _noticed(listing: Listing) -> list[str]:
    parts = []
    if listing.left_out:
        total = listing.left_out.total()
        parts.append(f"{total:,} other files left out ({', '.join(sorted(listing.left_out))})")
    if problems := listing.problems:
        more = "; ..." if len(problems) > _PROBLEMS_SHOWN else ""
        parts.append(f"{len(problems):,} problems ({'; '.join(problems[:_PROBLEMS_SHOWN])}{more})")
    return parts
