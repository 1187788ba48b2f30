"""Images that a Python program gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from trunkline_service.errors import InvalidArgument
from trunkline_service.jobs.sources.files import too_large
from trunkline_service.jobs.sources.item import Scalar, SourceItem
from trunkline_service.jobs.sources.source import ListedSource, Listing

Given: TypeAlias = tuple[str, bytes, Mapping[str, Any]]
"""Id, bytes, and values of the user's columns; ``label`` and ``split`` among them are taken as such."""


@dataclass(frozen=True, slots=True)
class HeldReader:
    """Gives bytes that are in memory already.

    Attributes:
        data: The bytes.
    """

    data: bytes

    def __call__(self, limit: int) -> bytes:
        """See ``item.Reader``."""
        if len(self.data) > limit:
            raise too_large(len(self.data), limit)
        return self.data


class GivenSource(ListedSource):
    """What an iterable gives. Its rows record no source: nothing but the iterable can give them again.

    Whether its labels are lists is looked for in a list of images alone; making what an iterator gives
    may cost much.

    Args:
        images: A list, or a function that gives a new iterator at each call. An iterator itself is
            taken too, and can be listed once.
        id_prefix: Stands before every id.
    """

    _labels_from = "given"
    _no_labels = "no labels"

    def __init__(self, images: Iterable[Given] | Callable[[], Iterable[Given]], id_prefix: str = "") -> None:
        super().__init__("given", id_prefix)
        self._images = images
        self._used_up = False

    @property
    def multi_label(self) -> bool:
        """See ``Source.multi_label``."""
        return isinstance(self._images, Sequence) and any(map(_has_list, self._images))

    def describe(self) -> str:
        """See ``Source.describe``. An iterator is not looked into: it could not be listed after that."""
        if isinstance(self._images, Iterator):
            return "images from an iterator"
        return super().describe()

    def covers(self, row_id: str, source: str) -> bool:  # noqa: ARG002 - every source takes them
        """Never: a row without a source may be anybody's."""
        return False

    def _nothing(self) -> str:
        return "no image was given"

    def _list(self, listing: Listing) -> Iterator[SourceItem]:  # noqa: ARG002 - each is an image
        if self._used_up:
            raise InvalidArgument(
                "this iterator was listed before; give a list, or a function that makes a new iterator"
            )
        self._used_up = isinstance(self._images, Iterator)
        images = self._images() if callable(self._images) else self._images
        for number, given in enumerate(images):
            yield self._item(number, given)

    def _item(self, number: int, given: Given) -> SourceItem:
        try:
            row_id, data, metadata = given
        except (TypeError, ValueError) as exc:
            raise InvalidArgument(f"image {number:,} is not a tuple (id, bytes, metadata)") from exc
        if not isinstance(row_id, str) or not row_id:
            raise InvalidArgument(f"image {number:,} has the id {row_id!r}; give a text that is not empty")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidArgument(f"image {row_id!r} is {type(data).__name__}; give the bytes of its file")
        data = bytes(data)
        rest = dict(metadata or {})
        return SourceItem(
            id=self.id_prefix + row_id,
            source="",
            read=HeldReader(data),
            label=_label(row_id, rest.pop("label", None)),
            split=_split(row_id, rest.pop("split", None)),
            size=len(data),
            # They are in memory, so a hash costs little and tells a change that the size does not.
            etag=hashlib.sha256(data).hexdigest(),
            metadata={name: _scalar(row_id, name, value) for name, value in rest.items()},
        )


def _has_list(given: object) -> bool:
    metadata = given[2] if isinstance(given, tuple) and len(given) == 3 else None
    return isinstance(metadata, Mapping) and isinstance(metadata.get("label"), list | tuple)


def _label(row_id: str, label: object) -> str | tuple[str, ...] | None:
    if label is None or isinstance(label, str):
        return label
    if isinstance(label, list | tuple) and all(isinstance(one, str) for one in label):
        return tuple(label)
    raise InvalidArgument(f"image {row_id!r}: its label is {label!r}; give a text, or several in a tuple")


def _split(row_id: str, split: object) -> str | None:
    if split is None or isinstance(split, str):
        return split
    raise InvalidArgument(f"image {row_id!r}: its split is {split!r}; give a text, e.g. 'train'")


def _scalar(row_id: str, name: str, value: object) -> Scalar:
    if value is None or isinstance(value, str | int | float | bool | datetime):
        return value
    raise InvalidArgument(
        f"image {row_id!r}: {name!r} is {type(value).__name__}; give a text, a number, a bool, a time or None"
    )
