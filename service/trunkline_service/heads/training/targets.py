"""What is to be learned, cleaned for each task: which rows stay, which classes there are. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument, NotEnoughData
from trunkline_service.heads.task import Task
from trunkline_service.heads.training.checks import check_text, checked_values
from trunkline_service.heads.training.notes import look_alike_notes, some, unlabelled_notes

_MIN_CLASS_ROWS = 2
# Two to learn from and two to judge by.
# Of the values of a target; what is less comes near the least float32.
_LEAST_RANGE = 1e-30
_MIN_ROWS = 4


@dataclass(frozen=True, eq=False)
class Cleaned:
    """The targets that are left.

    Attributes:
        kept: (N,) which of the rows that came in stay.
        labels: Of the rows kept: texts, sorted tuples of texts, or float64 (n, M).
        classes: Names of a head's outputs.
        notes: What was left out and what looks odd, in sentences.
    """

    kept: NDArray[np.bool_]
    labels: Any
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def clean(
    task: Task,
    labels: Any,
    targets: Sequence[str],
    collection: str,
    known: tuple[str, ...] | None,
) -> Cleaned:
    """The targets without the rows and classes that can't be learned or evaluated.

    Args:
        task: What they are.
        labels: As they came in, one a row.
        targets: Names of the columns of ``labels``, for ``regression``.
        collection: For messages.
        known: The classes that there are, for rows that are to be judged and not learned from: then no
            number of rows is too small. None for rows to learn from.

    Raises:
        InvalidArgument: Labels of a wrong type.
        NotEnoughData: Too few rows or classes are left.
    """
    match task:
        case "single-label":
            return _single_label(labels, collection, known)
        case "multi-label":
            return _multi_label(labels, collection, known)
        case "regression":
            return _regression(labels, targets, collection, known is not None)
        case "anomaly":
            return _anomaly(labels, collection, known is not None)


def _single_label(labels: Sequence[Any], collection: str, known: tuple[str, ...] | None) -> Cleaned:
    counts = _counted(labels)
    check_text(counts, list(labels).index)
    given = {label: count for label, count in counts.items() if _is_label(label)}
    if known is None:
        dropped = {label for label, count in given.items() if count < _MIN_CLASS_ROWS}
        if len(given) - len(dropped) < 2:
            raise NotEnoughData(_too_few(collection, len(labels), given, dropped))
    else:
        dropped = given.keys() - set(known)
    used = given.keys() - dropped
    kept = np.fromiter((label in used for label in labels), np.bool_, len(labels))
    notes = unlabelled_notes(len(labels) - sum(given.values()))
    if known is None:
        notes += _single_row_notes(dropped) + look_alike_notes(given)
    else:
        notes += _unknown_notes({label: given[label] for label in dropped})
    classes = tuple(sorted(map(str, used))) if known is None else known
    return Cleaned(kept, tuple(itertools.compress(labels, kept.tolist())), classes, tuple(notes))


def _multi_label(labels: Sequence[Any], collection: str, known: tuple[str, ...] | None) -> Cleaned:
    sets = [None if row is None else _label_set(i, row) for i, row in enumerate(labels)]
    distinct = Counter(sets)
    counts: Counter[str] = Counter()
    for labels_of_row, rows in distinct.items():
        counts.update(dict.fromkeys(labels_of_row or (), rows))
    check_text(counts, lambda label: next(i for i, row in enumerate(sets) if row and label in row))
    total = len(sets) - distinct[None]
    if known is None:
        rare = {label for label, rows in counts.items() if rows < _MIN_CLASS_ROWS}
        common = {label for label, rows in counts.items() if total - rows < _MIN_CLASS_ROWS} - rare
        classes = tuple(sorted(counts.keys() - rare - common))
        if not classes:
            raise NotEnoughData(_no_class(collection, len(sets), total, counts))
        notes = _single_row_notes(rare) + _common_notes(common) + look_alike_notes(counts)
    else:
        classes = known
        notes = _unknown_notes({label: rows for label, rows in counts.items() if label not in known})
    names = set(classes)
    # Each distinct set once: of a million rows, a few thousand.
    left = {row: tuple(sorted(row & names)) for row in distinct if row is not None}
    kept = np.fromiter((row is not None for row in sets), np.bool_, len(sets))
    return Cleaned(
        kept,
        tuple(left[row] for row in sets if row is not None),
        classes,
        (*unlabelled_notes(distinct[None]), *notes),
    )


def _regression(labels: Any, targets: Sequence[str], collection: str, lenient: bool) -> Cleaned:
    values = checked_values(labels)
    if values.shape[1] != len(targets):
        raise InvalidArgument(
            f"{values.shape[1]} values a row came with {len(targets)} names of targets; give one each"
        )
    kept = np.isnan(values).sum(axis=1) == 0
    left = np.ascontiguousarray(values[kept])
    if not lenient:
        if len(left) < _MIN_ROWS:
            raise NotEnoughData(
                f"a regression head needs at least {_MIN_ROWS} rows with a value of {', '.join(targets)}. "
                f"Collection {collection!r} gives {len(values)} rows, {len(left)} of them with one. "
                "Fill in more values"
            )
        for name, column in zip(targets, left.T, strict=True):
            if column.min() == column.max():
                raise NotEnoughData(
                    f"all {len(left)} rows of collection {collection!r} have {name} = {column[0]:g}: there "
                    "is nothing to learn; choose another target, or add rows with other values"
                )
            if column.max() - column.min() < _LEAST_RANGE:
                raise InvalidArgument(
                    f"values of {name} differ by {column.max() - column.min():g} at most, and heads answer in "
                    "float32: give them in another unit"
                )
    left.setflags(write=False)
    notes = unlabelled_notes(len(values) - len(left))
    return Cleaned(kept, left, tuple(targets), tuple(note.replace("label", "value") for note in notes))


def _anomaly(labels: Sequence[Any], collection: str, lenient: bool) -> Cleaned:
    plain = [
        None if row is None else row if isinstance(row, str) else _label_set(i, row)
        for i, row in enumerate(labels)
    ]
    check_text({row for row in plain if isinstance(row, str)}, plain.index)
    if not lenient and len(plain) < _MIN_ROWS:
        raise NotEnoughData(
            f"an anomaly head needs at least {_MIN_ROWS} rows, and collection {collection!r} gives "
            f"{len(plain)}; embed more images"
        )
    left = tuple(
        tuple(sorted(row)) if isinstance(row, frozenset) else row if _is_label(row) else None for row in plain
    )
    return Cleaned(np.ones(len(plain), np.bool_), left, (), ())


def _is_label(label: str | None) -> bool:
    return label is not None and label.strip() != ""


def _counted(labels: Sequence[Any]) -> Counter[Any]:
    try:
        return Counter(labels)
    except TypeError:
        # An unhashable one is no text either, which is what has to be said.
        bad = next(label for label in labels if label is not None and not isinstance(label, str))
        check_text([bad], list(labels).index)
        raise


def _label_set(row: int, labels: Any) -> frozenset[str]:
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise InvalidArgument(
            f"the labels of row {row} are {labels!r}, of type {type(labels).__name__}; give a tuple of texts"
        )
    found = frozenset(labels)
    wrong = [label for label in found if not isinstance(label, str)]
    if wrong:
        raise InvalidArgument(
            f"one label of row {row} is {wrong[0]!r}, of type {type(wrong[0]).__name__}; labels are text"
        )
    return frozenset(filter(_is_label, found))


def _too_few(collection: str, rows: int, given: dict[Any, int], dropped: set[Any]) -> str:
    usable = {label: count for label, count in given.items() if label not in dropped}
    found = some(f"{label!r} ({count} rows)" for label, count in usable.items()) if usable else "none"
    alone = f" {len(dropped)} more have a single row." if dropped else ""
    return (
        f"a head needs at least 2 classes of at least {_MIN_CLASS_ROWS} rows each. Collection {collection!r} "
        f"gives {rows} rows, {sum(given.values())} of them labelled; classes found: {found}.{alone} "
        "Label more rows"
    )


def _no_class(collection: str, rows: int, labelled: int, counts: Counter[str]) -> str:
    found = some(f"{label!r} ({count} rows)" for label, count in counts.items()) if counts else "none"
    return (
        f"a multi-label head needs at least 1 class that {_MIN_CLASS_ROWS} rows have and "
        f"{_MIN_CLASS_ROWS} rows do not. Collection {collection!r} gives {rows} rows, {labelled} of them "
        f"labelled; classes found: {found}. Label more rows"
    )


def _single_row_notes(dropped: Iterable[Any]) -> list[str]:
    names = sorted(map(str, dropped))
    if not names:
        return []
    return [
        f"{len(names)} classes of a single row were left out ({some(map(repr, names))}): "
        f"a class needs {_MIN_CLASS_ROWS} rows to be learned and evaluated"
    ]


def _common_notes(common: Iterable[str]) -> list[str]:
    names = sorted(common)
    if not names:
        return []
    return [
        f"{len(names)} classes that all rows have, or all but one, were left out "
        f"({some(map(repr, names))}): {_MIN_CLASS_ROWS} rows must lack a class for it to be learned"
    ]


def _unknown_notes(counts: dict[Any, int]) -> list[str]:
    if not counts:
        return []
    return [
        f"{sum(counts.values())} labels of {len(counts)} classes that were not learned were left out "
        f"({some(map(repr, sorted(map(str, counts))))})"
    ]
