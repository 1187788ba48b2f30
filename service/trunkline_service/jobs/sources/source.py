"""What every source can do, and what they share."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trunkline_service.errors import InvalidArgument
from trunkline_service.jobs.sources.item import SourceItem

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

    def describe(self) -> str:
        """The interpretation, to be shown before the work begins: of the head of the source alone.

        Raises:
            InvalidArgument: There is no image, or a table that can't be used.
        """
        ...

    def items(self) -> Iterator[SourceItem]:
        """The images, lazily and in bounded memory; every call lists them anew.

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

    def covers(self, source: str) -> bool:
        """Whether a row with this recorded source is one of this source's, there now or gone."""
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
    # Where labels come from, for `describe`.
    _labels_from = "from folder names"
    _no_labels = "no labels (no folders below)"

    def __init__(self, uri: str, id_prefix: str = "") -> None:
        self.uri = uri
        self.id_prefix = id_prefix
        self._last = Listing()

    @abstractmethod
    def _list(self, listing: Listing) -> Iterator[SourceItem]:
        """The images; what goes wrong is noted in ``listing``."""

    @abstractmethod
    def _nothing(self) -> str:
        """What was looked for and not found."""

    @abstractmethod
    def covers(self, source: str) -> bool:
        """See ``Source.covers``."""

    def _notes(self) -> list[str]:
        """More about the interpretation."""
        return []

    def items(self) -> Iterator[SourceItem]:
        """See ``Source.items``."""
        return self._items(Listing())

    def describe(self) -> str:
        """See ``Source.describe``."""
        listing = Listing()
        items = self._items(listing)
        head = list(itertools.islice(items, self._head))
        whole = next(items, None) is None
        # A listing that is not closed would keep its folders and threads.
        items.close()
        return "; ".join([*self._counted(head, whole), *self._notes(), *_noticed(listing)])

    def problems(self) -> tuple[str, ...]:
        """See ``Source.problems``."""
        return self._last.problems

    def left_out(self) -> Mapping[str, int]:
        """See ``Source.left_out``."""
        return dict(self._last.left_out)

    def _items(self, listing: Listing) -> Generator[SourceItem, None, None]:
        found = False
        for item in self._list(listing):
            found = True
            yield item
        self._last = listing
        if not found:
            # An unmounted disk looks like an empty folder; it must not look like a finished job.
            raise InvalidArgument("; ".join([self._nothing(), *_noticed(listing)]))

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
