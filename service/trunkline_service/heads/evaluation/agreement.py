"""A head beside its previous version, on the same rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.evaluation.paired import mcnemar
from trunkline_service.heads.strict_json import Kind, check_fields, check_list

_SHOWN = 20


@dataclass(frozen=True)
class Agreement:
    """How the answers of two versions of a head compare.

    Attributes:
        previous: ``name@version`` of the other one.
        rows: Rows that both answered.
        held_out: Whether the previous version had not seen these rows either (a test split). Where it may
            have learned from them its figure flatters it.
        figure: What the two values are: ``accuracy``, ``macro-F1``, ``R2`` or ``AUROC``.
        previous_value: Of the previous version on these rows; None where it can't be computed on them.
        value: Of this one on the same rows.
        agreement: ``single-label`` and ``multi-label``: the share of rows with the same answer; otherwise
            the correlation of the answers, a mean over targets.
        only_previous: Rows that the previous version alone got right; None for tasks without right and wrong.
        only_this: Rows that this one alone got right.
        p_value: Of McNemar's exact test on the two counts.
        changed: (previous answer, this one's answer, rows), the commonest changes first; at most 20.
    """

    previous: str
    rows: int
    held_out: bool
    figure: str
    previous_value: float | None
    value: float | None
    agreement: float
    only_previous: int | None = None
    only_this: int | None = None
    p_value: float | None = None
    changed: tuple[tuple[str, str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return document | {"changed": [list(change) for change in self.changed]}

    @classmethod
    def from_json(cls, document: Any, where: str = "agreement") -> Agreement:
        """The comparison in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        check_fields(document, _KINDS, where)
        for i, change in enumerate(document["changed"]):
            check_list(change, (str, int), f"{where}: changed[{i}]")
            if [type(part) for part in change] != [str, str, int]:
                raise ModelFileError(f"{where}: changed[{i}] must be two labels and a count")
        return cls(**(document | {"changed": tuple(tuple(change) for change in document["changed"])}))


_KINDS: dict[str, Kind] = {
    "previous": str,
    "rows": int,
    "held_out": bool,
    "figure": str,
    "previous_value": (float, type(None)),
    "value": (float, type(None)),
    "agreement": float,
    "only_previous": (int, type(None)),
    "only_this": (int, type(None)),
    "p_value": (float, type(None)),
    "changed": list,
}


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same rows.

    Attributes:
        only_first: Rows that the first alone got right.
        only_second: Rows that the second alone got right.
        p_value: Of McNemar's exact test.
    """

    only_first: int
    only_second: int
    p_value: float


def paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
    """McNemar's test of two (N,) arrays of which rows were got right."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return Paired(only_first, only_second, mcnemar(only_first, only_second))


def changes(previous: Sequence[str], current: Sequence[str]) -> tuple[tuple[str, str, int], ...]:
    """(previous answer, current answer, rows) of rows whose answer changed, the commonest first; 20 at most."""
    counts = Counter((old, new) for old, new in zip(previous, current, strict=True) if old != new)
    return tuple((old, new, rows) for (old, new), rows in counts.most_common(_SHOWN))


def correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Mean over the columns of two (N, M) arrays of Pearson's correlation; 0 for a column that never varies."""
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    lengths = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    products = (a * b).sum(axis=0)
    return float(np.divide(products, lengths, out=np.zeros(len(lengths)), where=lengths > 0).mean())
