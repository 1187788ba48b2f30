"""The training set that a collection holds, and its rows that nobody has labelled."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.filters import bind
from trunkline_service.collections.matrix import EmbeddingMatrix
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import NotEnoughData
from trunkline_service.heads.task import Task
from trunkline_service.heads.training.columns import Columns, find_target
from trunkline_service.heads.training.training_set import TrainingSet

TEST_SPLITS = frozenset({"test", "testing"})
VALIDATION_SPLITS = frozenset({"val", "valid", "validation", "dev"})
_SCAN_ROWS = 65_536


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

    ids: tuple[str, ...]
    sources: tuple[str, ...]
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

    Raises:
        CollectionNotFound: There is none.
        InvalidArgument: A column that is not there, or can't be learned for this task.
        NotEnoughData: Too few rows or classes.
    """
    resolved = store.resolve(collection)
    source = resolved.collection
    columns = Columns(source.name, source.columns(resolved.version))
    spec = source.spec
    wanted = find_target(columns, target, task)
    if group is not None:
        columns.check(group, "group by")
    condition = wanted.condition(bind(where))
    matrix = source.matrix(condition, resolved.version)
    read = _read_columns(source, matrix, condition, [*wanted.columns, *([group] if group else [])])
    labels = wanted.labels([read[name] for name in wanted.columns])
    ids, sources = matrix.ids.to_pylist(), matrix.sources.to_pylist()
    splits = matrix.splits.to_pylist()
    test = _of_split(splits, test_split, TEST_SPLITS)
    validation = _of_split(splits, validation_split, VALIDATION_SPLITS) & ~test
    learned = ~test
    if len(test) and test.all():
        raise NotEnoughData(
            f"all {len(test)} rows of collection {source.name!r} that have a target are of the test split, from "
            "which nothing is learned; mark others for training, or name another test split"
        )
    groups = None if group is None else [_group(value) for value in read[group].to_pylist()]
    data = TrainingSet(
        embeddings=_frozen(matrix.embeddings, learned),
        labels=_chosen(labels, learned),
        space_id=spec.space_id,
        collection=source.name,
        collection_version=matrix.version,
        model=spec.model,
        task=wanted.task,
        target=target,
        targets=wanted.columns if wanted.task == "regression" else (),
        ids=_chosen(ids, learned),
        sources=_chosen(sources, learned),
        groups=None if groups is None else _chosen(groups, learned),
        validation=validation[learned] if validation.any() else None,
        decode=spec.decode,
    )
    if not test.any():
        return data
    return data.with_test(
        _frozen(matrix.embeddings, test),
        _chosen(labels, test),
        ids=_chosen(ids, test),
        sources=_chosen(sources, test),
    )


def unlabelled(
    store: CollectionStore, collection: str, target: str = "label", where: str | None = None
) -> Unlabelled:
    """The rows whose target is null, which may be worth a label.

    Args:
        store: Where the collection is.
        collection: Its name, or a reference such as ``photos@7``.
        target: The column, or columns parted by commas, of which one at least is null.
        where: An SQL condition on the rows.

    Raises:
        CollectionNotFound: There is none.
        InvalidArgument: No such column.
    """
    resolved = store.resolve(collection)
    source = resolved.collection
    wanted = find_target(Columns(source.name, source.columns(resolved.version)), target, None)
    matrix = source.matrix(wanted.absent(bind(where)), resolved.version)
    return Unlabelled(
        ids=tuple(matrix.ids.to_pylist()),
        sources=tuple(matrix.sources.to_pylist()),
        embeddings=matrix.embeddings,
        space_id=matrix.spec.space_id,
        collection=source.name,
        collection_version=matrix.version,
    )


def _read_columns(
    source: Collection, matrix: EmbeddingMatrix, condition: str | None, names: Sequence[str]
) -> dict[str, Any]:
    """Arrow arrays of the matrix's rows, by the names of their columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = {"label": matrix.labels, "id": matrix.ids, "split": matrix.splits, "source": matrix.sources}
    others = [name for name in dict.fromkeys(names) if name not in found]
    if not others:
        return found
    batches = [
        batch.filter(pc.equal(batch.column("status"), "ok"))
        for batch in source.scan(
            [*others, *({"status"} - set(others))], condition, _SCAN_ROWS, version=matrix.version
        )
    ]
    for name in others:
        found[name] = pa.chunked_array([batch.column(name) for batch in batches] or [pa.array([])])
    return found


def _of_split(splits: Sequence[str | None], name: str, usual: frozenset[str]) -> NDArray[np.bool_]:
    """Which rows are of a split; under its usual name it has others too."""
    wanted = name.strip().lower()
    names = usual if wanted in usual else {wanted}
    # Of a million rows a handful of distinct values.
    inside = {split: split is not None and split.strip().lower() in names for split in set(splits)}
    return np.fromiter((inside[split] for split in splits), np.bool_, len(splits))


def _group(value: Any) -> str | None:
    return None if value is None else str(value)


def _chosen(values: Any, rows: NDArray[np.bool_]) -> Any:
    if isinstance(values, np.ndarray):
        return values[rows]
    return values if rows.all() else list(itertools.compress(values, rows.tolist()))


def _frozen(embeddings: NDArray[np.float32], rows: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The embeddings of some rows, read-only, so that nobody copies them once more."""
    chosen = embeddings if rows.all() else embeddings[rows]
    chosen.setflags(write=False)
    return chosen
