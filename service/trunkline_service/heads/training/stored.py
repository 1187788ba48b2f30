"""The training set that a collection holds, and its rows that nobody has labelled."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.filters import bind
from trunkline_service.collections.store import CollectionStore
from trunkline_service.collections.tokens import Bound
from trunkline_service.errors import NotEnoughData
from trunkline_service.heads.task import Task
from trunkline_service.heads.training.arrow_texts import ArrowTexts
from trunkline_service.heads.training.columns import Columns, find_target, shared_values
from trunkline_service.heads.training.reading import Source
from trunkline_service.heads.training.targets import Cleaned, clean
from trunkline_service.heads.training.training_set import TrainingSet

TEST_SPLITS = frozenset({"test", "testing"})
VALIDATION_SPLITS = frozenset({"val", "valid", "validation", "dev"})
MEMORY_BYTES = 4 << 30
"""Embeddings that take more than that are not read into memory."""


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """The rows of a collection that lack a label.

    Attributes:
        ids: N ids.
        sources: N sources.
        embeddings: (N, dim) float32.
        space_id: Their space.
        collection: Name of the collection.
        collection_version: The version that was read.
    """

    ids: Sequence[str]
    sources: Sequence[str]
    embeddings: NDArray[np.float32]
    space_id: str
    collection: str
    collection_version: int


def training_set(
    store: CollectionStore,
    collection: str,
    *,
    task: Task | None = None,
    target: str = "label",
    group: str | None = None,
    test_split: str = "test",
    validation_split: str = "val",
    where: str | None = None,
    memory_bytes: int = MEMORY_BYTES,
    folder: Path | None = None,
) -> TrainingSet:
    """The rows of a collection that have a target, at one version of it.

    Rows of a test split come as ``.test`` and are not learned from; those of a validation split are
    marked in ``.validation``. Splits are compared without regard to case; ``testing`` is a test split
    too, and ``valid``, ``validation`` and ``dev`` are validation splits, unless others are named.

    Args:
        store: Where it is.
        collection: Its name, or a reference such as ``photos@7``.
        task: What to learn; None for what the target's type suggests: labels and text and booleans are
            classes, lists of labels ``multi-label``, numbers ``regression``.
        target: The column to learn, or several of numbers, parted by commas.
        group: A column whose equal values stay on one side of every split.
        test_split: Value of ``split`` of the rows to test on.
        validation_split: Value of ``split`` of the rows to validate on.
        where: An SQL condition on the rows.
        memory_bytes: Embeddings that take more than that are mapped from a file, see ``folder``.
        folder: Where this file is, which has no name and vanishes with the set; None for the system's
            folder for temporary files.

    Raises:
        CollectionNotFound: There is none.
        InvalidArgument: A column that is not there, or can't be learned for this task.
        NotEnoughData: Too few rows or classes.
        StorageError: The collection can't be read, or ``folder`` has no room.
    """
    resolved = store.resolve(collection)
    stored = resolved.collection
    version = stored.version if resolved.version is None else resolved.version
    columns = Columns(stored.name, stored.columns(version))
    wanted = find_target(columns, target, task)
    if group is not None:
        columns.check(group, "group by")
    source = Source(stored, version, _composed(wanted.condition(bind(where))))
    own = [*wanted.columns, *([group] if group else [])]
    read = source.columns(["id", "source", "split", *own])
    labels = wanted.labels([read[name] for name in wanted.columns])
    test = _of_split(read["split"], test_split, TEST_SPLITS)
    validation = _of_split(read["split"], validation_split, VALIDATION_SPLITS) & ~test
    if len(test) and test.all():
        raise NotEnoughData(
            f"all {len(test)} rows of collection {stored.name!r} that have a target are of the test split, from "
            "which nothing is learned; mark others for training, or name another test split"
        )
    targets = wanted.columns if wanted.task == "regression" else ()
    learned = _Part.of(~test, labels, wanted.task, targets, stored.name, None)
    tested = _Part.of(test, labels, wanted.task, targets, stored.name, learned.cleaned.classes)
    in_memory = source.size(learned.rows, tested.rows) <= memory_bytes
    ids, sources = learned.named(read, in_memory)
    test_ids, test_sources = tested.named(read, in_memory)
    groups, test_groups = (
        None if group is None else _groups(read[group], part.rows) for part in (learned, tested)
    )
    # Embeddings come through buffers as large as all that.
    del read, labels
    embeddings, of_test = source.embeddings(learned.rows, tested.rows, in_memory=in_memory, folder=folder)
    data = TrainingSet(
        embeddings=embeddings,
        labels=learned.cleaned.labels,
        space_id=stored.spec.space_id,
        collection=stored.name,
        collection_version=version,
        model=stored.spec.model,
        task=wanted.task,
        target=target,
        targets=targets,
        ids=ids,
        sources=sources,
        groups=groups,
        validation=validation[learned.rows] if validation.any() else None,
        decode=stored.spec.decode,
        cleaned=learned.cleaned,
    )
    if not test.any():
        return data
    return data.with_test(
        of_test,
        tested.cleaned.labels,
        ids=test_ids,
        sources=test_sources,
        groups=test_groups,
        cleaned=tested.cleaned,
    )


def unlabelled(
    store: CollectionStore,
    collection: str,
    target: str = "label",
    where: str | None = None,
    memory_bytes: int = MEMORY_BYTES,
    folder: Path | None = None,
) -> Unlabelled:
    """The rows whose target is null, which may be worth a label.

    Args:
        store: Where the collection is.
        collection: Its name, or a reference such as ``photos@7``.
        target: The column, or columns parted by commas, of which one at least is null.
        where: An SQL condition on the rows.
        memory_bytes: As for `training_set`.
        folder: As for `training_set`.

    Raises:
        CollectionNotFound: There is none.
        InvalidArgument: No such column.
        StorageError: The collection can't be read, or ``folder`` has no room.
    """
    resolved = store.resolve(collection)
    stored = resolved.collection
    version = stored.version if resolved.version is None else resolved.version
    wanted = find_target(Columns(stored.name, stored.columns(version)), target, None)
    source = Source(stored, version, _composed(wanted.absent(bind(where))))
    read = source.columns(["id", "source"])
    every = np.ones(len(read["id"]), np.bool_)
    in_memory = source.size(every) <= memory_bytes
    (embeddings,) = source.embeddings(every, in_memory=in_memory, folder=folder)
    return Unlabelled(
        ids=_texts(read["id"], every, in_memory),
        sources=_texts(read["source"], every, in_memory),
        embeddings=embeddings,
        space_id=stored.spec.space_id,
        collection=stored.name,
        collection_version=version,
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """Some of the rows, cleaned before their embeddings are read, so that only those are which are needed.

    Attributes:
        rows: (N,) which of the rows read these are.
        cleaned: What came of their labels.
    """

    rows: NDArray[np.bool_]
    cleaned: Cleaned

    @classmethod
    def of(
        cls,
        rows: NDArray[np.bool_],
        labels: Any,
        task: Task,
        targets: Sequence[str],
        collection: str,
        known: tuple[str, ...] | None,
    ) -> _Part:
        """Those of ``rows`` that are left; see `clean` for the rest."""
        chosen = labels
        if not rows.all():
            chosen = (
                labels[rows] if isinstance(labels, np.ndarray) else list(itertools.compress(labels, rows))
            )
        cleaned = clean(task, chosen, targets, collection, known)
        left = rows.copy()
        left[rows] = cleaned.kept
        return cls(left, cleaned)

    def named(self, read: Mapping[str, Any], in_memory: bool) -> tuple[Sequence[str], Sequence[str]]:
        """Their ids and their sources."""
        return _texts(read["id"], self.rows, in_memory), _texts(read["source"], self.rows, in_memory)


def _composed(condition: str | None) -> Bound | None:
    """A bound condition with what the target adds to it: bound as well."""
    return None if condition is None else Bound(condition)


def _of_split(splits: Any, name: str, usual: frozenset[str]) -> NDArray[np.bool_]:
    """Which rows are of a split; under its usual name it has others too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = name.strip().lower()
    names = usual if wanted in usual else {wanted}
    there = splits.unique().to_pylist()
    inside = pa.array(
        [text for text in there if text is not None and text.strip().lower() in names], splits.type
    )
    found: NDArray[np.bool_] = pc.is_in(splits, inside).to_numpy()
    return found


def _texts(column: Any, rows: NDArray[np.bool_], in_memory: bool) -> Sequence[str]:
    """The texts of an Arrow column in some rows; left in Arrow where the embeddings are not in memory."""
    import pyarrow as pa

    chosen = column.filter(pa.array(rows))
    return tuple(chosen.to_pylist()) if in_memory else ArrowTexts(chosen)


def _groups(column: Any, rows: NDArray[np.bool_]) -> tuple[str | None, ...]:
    import pyarrow as pa

    chosen = column.filter(pa.array(rows))
    if pa.types.is_nested(chosen.type):
        return tuple(None if value is None else str(value) for value in chosen.to_pylist())
    return tuple(shared_values(chosen))
