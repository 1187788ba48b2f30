"""A stream of inputs -> chunks, each of which fits one request. Pushed, so that sync and async share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any

from trunkline._wire import items
from trunkline._wire.items import Item, Unsendable
from trunkline._wire.scalars import check_text, metadata_to
from trunkline.exceptions import InvalidRequest
from trunkline.rows import Label, Scalar
from trunkline.values import ItemFailure


@dataclass(frozen=True)
class Limits:
    """What one request may carry.

    Attributes:
        bytes: Of items together; an item that is larger goes alone.
        item_bytes: Of one item; a larger one is not sent at all.
        count: Items.
    """

    bytes: int
    item_bytes: int
    count: int


@dataclass(frozen=True)
class Chunk:
    """Consecutive inputs: those that go into one request, and those that can't be sent.

    Attributes:
        start: Index in the input of the first.
        inputs: The path or name of each.
        rows: Where, counted from ``start``, the payload's entries stand.
        payload: `Item`s, ids, or the rows of a matrix.
        failures: The others, by rising index in the input.
        ids: The id that the caller gave each, empty where none (Add alone).
    """

    start: int
    inputs: list[str]
    rows: list[int]
    payload: Sequence[Any]
    failures: list[ItemFailure] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def items(self) -> range:
        """The indices in the input."""
        return range(self.start, self.start + len(self))


EMPTY = Chunk(0, [], [], [])
"""What an empty input is."""


@dataclass(frozen=True)
class Columns:
    """What Add says of each image, beside the image itself; None where nothing is said.

    Attributes:
        ids: The row's id.
        labels: The row's label, or labels, or None.
        sources: Where the image came from.
        splits: The row's split, or None.
        metadata: Columns of the caller's own, by name, or None.
    """

    ids: Iterable[str] | None = None
    labels: Iterable[Label] | None = None
    sources: Iterable[str] | None = None
    splits: Iterable[str | None] | None = None
    metadata: Iterable[Mapping[str, Scalar] | None] | None = None


class Feed:
    """Gathers inputs into chunks.

    Call `read` and then `push` for each input in order, and `finish` at the end.

    Args:
        limits: Of one request.
        columns: What else is known of each input.
    """

    def __init__(self, limits: Limits, columns: Columns | None = None) -> None:
        self._limits = limits
        columns = columns or Columns()
        named = {name: getattr(columns, name) for name in _READ}
        self._columns = {name: iter(column) for name, column in named.items() if column is not None}
        self._start = 0
        self._clear()

    def read(self, image: object) -> Item | Unsendable:
        """One input as an item. May read a file; changes nothing, so that any thread may run it."""
        return items.read(image, self._limits.item_bytes)

    def push(self, entry: Item | Unsendable) -> Chunk | None:
        """Takes the next input; returns a chunk once one is complete.

        Raises:
            InvalidRequest: There are fewer ids, labels or the like than images, or one that can't be sent.
        """
        entry = self._describe(entry)
        size = entry.wire_bytes if isinstance(entry, Item) else 0
        if size > self._limits.item_bytes:
            entry, size = Unsendable(entry.source, "message_too_large", _TEXTS_TOO_LARGE, id=entry.id), 0
        done = self.finish_chunk() if self._payload and self._size + size > self._limits.bytes else None
        self._append(entry, size)
        # A full chunk is handed out at once: the next input may be long in coming.
        if done is None and len(self._inputs) >= self._limits.count:
            done = self.finish_chunk()
        return done

    def finish(self) -> Chunk | None:
        """The last chunk, if there is one.

        Raises:
            InvalidRequest: There are more ids, labels or the like than images.
        """
        for name, column in self._columns.items():
            if next(column, _END) is not _END:
                raise InvalidRequest(f"{name} has more entries than there are images")
        return self.finish_chunk() if self._inputs else None

    def finish_chunk(self) -> Chunk:
        """What has gathered, as a chunk."""
        chunk = Chunk(self._start, self._inputs, self._rows, self._payload, self._failures, self._ids)
        self._start += len(chunk)
        self._clear()
        return chunk

    def _clear(self) -> None:
        self._inputs: list[str] = []
        self._rows: list[int] = []
        self._payload: list[Item] = []
        self._failures: list[ItemFailure] = []
        self._ids: list[str] = []
        self._size = 0

    def _append(self, entry: Item | Unsendable, size: int) -> None:
        row = len(self._inputs)
        self._inputs.append(entry.source)
        self._ids.append(entry.id)
        if isinstance(entry, Item):
            self._rows.append(row)
            self._payload.append(entry)
            self._size += size
        else:
            index = self._start + row
            self._failures.append(ItemFailure(index, entry.source, entry.reason, entry.message, entry.code))

    def _describe(self, entry: Item | Unsendable) -> Item | Unsendable:
        if not self._columns:
            return entry
        said = {name: self._next(name) for name in self._columns}
        entry = replace(entry, source=said.get("sources", entry.source), id=said.get("ids", entry.id))
        if isinstance(entry, Item):
            entry = replace(
                entry,
                label=said.get("labels", entry.label),
                split=said.get("splits", entry.split),
                metadata=said.get("metadata", entry.metadata),
            )
        return entry

    def _next(self, name: str) -> Any:
        value = next(self._columns[name], _END)
        index = self._start + len(self._inputs)
        if value is _END:
            raise InvalidRequest(f"{name} has {index} entries, fewer than there are images")
        return _READ[name](value, f"{name}[{index}]")


_END = object()
_TEXTS_TOO_LARGE = "the image and what is said of it are together larger than the server takes"


def _split(value: Any, where: str) -> str | None:
    return None if value is None else check_text(value, where)


def _label(value: Any, where: str) -> Label:
    if isinstance(value, (tuple, list)):
        return tuple(check_text(label, where) for label in value)
    return None if value is None else check_text(value, where)


def _metadata(value: Any, where: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise InvalidRequest(f"{where} is a {type(value).__name__}; it must be a dict of values by column")
    for name in value or ():
        check_text(name, f"{where}: the name of a column")
    return metadata_to(value or {}, where)


_READ: dict[str, Callable[[Any, str], Any]] = {
    "ids": check_text,
    "labels": _label,
    "sources": check_text,
    "splits": _split,
    "metadata": _metadata,
}
"""What one entry of each of the columns becomes."""


def columns(
    images: object,
    ids: str | Iterable[str] | None,
    labels: str | Iterable[Label] | None,
    sources: str | Iterable[str] | None,
    splits: str | Iterable[str | None] | None = None,
    metadata: Mapping[str, Scalar] | Iterable[Mapping[str, Scalar] | None] | None = None,
) -> Columns:
    """What the caller said of the images; a lone text or dict belongs to a lone image.

    Raises:
        InvalidRequest: Lengths that are known differ, or an id stands twice in a list.
    """
    lists: dict[str, Any] = {
        "ids": ids,
        "labels": labels,
        "sources": sources,
        "splits": splits,
        "metadata": metadata,
    }
    lists = {name: [entry] if isinstance(entry, (str, Mapping)) else entry for name, entry in lists.items()}
    iterable = items.as_iterable(images)
    for name, entry in lists.items():
        if isinstance(entry, Sized) and isinstance(iterable, Sized) and len(entry) != len(iterable):
            raise InvalidRequest(f"{name} has {len(entry)} entries for {len(iterable)} images")
    if isinstance(lists["ids"], Sequence):
        _refuse_twins(lists["ids"])
    return Columns(**lists)


def _refuse_twins(ids: Sequence[str]) -> None:
    """Requests run side by side, so which of two images of one id would stay is chance."""
    seen: dict[str, int] = {}
    for index, name in enumerate(ids):
        if name and name in seen:
            raise InvalidRequest(
                f"ids[{seen[name]}] and ids[{index}] are both {name!r}; give each row its own"
            )
        seen[name] = index


def slices(
    payload: Sequence[Any], inputs: list[str], failures: list[ItemFailure], count: int
) -> Iterator[Chunk]:
    """Chunks of rows that are in memory already: vectors, or ids.

    Args:
        payload: One entry for each input, those that failed included.
        inputs: The name of each.
        failures: The inputs that are not to be sent, by rising index.
        count: Entries in one request.
    """
    failed = {failure.index: failure for failure in failures}
    for start in range(0, len(inputs), count):
        here = range(start, min(start + count, len(inputs)))
        rows = [index - start for index in here if index not in failed]
        part = payload[here.start : here.stop]
        # Numpy takes rows by a list of positions, which a plain list does not; whole slices need neither.
        kept = part if len(rows) == len(here) else [part[row] for row in rows]
        yield Chunk(
            start, inputs[here.start : here.stop], rows, kept, [failed[i] for i in here if i in failed]
        )
