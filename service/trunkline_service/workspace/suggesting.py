"""What to label next: a head asked about the rows of a collection that nobody has labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.evaluation.suggest import suggest
from trunkline_service.heads.serving.loaded import LoadedHead
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.heads.training.stored import Unlabelled, unlabelled

MOST = 1000
"""Rows that can be suggested at once: each next one is compared with those before it."""

_CLASSIFIES = ("single-label", "multi-label")
# Probabilities held at once; of more rows a sample is asked about.
_HELD = 1 << 26
_BLOCK_ROWS = 8192
_SHOWN = 2


@dataclass(frozen=True)
class SuggestedRow:
    """A row that is worth a label.

    Attributes:
        id: Of the row.
        source: Where its image comes from; empty where unknown.
        margin: How sure the head is of its answer, from 0, undecided, to 1, certain.
        reason: The same in words.
        likeliest: The two most probable labels with their probabilities, the more probable one first; one
            where the head knows no other.
    """

    id: str
    source: str
    margin: float
    reason: str
    likeliest: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Suggested:
    """What to label next.

    Attributes:
        card: Of the head that was asked.
        collection: Name of the collection.
        collection_version: Its version then.
        unlabelled: Rows that have an embedding and no label.
        asked: How many of them the head was asked about.
        rows: What adds most comes first.
    """

    card: HeadCard
    collection: str
    collection_version: int
    unlabelled: int
    asked: int
    rows: tuple[SuggestedRow, ...]


def suggest_rows(
    store: CollectionStore, heads: HeadRegistry, head: str, collection: str, count: int, held: int = _HELD
) -> Suggested:
    """See `Workspace.suggest_labels`.

    Args:
        store: The collections.
        heads: The heads.
        head: A reference.
        collection: A reference.
        count: Rows wanted.
        held: Probabilities held at once; of more rows a sample is asked about.
    """
    if not 1 <= count <= MOST:
        raise InvalidArgument(f"count is {count}; ask for 1 to {MOST:,} rows")
    loaded = heads.load(head)
    card = loaded.card
    if card.task not in _CLASSIFIES:
        raise InvalidArgument(
            f"head {card.ref} is for {card.task}, and rows can be suggested by a head that classifies alone"
        )
    store.resolve(collection).collection.check_space(card.space_id)
    found = unlabelled(store, collection, target=card.target)
    rows = _asked(len(found.ids), max(1, held // len(card.classes)))
    probabilities, vectors = _probabilities(loaded, found, rows)
    suggestions = suggest(
        probabilities, vectors, card.classes, count=count, multi_label=card.task == "multi-label"
    )
    return Suggested(
        card,
        found.collection,
        found.collection_version,
        len(found.ids),
        len(rows),
        tuple(
            SuggestedRow(
                found.ids[rows[suggestion.row]],
                found.sources[rows[suggestion.row]],
                suggestion.margin,
                suggestion.reason,
                _likeliest(probabilities[suggestion.row], card.classes),
            )
            for suggestion in suggestions
        ),
    )


def _asked(count: int, most: int) -> NDArray[np.int64]:
    """Which rows the head is asked about: all, or a sample, always the same one."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _probabilities(
    head: LoadedHead, found: Unlabelled, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(M, K) and (M, dim): what the head says of some rows, and their vectors."""
    vectors = found.embeddings if len(rows) == len(found.ids) else found.embeddings[rows]
    probabilities = np.empty((len(rows), len(head.card.classes)), np.float32)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        probabilities[block] = head.probabilities(vectors[block], found.space_id)
    return probabilities, vectors


def _likeliest(probabilities: NDArray[np.float32], classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-probabilities, kind="stable")[:_SHOWN].tolist()
    return tuple((classes[k], float(probabilities[k])) for k in order)
