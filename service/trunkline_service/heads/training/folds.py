"""Stratified folds: which rows are held out together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trunkline_service.errors import InvalidArgument, NotEnoughData
from trunkline_service.heads.training.dealing import deal_groups
from trunkline_service.heads.training.notes import some
from trunkline_service.heads.training.training_set import TrainingSet

# Rows are dealt by how large their value is, in so many steps.
_VALUE_BINS = 10
_CHUNK_ROWS = 8192


@dataclass(frozen=True, eq=False)
class Folds:
    """Which rows are held out together.

    Attributes:
        assigned: (N,) int64, the fold in which a row is held out; -1 for never.
        count: How many folds there are.
        notes: Where they are not what was asked for, or hold something back, in sentences.
    """

    assigned: npt.NDArray[np.int64]
    count: int
    notes: tuple[str, ...]


def make_folds(data: TrainingSet, wanted: int, seed: int) -> Folds:
    """The folds of a training set: its validation rows, or folds by class and group.

    Rows of one group (see ``TrainingSet.group_codes``) share a fold; classes, or for ``regression``
    values, are spread evenly over the folds. Where no row has a group, single-label rows are dealt by
    `stratified_folds`. The same data and seed give the same folds.

    Args:
        data: What is to be learned.
        wanted: Folds asked for, at least 2; fewer are used, with a note, where the data allow no more.
        seed: Of the dealing.

    Raises:
        InvalidArgument: ``wanted`` is no integer from 2 on.
        NotEnoughData: All rows are of one group, or all of the validation split.
    """
    _check_wanted(wanted)
    if data.validation is not None:
        return _predefined(data, data.validation)
    grouping = data.grouping
    if grouping.count < 2:
        raise NotEnoughData(
            f"all {len(data)} rows of collection {data.collection!r} are of one group or duplicates of one "
            "another, so none can be held out; fit on rows of at least 2 groups"
        )
    strata = _strata(data)
    count, note = _count(data, grouping.codes, grouping.count, strata, wanted)
    if grouping.count == len(data):
        assigned = stratified_folds(strata, count, seed)
    else:
        assigned = deal_groups(strata, grouping.codes, count, seed)
    return Folds(
        assigned, count, (*([note] if note else []), *grouping.notes, *_missing_notes(data, assigned, count))
    )


def for_large(data: TrainingSet, folds: Folds, most: int, seed: int) -> Folds:
    """One held-out part instead of folds, for data so large that a part of it tells enough.

    It holds whole groups of fold 0, drawn at random: as many as stay within ``most`` rows, and one at
    least. All other rows are never held out. A validation split stays as it is.

    Args:
        data: What the folds are of.
        folds: From `make_folds`.
        most: Rows to hold out; a group that is larger is held out whole where fold 0 has no other.
        seed: Of the drawing.
    """
    if data.validation is not None:
        return folds
    chosen = _drawn(data.grouping.codes, np.flatnonzero(folds.assigned == 0), most, seed)
    assigned = np.full(len(folds.assigned), -1, np.int64)
    assigned[chosen] = 0
    former = _missing_notes(data, folds.assigned, folds.count)
    return Folds(
        assigned,
        1,
        (
            f"evaluated on {len(chosen)} of {len(data)} rows that were held out once, instead of {folds.count} folds",
            *(note for note in folds.notes if note not in former),
            *_missing_notes(data, assigned, 1),
        ),
    )


def usable_folds(codes: npt.NDArray[np.int64], wanted: int) -> tuple[int, str | None]:
    """How many folds these classes allow, and a note if fewer than ``wanted``.

    Args:
        codes: (N,) class of each row; every class has at least two rows.
        wanted: Folds asked for, at least 2.

    Raises:
        InvalidArgument: ``wanted`` is no integer from 2 on.
    """
    _check_wanted(wanted)
    smallest = int(np.unique(codes, return_counts=True)[1].min())
    if smallest >= wanted:
        return wanted, None
    folds = max(2, smallest)
    note = f"evaluated with {folds} folds instead of {wanted}: the smallest class has {smallest} rows"
    return folds, note


def stratified_folds(codes: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(N,) the fold of each row, 0 to ``folds`` - 1.

    Each class is shuffled and dealt out in turn, and the next class goes on where the last one
    stopped: within a class, and over all rows, the folds' sizes differ by at most one.
    """
    generator = np.random.default_rng(seed)
    by_class = np.argsort(codes, kind="stable")
    ends = np.flatnonzero(np.diff(codes[by_class])) + 1
    order = np.concatenate([generator.permutation(rows) for rows in np.split(by_class, ends)])
    assigned = np.empty(len(codes), dtype=np.int64)
    assigned[order] = np.arange(len(codes)) % folds
    return assigned


def _check_wanted(wanted: int) -> None:
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 2:
        raise InvalidArgument(f"folds is {wanted!r}; it must be an integer from 2 on")


def _predefined(data: TrainingSet, validation: npt.NDArray[np.bool_]) -> Folds:
    if validation.all():
        raise NotEnoughData(
            f"all {len(data)} rows of collection {data.collection!r} are of the validation split; "
            "rows of another split are needed to learn from"
        )
    notes = [f"evaluated on the {int(validation.sum())} rows of the validation split instead of folds"]
    codes = data.group_codes()
    shared = int(np.isin(codes[validation], codes[~validation]).sum())
    if shared:
        notes.append(
            f"{shared} rows of the validation split have a duplicate, a near duplicate or a row of their group "
            "among the rows learned from: the figures may be flattering"
        )
    assigned = np.where(validation, 0, -1)
    return Folds(assigned, 1, (*notes, *_missing_notes(data, assigned, 1)))


def _drawn(
    groups: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], most: int, seed: int
) -> npt.NDArray[np.int64]:
    """Those of the rows, rising, whose groups are drawn: whole groups of at most ``most`` rows in all."""
    if len(rows) <= most:
        return rows
    _, own, sizes = np.unique(groups[rows], return_inverse=True, return_counts=True)
    kept, left = np.zeros(len(sizes), np.bool_), most
    order = np.random.default_rng(seed).permutation(len(sizes))
    for group, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        if size <= left:
            kept[group] = True
            left -= size
    if left == most:
        kept[sizes.argmin()] = True
    return rows[kept[own]]


def _strata(data: TrainingSet) -> npt.NDArray[np.int64]:
    """(N,) what is to be spread evenly: classes, the rarest of several, or steps of the values."""
    match data.task:
        case "single-label":
            return data.codes()
        case "multi-label":
            return _rarest(data.indicator())
        case "regression":
            values = data.values()
            spread = values.std(axis=0)
            standard = ((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).mean(axis=1)
            position = np.empty(len(data), np.int64)
            position[np.argsort(standard, kind="stable")] = np.arange(len(data))
            return position * _VALUE_BINS // len(data)
        case "anomaly":
            known: dict[object, int] = {}
            return np.fromiter(
                (known.setdefault(row, len(known)) for row in data.labels), np.int64, len(data)
            )


def _rarest(indicator: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(N,) how rare the rarest class of each row is: 0 for the rarest of all, K for a row without classes."""
    rarity = np.argsort(np.argsort(indicator.sum(axis=0), kind="stable"))
    ranks = np.empty(len(indicator), np.int64)
    for start in range(0, len(indicator), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        ranks[part] = np.where(indicator[part], rarity, len(rarity)).min(axis=1)
    return ranks


def _count(
    data: TrainingSet,
    groups: npt.NDArray[np.int64],
    group_count: int,
    strata: npt.NDArray[np.int64],
    wanted: int,
) -> tuple[int, str | None]:
    """How many folds, and a note if fewer than wanted."""
    if data.task == "single-label":
        if group_count == len(data):
            return usable_folds(strata, wanted)
        apart = np.unique(np.stack([strata, groups], axis=1), axis=0)[:, 0]
        per_class = np.bincount(apart)
        several = per_class[per_class > 1]
        smallest = int(several.min()) if len(several) else group_count
        what = f"the smallest class has {smallest} groups of rows that stay together"
    else:
        smallest, what = group_count, f"there are {group_count} groups of rows that stay together"
    if smallest >= wanted:
        return wanted, None
    count = max(2, smallest)
    return count, f"evaluated with {count} folds instead of {wanted}: {what}"


def _missing_notes(data: TrainingSet, assigned: npt.NDArray[np.int64], count: int) -> list[str]:
    """On classes of which nothing is left to learn from while their rows are held out."""
    if data.task not in ("single-label", "multi-label"):
        return []
    missing: set[str] = set()
    if data.task == "single-label":
        codes, classes = data.codes(), np.arange(len(data.classes))
        table = np.zeros((len(classes), count + 1), np.int64)
        np.add.at(table, (codes, assigned), 1)
    else:
        indicator = data.indicator()
        table = np.stack([indicator[assigned == fold].sum(axis=0) for fold in (*range(count), -1)], axis=1)
    # The last column is of the rows that are never held out.
    only = (table[:, :count] == table.sum(axis=1, keepdims=True)).any(axis=1)
    missing = {data.classes[k] for k in np.flatnonzero(only)}
    if not missing:
        return []
    return [
        f"{len(missing)} classes have all their rows on one side of a split, and are judged by what never saw "
        f"them: {some(map(repr, sorted(missing)))}"
    ]
