"""What heads say of items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trunkline.results import ItemResults, SearchResult
from trunkline.rows import Label
from trunkline.values import HeadRef, ModelRef

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PredictResult(ItemResults):
    """What one head says of images, vectors or rows.

    Attributes:
        labels: The most probable class of each item; of a multi-label head the tuple of classes of at
            least 0.5. None for a failure, for an item that is unknown, and for other tasks.
        probabilities: (N, K) float32; with ``top_k`` (N, k), most probable first. The row of a failure is
            NaN. (N, 0) for tasks without probabilities.
        classes: The K classes, in the order of the columns; empty with ``top_k``.
        head: What predicted; None if nothing was sent.
        model: What embedded the images; None for vectors and rows, or if nothing was sent.
        task: ``"single-label"``, ``"multi-label"``, ``"regression"`` or ``"anomaly"``.
        top: With ``top_k``, the class of each column of ``probabilities``, for each item; empty for a failure.
            None otherwise.
        values: (N, M) float32, of a regression; columns as ``classes``. None otherwise.
        scores: (N,) float32, of an anomaly head; higher is further from what is normal. None otherwise.
        distances: (N,) float32, how far each item is from the training rows; None where the head does not
            measure it.
        unknown: Why an item is unknown: ``"low_probability"`` or ``"far"``; None for the others.
        vectors: (N, dim) float32, where they were asked for; NaN for a failure.
        neighbours: The nearest rows, where they were asked for.
    """

    labels: list[Label]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...] = ()
    head: HeadRef | None = None
    model: ModelRef | None = None
    task: str = "single-label"
    top: list[tuple[str, ...]] | None = None
    values: NDArray[np.float32] | None = None
    scores: NDArray[np.float32] | None = None
    distances: NDArray[np.float32] | None = None
    unknown: list[str | None] = field(default_factory=list)
    vectors: NDArray[np.float32] | None = None
    neighbours: SearchResult | None = None

    @property
    def space_id(self) -> str:
        """The space of the head's inputs; empty where ``head`` is None."""
        return self.head.space_id if self.head else ""

    def to_pandas(self) -> pd.DataFrame:
        """One row an item: ``source``, what the head says, and ``error``.

        What it says is ``label``, its ``probability`` and ``p(class)`` for each class; the targets of a
        regression; ``score`` of an anomaly head; ``distance`` and ``unknown`` where there are some.

        Raises:
            MissingExtra: pandas is not installed.
        """
        columns: dict[str, object] = {}
        if self.values is not None:
            columns |= {name: self.values[:, k] for k, name in enumerate(self.classes)}
        elif self.scores is not None:
            columns["score"] = self.scores
        else:
            columns["label"] = self.labels
            if self.probabilities.shape[1]:
                columns["probability"] = self.probabilities.max(axis=1)
            columns |= {f"p({name})": self.probabilities[:, k] for k, name in enumerate(self.classes)}
        if self.distances is not None:
            columns["distance"] = self.distances
        if any(self.unknown):
            columns["unknown"] = self.unknown
        return self._frame(columns)

    def _facts(self) -> dict[str, object]:
        unknown = sum(reason is not None for reason in self.unknown)
        return {
            "classes": len(self.classes),
            "head": self.head or "",
            "space": self.space_id,
            "unknown": unknown or "",
        }
