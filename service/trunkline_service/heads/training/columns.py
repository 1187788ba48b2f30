"""Which column of a collection is learned, and what task its type makes of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trunkline_service.collections.schema import COLUMNS
from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.task import Task
from trunkline_service.heads.training.checks import check_task
from trunkline_service.names import near

LABEL = "label"
_NUMBER = re.compile(r"u?int\d+|halffloat|float|double")
_WHOLE = re.compile(r"u?int\d+")
_TEXT = ("string", "large_string")
_OWN = frozenset(COLUMNS) - {LABEL}


@dataclass(frozen=True)
class Columns:
    """The columns of a collection.

    Attributes:
        collection: Its name.
        types: Arrow's words for each column's type, by name.
    """

    collection: str
    types: Mapping[str, str]

    def check(self, name: str, purpose: str) -> str:
        """The type of a column.

        Raises:
            InvalidArgument: There is none of this name, with names that come near; or it holds vectors.
        """
        if name == "embedding":
            raise InvalidArgument(f"'embedding' is no column to {purpose}; choose another one")
        if name not in self.types:
            others = [column for column in self.types if column != "embedding"]
            raise InvalidArgument(
                f"collection {self.collection!r} has no column {name!r} to {purpose}{near(name, others)}"
            )
        return self.types[name]


@dataclass(frozen=True)
class Target:
    """What is to be learned.

    Attributes:
        task: Of the head.
        columns: One, or several of numbers.
        types: Arrow's words for their types.
    """

    task: Task
    columns: tuple[str, ...]
    types: tuple[str, ...]

    def condition(self, where: str | None) -> str | None:
        """A condition for the rows to learn from; for ``anomaly`` they need no label.

        Args:
            where: Another one, in parentheses.
        """
        parts = [where] if where else []
        if self.task != "anomaly":
            parts += [f"`{name}` IS NOT NULL" for name in self.columns]
        return " AND ".join(parts) or None

    def absent(self, where: str | None) -> str:
        """A condition for the rows that have no target.

        Args:
            where: Another one, in parentheses.
        """
        missing = " OR ".join(f"`{name}` IS NULL" for name in self.columns)
        return f"{where} AND ({missing})" if where else missing

    def labels(self, columns: Sequence[Any]) -> Any:
        """What a training set takes as labels, from Arrow arrays of the columns."""
        import pyarrow as pa

        if self.task == "regression":
            # Nulls become NaN.
            return np.stack(
                [column.cast(pa.float64()).to_numpy(zero_copy_only=False) for column in columns], axis=1
            )
        match self.types[0]:
            case "bool":
                return shared_values(columns[0], lambda value: str(value).lower())
            case kind if kind in _TEXT or _WHOLE.fullmatch(kind):
                return shared_values(columns[0])
            case _:
                return _shared_tuples(columns[0])


def shared_values(column: Any, convert: Callable[[Any], str] = str) -> list[str | None]:
    """The values of an Arrow chunked array as texts, of which equal ones are one object.

    Of a million labels a handful differ, and a million texts take more memory than most embeddings.
    """
    encoded = column.dictionary_encode().combine_chunks()
    texts = np.array([*map(convert, encoded.dictionary.to_pylist()), None], object)
    values: list[str | None] = texts[encoded.indices.fill_null(len(texts) - 1).to_numpy()].tolist()
    return values


def _shared_tuples(column: Any) -> list[tuple[str, ...] | None]:
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    found: list[tuple[str, ...] | None] = []
    for chunk in column.chunks:
        rows = (None if row is None else tuple(row) for row in chunk.to_pylist())
        found += [None if row is None else known.setdefault(row, row) for row in rows]
    return found


def find_target(columns: Columns, target: str, task: Task | None) -> Target:
    """What a target means in a collection.

    Args:
        columns: Of the collection.
        target: A name, or several parted by commas.
        task: What to learn; None for what the type suggests.

    Raises:
        InvalidArgument: A column that is not there, or can't be learned for this task.
    """
    names = tuple(name.strip() for name in target.split(","))
    if len(set(names)) < len(names):
        raise InvalidArgument(f"target {target!r} names a column twice; name each once")
    types = tuple(columns.check(name, "learn") for name in names)
    for name in names:
        if name in _OWN:
            raise InvalidArgument(
                f"column {name!r} says where a row comes from, which is nothing to learn; give 'label' or a "
                "column of your own"
            )
    natural = _natural(names, types)
    if task is None:
        task = natural
    check_task(task)
    if task not in _possible(types):
        listed = ", ".join(f"{name} ({kind})" for name, kind in zip(names, types, strict=True))
        raise InvalidArgument(
            f"target {listed} of collection {columns.collection!r} can't be learned as {task}; "
            f"it can be {' or '.join(_possible(types)) or 'nothing'}"
        )
    return Target(task, names, types)


def _natural(names: Sequence[str], types: Sequence[str]) -> Task:
    possible = _possible(types)
    if not possible:
        raise InvalidArgument(
            f"target {', '.join(names)} is of type {', '.join(types)}, which can't be learned; give columns of "
            "numbers, or one of text, true and false, or labels"
        )
    return possible[0]


def _possible(types: Sequence[str]) -> tuple[Task, ...]:
    """The tasks that these types allow, the natural one first."""
    if all(_NUMBER.fullmatch(kind) for kind in types):
        whole = len(types) == 1 and _WHOLE.fullmatch(types[0])
        return ("regression", "single-label", "anomaly") if whole else ("regression",)
    if len(types) > 1:
        return ()
    if types[0] in (*_TEXT, "bool"):
        return ("single-label", "anomaly")
    return ("multi-label", "anomaly") if types[0].startswith(("list<", "large_list<")) else ()
