"""What to label next: rows that the head is unsure of, and that differ from one another. Pure.

Uncertainty alone picks the same doubtful picture many times over; diversity alone picks what is easy. As
in BADGE (Ash et al. 2020) and core-set selection (Sener and Savarese 2018) the two are joined: of the most
uncertain rows, ten times as many as wanted, a greedy k-centre takes those that are farthest apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_POOL = 10
_TINY = 1e-12


@dataclass(frozen=True)
class Suggestion:
    """A row that is worth a label.

    Attributes:
        row: Its position among the rows given.
        margin: How sure the head is of its answer: the most probable class's lead over the next; for
            multi-label tasks the distance of the most doubtful label from 0.5, times two. 0 is undecided,
            1 certain.
        reason: The same in words, naming the classes.
    """

    row: int
    margin: float
    reason: str


def suggest(
    probabilities: NDArray[Any],
    embeddings: NDArray[np.float32],
    classes: Sequence[str],
    *,
    count: int = 50,
    multi_label: bool = False,
) -> tuple[Suggestion, ...]:
    """The rows to label next, in the order in which they add most.

    Args:
        probabilities: (N, K) of rows without a label; rows of NaN are passed over.
        embeddings: (N, dim) float32 of the same rows.
        classes: K labels.
        count: How many rows are wanted.
        multi_label: Whether the probabilities are of labels that do not exclude one another.
    """
    usable = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    margins = _binary_margins(probabilities) if multi_label else _margins(probabilities)
    pool = usable[np.argsort(margins[usable], kind="stable")[: _POOL * max(0, count)]]
    if not len(pool):
        return ()
    chosen = pool[farthest(_unit(embeddings[pool]), margins[pool], count)].tolist()
    say = _doubtful_label if multi_label else _close_classes
    return tuple(Suggestion(row, float(margins[row]), say(probabilities[row], classes)) for row in chosen)


def farthest(vectors: NDArray[np.float32], margins: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """(min(count, N),) positions by a greedy k-centre, the least sure one first.

    Each next one is farthest from those before it, distances counting more for the less sure.

    Args:
        vectors: (N, dim) of length 1.
        margins: (N,) from 0, undecided, to 1.
        count: How many.
    """
    chosen = np.empty(min(count, len(vectors)), np.int64)
    distances = np.full(len(vectors), np.inf)
    doubt = 1.0 - margins + _TINY
    following = int(margins.argmin())
    for i in range(len(chosen)):
        chosen[i] = following
        # Of vectors of length 1: the square of their distance.
        moved = 2.0 - 2.0 * (vectors @ vectors[following]).astype(np.float64)
        distances = np.minimum(distances, np.maximum(moved, 0.0))
        distances[following] = -1.0
        following = int((distances * doubt).argmax())
    return chosen


def _margins(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities))
    top = np.partition(probabilities, -2, axis=1)[:, -2:].astype(np.float64)
    return top[:, 1] - top[:, 0]


def _binary_margins(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    nearest: NDArray[np.float64] = 2.0 * np.abs(probabilities.astype(np.float64) - 0.5).min(axis=1)
    return nearest


def _close_classes(row: NDArray[Any], classes: Sequence[str]) -> str:
    first, second = np.argsort(-row, kind="stable")[:2].tolist()
    return f"{classes[first]} ({row[first]:.0%}) or {classes[second]} ({row[second]:.0%})"


def _doubtful_label(row: NDArray[Any], classes: Sequence[str]) -> str:
    worst = int(np.abs(row - 0.5).argmin())
    return f"{classes[worst]} or not ({row[worst]:.0%})"


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    scaled: NDArray[np.float32] = rows / np.maximum(lengths, np.float32(_TINY))
    return scaled
