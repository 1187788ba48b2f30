"""A head on the vectors that another collection holds of the same rows: refitted, and compared."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import FailedPrecondition, InvalidArgument
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fit import KINDS, fit
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.heads.training.stored import training_set
from trunkline_service.heads.training.training_set import TrainingSet
from trunkline_service.workspace.agreement import agree
from trunkline_service.workspace.fitting import StageProgress

# The grid is not among them: another space wants a search of its own.
_CARRIED = ("folds", "seed", "transform", "class_weight", "precision", "max_iterations", "normal")


@dataclass(frozen=True)
class Migrated:
    """A head before and after it was fitted anew on another collection.

    Attributes:
        before: The card of the version that was there.
        after: The card of the new version.
        shared_rows: Rows with embeddings whose ids both collections hold.
        agreement: The share of these on which both versions say the same; None where there are none.
        missing_rows: Rows that the old version could learn from, and that the new collection lacks.
    """

    before: HeadCard
    after: HeadCard
    shared_rows: int
    agreement: float | None
    missing_rows: int


def migrate(
    store: CollectionStore,
    heads: HeadRegistry,
    head: str,
    collection: str,
    *,
    promote: bool,
    progress: StageProgress | None,
) -> Migrated:
    """See `Workspace.migrate_head`."""
    report: StageProgress = progress or (lambda _stage, _share: None)
    before = heads.load(head)
    card = before.card
    if card.kind not in KINDS or not card.collection:
        raise InvalidArgument(
            f"head {card.ref} is of kind {card.kind!r} and was not fitted on a collection; there is nothing to fit anew"
        )
    heads.check_pointer(card.name)
    report("reading", 0.0)
    old = store.open(card.collection)
    old.check_space(card.space_id)
    there = _Vectors.of(store, collection)
    learned = training_set(
        store,
        card.collection,
        task=card.task,
        target=card.target,
        group=card.group or None,
        test_split=card.test_split,
    )
    data = _moved(learned, there)
    report("fitting", 0.0)
    fitted = fit(card.kind, data, options_of(card), lambda share: report("fitting", share))
    fitted = dataclasses.replace(fitted, group=card.group, test_split=card.test_split)
    report("saving", 0.0)
    after = heads.save(fitted, card.name, promote=promote)
    report("comparing", 0.0)
    loaded = heads.load(after.ref)
    ours, theirs = _shared(old, there)
    same = agree(card, before.outputs(ours, card.space_id), after, loaded.outputs(theirs, after.space_id))
    agreement = float(same.mean()) if len(same) else None
    return Migrated(card, after, len(same), agreement, len(learned) - len(data))


def options_of(card: HeadCard) -> FitOptions:
    """The options that a head was fitted with, as far as its card tells; all others as the kind chooses."""
    known: Mapping[str, Any] = card.hyper_parameters
    found = {name: known[name] for name in _CARRIED if known.get(name) is not None}
    if found.get("folds", 2) < 2:
        # A validation split stood in for folds.
        del found["folds"]
    return dataclasses.replace(FitOptions(), **found)


@dataclass(frozen=True, eq=False)
class _Vectors:
    """The vectors of a collection, by id."""

    collection: Collection
    version: int
    embeddings: NDArray[np.float32]
    position: Mapping[str, int]

    @classmethod
    def of(cls, store: CollectionStore, reference: str) -> _Vectors:
        resolved = store.resolve(reference)
        matrix = resolved.collection.matrix(None, resolved.version)
        position = {row_id: row for row, row_id in enumerate(matrix.ids.to_pylist())}
        return cls(resolved.collection, matrix.version, matrix.embeddings, position)

    def has(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Which of the ids are here."""
        return np.fromiter((row_id in self.position for row_id in ids), np.bool_, len(ids))

    def take(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """(N, dim) of ids that are here; nobody can change it."""
        found = self.embeddings[[self.position[row_id] for row_id in ids]]
        found.setflags(write=False)
        return found


def _moved(data: TrainingSet, there: _Vectors) -> TrainingSet:
    """The same rows and labels with the vectors of another collection; without those that it lacks."""
    kept = there.has(data.ids)
    if not kept.any():
        raise FailedPrecondition(
            f"collection {there.collection.name!r} holds none of the {len(data):,} rows that a head learned from in "
            f"{data.collection!r}; embed them first: trunkline embed --from-collection {data.collection} "
            f"--into {there.collection.name}"
        )
    spec = there.collection.spec
    ids = _chosen(data.ids, kept)
    moved = TrainingSet(
        embeddings=there.take(ids),
        labels=_chosen(data.labels, kept),
        space_id=spec.space_id,
        collection=there.collection.name,
        collection_version=there.version,
        model=spec.model,
        task=data.task,
        target=data.target,
        targets=data.targets,
        ids=ids,
        sources=_chosen(data.sources, kept),
        groups=None if data.groups is None else _chosen(data.groups, kept),
        validation=None if data.validation is None else data.validation[kept],
        decode=spec.decode,
    )
    if data.test is None:
        return moved
    kept = there.has(data.test.ids)
    ids = _chosen(data.test.ids, kept)
    return moved.with_test(
        there.take(ids),
        _chosen(data.test.labels, kept),
        ids=ids,
        sources=_chosen(data.test.sources, kept),
    )


def _shared(old: Collection, there: _Vectors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, dim) and (N, dim of the other): the vectors of the rows that both collections hold."""
    matrix = old.matrix()
    ids = matrix.ids.to_pylist()
    kept = there.has(ids)
    return matrix.embeddings[kept], there.take(_chosen(ids, kept))


def _chosen(values: Any, kept: NDArray[np.bool_]) -> Any:
    return values[kept] if isinstance(values, np.ndarray) else list(itertools.compress(values, kept.tolist()))
