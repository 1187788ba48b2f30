"""What the calls return: arrays and lists in the order of the caller's input.

Row ``i`` of a result belongs to item ``result.start + i`` of the input; ``start`` is 0 except in the
results that ``embed_iter`` yields. Failures carry the input's own numbering.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from trunkline import _display
from trunkline.exceptions import ItemErrors
from trunkline.index import Recall
from trunkline.rows import Label, Scalar
from trunkline.values import ItemFailure, ModelRef, Timings

if TYPE_CHECKING:
    import pandas as pd


_OF_HITS = ("id", "label", "source")
"""Columns of a collection that every hit has anyway."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ItemResults:
    """What all results share: one row an item, and the items that failed.

    Attributes:
        inputs: The path or name that each item came with; empty for bytes and arrays.
        errors: The items that failed, by rising index in the input.
        start: The index in the input of the first row.
        timings: Where the server's time went.
    """

    inputs: list[str] = field(default_factory=list)
    errors: list[ItemFailure] = field(default_factory=list)
    start: int = 0
    timings: Timings = field(default_factory=Timings)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """(N,) bool: True for the rows that were served."""
        mask = np.ones(len(self), dtype=np.bool_)
        mask[[failure.index - self.start for failure in self.errors]] = False
        return mask

    def raise_for_errors(self) -> Self:
        """This result, if every item was served.

        Raises:
            ItemErrors: Some items failed; the first few are in its message, all in ``failures``.
        """
        if self.errors:
            raise ItemErrors(self.errors, len(self))
        return self

    def _facts(self) -> dict[str, object]:
        return {}

    def _words(self) -> list[str]:
        return [_display.count(len(self), "item"), *(f"{k} {v}" for k, v in self._facts().items() if v != "")]

    def __repr__(self) -> str:
        return _display.line(type(self).__name__, self._words(), self.errors)

    def _repr_html_(self) -> str:
        return _display.table(
            type(self).__name__,
            {"items": len(self), "failed": len(self.errors)} | self._facts(),
            self.errors,
        )

    def _reasons(self) -> list[str | None]:
        reasons: list[str | None] = [None] * len(self)
        for failure in self.errors:
            reasons[failure.index - self.start] = failure.reason
        return reasons

    def _frame(self, columns: dict[str, object]) -> pd.DataFrame:
        pandas = _display.pandas()
        index = pandas.RangeIndex(self.start, self.start + len(self), name="item")
        frame: pd.DataFrame = pandas.DataFrame(
            {"source": self.inputs, **columns, "error": self._reasons()}, index=index
        )
        return frame


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class EmbedResult(ItemResults):
    """Vectors of images.

    Attributes:
        vectors: (N, dim) float32, or float16 where it was asked for; the row of an item that failed is NaN.
        model: What made them; None if nothing was embedded and the model could not be asked for.
    """

    vectors: NDArray[np.floating]
    model: ModelRef | None = None

    @property
    def space_id(self) -> str:
        """The space of the vectors; empty where ``model`` is None."""
        return self.model.space_id if self.model else ""

    def to_pandas(self) -> pd.DataFrame:
        """One row an item: ``source``, ``embedding`` (an array; None for a failure), ``error`` (its reason).

        Raises:
            MissingExtra: pandas is not installed.
        """
        good = self.ok
        return self._frame({"embedding": [row if good[i] else None for i, row in enumerate(self.vectors)]})

    def _facts(self) -> dict[str, object]:
        return {
            "dim": self.vectors.shape[1],
            "dtype": self.vectors.dtype,
            "model": self.model or "",
            "space": self.space_id,
        }


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AddResult(ItemResults):
    """What was stored.

    Attributes:
        ids: The row's id of each item; None for one that was never sent, because it could not be read here.
        version: The collection's version after the last write; 0 if nothing was written.
        model: What embedded the images; None if nothing was sent.
    """

    ids: list[str | None]
    version: int = 0
    model: ModelRef | None = None

    @property
    def space_id(self) -> str:
        """The space of the collection; empty where ``model`` is None."""
        return self.model.space_id if self.model else ""

    def to_pandas(self) -> pd.DataFrame:
        """One row an item: ``source``, ``id``, ``error`` (its reason, or None).

        Raises:
            MissingExtra: pandas is not installed.
        """
        return self._frame({"id": self.ids})

    def _facts(self) -> dict[str, object]:
        return {"version": self.version, "model": self.model or "", "space": self.space_id}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SearchResult(ItemResults):
    """Neighbours, nearest first: a list for each query, empty for one that failed.

    Attributes:
        ids: The rows found.
        scores: By ``metric``; higher is nearer.
        labels: Of the rows found: text; a tuple of texts where the collection is multi-label; None for
            a row without one.
        sources: Where the images of the rows found came from; empty where that is not known.
        version: The collection's version that was searched; 0 if nothing was sent, as of no images or ids.
        space_id: The space that was searched.
        metric: ``"cosine"``, ``"dot"`` or ``"euclidean"``.
        groups: With ``group_by``, the value of that column as text; None for a row without one, which is a
            group of its own. Named in ``columns`` too, it is in ``metadata`` with its type.
        duplicates: With ``collapse``, the ids of the rows that were folded into each; empty without.
        index_kind: ``"flat"``, ``"hnsw"``, ``"ivf_flat"``, ``"ivf_sq8"``, ``"ivf_pq"`` or ``"lance"``; empty if
            nothing was sent. Where a call took several requests, this and what follows are of the one that
            promises least.
        exact: Every row that could be a hit was compared.
        index_version: The collection's version that the index was built from; rows that changed since were
            compared exactly.
        recall: What was measured of the index, without a condition; None where the answer is exact.
        metadata: With ``columns``, the values of the rows found, of the version that was searched: a dict by
            column, None for null; empty without. Rows that were folded into a hit have none.
        columns: The columns that were asked for.
    """

    ids: list[list[str]]
    scores: list[list[float]]
    labels: list[list[Label]]
    sources: list[list[str]]
    version: int = 0
    space_id: str = ""
    metric: str = ""
    groups: list[list[str | None]] = field(default_factory=list)
    duplicates: list[list[tuple[str, ...]]] = field(default_factory=list)
    index_kind: str = ""
    exact: bool = False
    index_version: int = 0
    recall: Recall | None = None
    metadata: list[list[dict[str, Scalar]]] = field(default_factory=list)
    columns: tuple[str, ...] = ()

    def to_pandas(self) -> pd.DataFrame:
        """One row a hit: ``query`` (its index), ``rank`` from 1, ``id``, ``score``, ``label``, ``source``.

        Then ``group`` and ``duplicates``, where the result has them, and the columns that were asked for; one
        that has the name of another here is ``metadata.NAME``.

        Raises:
            MissingExtra: pandas is not installed.
        """
        columns: dict[str, list[Any]] = {
            "id": self.ids,
            "score": self.scores,
            "label": self.labels,
            "source": self.sources,
        }
        beside: dict[str, list[Any]] = {"group": self.groups, "duplicates": self.duplicates}
        columns |= {name: lists for name, lists in beside.items() if lists}
        for name in self.columns:
            if name not in _OF_HITS:
                shown = f"metadata.{name}" if name in ("query", "rank", *columns, *beside) else name
                columns[shown] = [[held[name] for held in hits] for hits in self.metadata]
        rows = [
            (self.start + query, rank, *hit)
            for query, hits in enumerate(zip(*columns.values(), strict=True))
            for rank, hit in enumerate(zip(*hits, strict=True), start=1)
        ]
        names = ["query", "rank", *columns]
        frame: pd.DataFrame = _display.pandas().DataFrame(rows, columns=names)
        return frame

    def _facts(self) -> dict[str, object]:
        return {
            "hits": sum(len(hits) for hits in self.ids),
            "version": self.version,
            "metric": self.metric,
            "index": self._index(),
            "space": self.space_id,
        }

    def _index(self) -> str:
        if self.recall is None or self.exact:
            return self.index_kind
        return f"{self.index_kind} ({self.recall})"
