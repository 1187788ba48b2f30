"""Slots of a view -> hits with their texts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.convert import as_label
from trunkline_service.index.finding import Found
from trunkline_service.index.outcome import Hit
from trunkline_service.index.view import Answer, View


def plain_hits(view: View, answer: Answer) -> list[list[Hit]]:
    """Every row of an answer as a hit."""
    there = answer.slots >= 0
    flat = answer.slots[there]
    ids, labels, sources = (view.texts(flat, column) for column in ("ids", "labels", "sources"))
    hits = iter(map(Hit, ids, answer.scores[there].tolist(), map(as_label, labels), sources))
    return [[next(hits) for _ in range(count)] for count in there.sum(axis=1).tolist()]


def shaped_hits(view: View, found: Sequence[Found]) -> list[list[Hit]]:
    """The hits of each query."""
    flat = np.array([slot for hits in found for slot in hits.slots], np.int64)
    folded = np.array([slot for hits in found for slots in hits.folded for slot in slots], np.int64)
    ids, labels, sources = (iter(view.texts(flat, column)) for column in ("ids", "labels", "sources"))
    folded_ids = iter(view.texts(folded, "ids"))
    return [
        [
            Hit(
                next(ids),
                score,
                as_label(next(labels)),
                next(sources),
                group,
                tuple(next(folded_ids) for _ in slots),
            )
            for score, group, slots in zip(hits.scores, hits.groups, hits.folded, strict=True)
        ]
        for hits in found
    ]


def label_groups(view: View, slots: NDArray[np.int64]) -> Sequence[Hashable]:
    """The label of each row; a tuple where the collection is multi-label."""
    return [as_label(label) for label in view.texts(slots, "labels")]


class ColumnGroups:
    """The values of a column, by slot.

    Args:
        view: Whose slots.
        row_ids: uint64 (n,).
        values: An Arrow array (n,).
    """

    def __init__(self, view: View, row_ids: NDArray[np.uint64], values: Any) -> None:
        encoded = values.dictionary_encode()
        self._values = encoded.dictionary
        slots = view.slots_of(row_ids)
        known = slots >= 0
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        order = np.argsort(slots[known])
        self._slots, self._codes = slots[known][order], codes[known][order]

    def of(self, slots: NDArray[np.int64]) -> Sequence[Hashable]:
        """The value of each row; None for null."""
        import pyarrow as pa

        if not len(slots):
            return []
        codes = self._codes[np.searchsorted(self._slots, slots)]
        return [_hashable(value) for value in self._values.take(pa.array(codes, mask=codes < 0)).to_pylist()]


def _hashable(value: Any) -> Hashable:
    return tuple(value) if isinstance(value, list) else value
