"""Which rows of a view share a value of a column."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.convert import as_label
from trunkline_service.index.view import Mask, View

_MOST_APART = 256


class Groups(Protocol):
    """The values of a column of a view's rows."""

    def of(self, slots: NDArray[np.int64]) -> Sequence[Hashable]:
        """The value of each row; None for null."""
        ...

    @property
    def codes(self) -> NDArray[np.int64] | None:
        """A number for each slot's value, 0..n-1; -1 for null. None where the values are lists."""
        ...


class Apart(NamedTuple):
    """The rows of one value.

    Attributes:
        rows: Masks over a view's parts.
        valued: They share a value; else they are those without one.
    """

    rows: tuple[Mask, ...]
    valued: bool


class LabelGroups:
    """Of the labels, which a view has in memory."""

    def __init__(self, view: View) -> None:
        self._view = view

    def of(self, slots: NDArray[np.int64]) -> Sequence[Hashable]:
        """See `Groups`; a tuple where the collection is multi-label."""
        return [as_label(label) for label in self._view.texts(slots, "labels")]

    @cached_property
    def codes(self) -> NDArray[np.int64] | None:
        """See `Groups`."""
        import pyarrow as pa

        if self._view.spec.multi_label:
            return None
        labels = pa.chunked_array([part.segment.labels for part in self._view.parts])
        return _codes(labels.combine_chunks())[1]


class ColumnGroups:
    """Of another column.

    Args:
        view: Whose slots.
        row_ids: uint64 (n,).
        values: An Arrow array (n,).
    """

    def __init__(self, view: View, row_ids: NDArray[np.uint64], values: Any) -> None:
        self._values, codes = _codes(values)
        slots = view.slots_of(row_ids)
        self.codes: NDArray[np.int64] | None = np.full(view.slots, -1, np.int64)
        self.codes[slots[slots >= 0]] = codes[slots >= 0]

    def of(self, slots: NDArray[np.int64]) -> Sequence[Hashable]:
        """See `Groups`."""
        import pyarrow as pa

        if not len(slots) or self.codes is None:
            return []
        codes = self.codes[slots]
        return [_hashable(value) for value in self._values.take(pa.array(codes, mask=codes < 0)).to_pylist()]


def apart(view: View, groups: Groups, allowed: Sequence[Mask] | None) -> Iterator[Apart] | None:
    """The rows of each value, one value after the other: all masks at once would take a byte a row each.

    Last come the rows without a value. None where there are too many values to look at each of them, or they
    can't be told apart.
    """
    codes = groups.codes
    if codes is None or codes.max(initial=-1) >= _MOST_APART:
        return None
    return _one_by_one(view, codes, None if allowed is None else np.concatenate(allowed))


def _one_by_one(view: View, codes: NDArray[np.int64], allowed: Mask | None) -> Iterator[Apart]:
    for code in [*range(int(codes.max(initial=-1)) + 1), -1]:
        rows = codes == code
        if allowed is not None:
            rows &= allowed
        yield Apart(view.split(rows), valued=code >= 0)


def _codes(values: Any) -> tuple[Any, NDArray[np.int64]]:
    """The distinct values, and for each value its position among them; -1 for null."""
    encoded = values.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return encoded.dictionary, codes


def _hashable(value: Any) -> Hashable:
    return tuple(value) if isinstance(value, list) else value
