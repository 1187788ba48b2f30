"""Slots of a view -> hits with their texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trunkline_service.collections.convert import as_label
from trunkline_service.index.finding import Found
from trunkline_service.index.outcome import Hit
from trunkline_service.index.view import Answer, View


def plain_hits(view: View, answer: Answer) -> list[list[Hit]]:
    """Every row of an answer as a hit."""
    there = answer.slots >= 0
    flat = answer.slots[there]
    ids, labels, sources = (view.texts(flat, column) for column in ("ids", "labels", "sources"))
    if view.spec.multi_label:
        labels = list(map(as_label, labels))
    hits = list(map(Hit, ids, answer.scores[there].tolist(), labels, sources))
    ends = np.cumsum(there.sum(axis=1)).tolist()
    return [hits[start:end] for start, end in zip([0, *ends], ends, strict=False)]


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
