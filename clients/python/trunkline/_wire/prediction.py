"""One head's message -> labels, probabilities, values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline._wire import floats
from trunkline.exceptions import Internal
from trunkline.rows import Label
from trunkline.values import HeadRef
from trunkline_protos.v1 import heads_pb2

_LIKELY = 0.5
_LABELLED = ("single-label", "multi-label")


@dataclass(frozen=True, eq=False)
class Reading:
    """What one head says of the items of a chunk; the fields are those of `PredictResult`."""

    labels: list[Label]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    head: HeadRef
    task: str
    top: list[tuple[str, ...]] | None
    values: NDArray[np.float32] | None
    scores: NDArray[np.float32] | None
    distances: NDArray[np.float32] | None
    unknown: list[str | None]

    def blank(self, count: int) -> Reading:
        """The same head's, of items that were never sent."""

        def nan(like: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
            return None if like is None else np.full((count, *like.shape[1:]), np.nan, np.float32)

        probabilities = np.full((count, self.probabilities.shape[1]), np.nan, np.float32)
        return Reading(
            [None] * count,
            probabilities,
            self.classes,
            self.head,
            self.task,
            None if self.top is None else [()] * count,
            nan(self.values),
            nan(self.scores),
            nan(self.distances),
            [None] * count,
        )

    @classmethod
    def joined(cls, parts: Sequence[Reading]) -> Reading:
        """One head's, of several chunks, one behind the other."""
        first = parts[0]

        def stacked(name: str) -> NDArray[np.float32] | None:
            columns = [getattr(part, name) for part in parts]
            return None if columns[0] is None else np.concatenate(columns)

        probabilities = stacked("probabilities")
        assert probabilities is not None
        return cls(
            [label for part in parts for label in part.labels],
            probabilities,
            first.classes,
            first.head,
            first.task,
            None if first.top is None else [names for part in parts for names in part.top or ()],
            stacked("values"),
            stacked("scores"),
            stacked("distances"),
            [reason for part in parts for reason in part.unknown],
        )


def read(message: heads_pb2.Prediction, rows: Sequence[int], served: Sequence[bool]) -> Reading:
    """What a head says of the items of a chunk.

    Args:
        message: The reply's.
        rows: Where, in the chunk, the items that were sent stand.
        served: For each item of the chunk, whether it was answered.

    Raises:
        Internal: The reply breaks the contract.
    """
    classes = tuple(message.classes)
    outputs, top = _outputs(message, classes, rows, len(served))
    unknown = _unknown(message, rows, len(served))
    known = [was and reason is None for was, reason in zip(served, unknown, strict=True)]
    labelled = message.task in _LABELLED
    distances = None
    if len(message.distances):
        column = np.array(message.distances, np.float32)[:, None]
        _check_rows(len(column), len(rows))
        distances = floats.place(column, rows, len(served))[:, 0].astype(np.float32, copy=False)
    return Reading(
        labels=_labels(message.task, classes, outputs, top, known),
        probabilities=outputs if labelled else np.empty((len(served), 0), np.float32),
        classes=() if top is not None else classes,
        head=HeadRef(message.head.name, message.head.version, message.head.space_id),
        task=message.task,
        top=top,
        values=outputs if message.task == "regression" else None,
        scores=outputs[:, 0] if message.task == "anomaly" else None,
        distances=distances,
        unknown=unknown,
    )


def _outputs(
    message: heads_pb2.Prediction, classes: tuple[str, ...], rows: Sequence[int], count: int
) -> tuple[NDArray[np.float32], list[tuple[str, ...]] | None]:
    """(count, K) numbers, and with top-k the class of each of them."""
    if not message.HasField("top"):
        matrix = floats.unpack(message.outputs, len(rows))
        wanted = 1 if message.task == "anomaly" else len(classes)
        if matrix.shape[1] != wanted:
            raise Internal(f"the reply has {wanted} outputs and {matrix.shape[1]} numbers an item")
        return floats.place(matrix, rows, count).astype(np.float32, copy=False), None
    k = message.top.k
    numbers = np.array(message.top.probabilities, np.float32)
    positions = np.array(message.top.classes, np.int64)
    if len(numbers) != len(rows) * k or len(positions) != len(numbers) or (positions >= len(classes)).any():
        raise Internal(f"the reply's {k} most probable classes of {len(rows)} items do not fit together")
    placed = floats.place(numbers.reshape(len(rows), k), rows, count).astype(np.float32, copy=False)
    names: list[tuple[str, ...]] = [()] * count
    for row, found, figures in zip(rows, positions.reshape(len(rows), k), placed[list(rows)], strict=True):
        names[row] = () if np.isnan(figures).any() else tuple(classes[position] for position in found)
    return placed, names


def _labels(
    task: str,
    classes: tuple[str, ...],
    outputs: NDArray[np.float32],
    top: list[tuple[str, ...]] | None,
    known: Sequence[bool],
) -> list[Label]:
    labels: list[Label] = [None] * len(known)
    if task not in _LABELLED:
        return labels
    # What is finite can still be beyond what a head can compute with; then it says nothing.
    usable = np.array(known, np.bool_) & ~np.isnan(outputs).any(axis=1)
    for row in np.flatnonzero(usable).tolist():
        names = classes if top is None else top[row]
        if task == "single-label":
            labels[row] = names[int(outputs[row].argmax())]
        else:
            labels[row] = tuple(sorted(names[k] for k in np.flatnonzero(outputs[row] >= _LIKELY)))
    return labels


def _unknown(message: heads_pb2.Prediction, rows: Sequence[int], count: int) -> list[str | None]:
    reasons: list[str | None] = [None] * count
    for entry in message.unknown:
        _check_rows(max(entry.index + 1, len(rows)), len(rows))
        reasons[rows[entry.index]] = entry.reason
    return reasons


def _check_rows(found: int, sent: int) -> None:
    if found != sent:
        raise Internal(f"the reply to {sent} items speaks of {found}")
