"""From a collection to another of the same rows in a new space: heads and aliases move together."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import FailedPrecondition
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fit import KINDS, fit
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.heads.training.stored import training_set
from trunkline_service.workspace.carry_over import carry_over
from trunkline_service.workspace.fingerprints import Fingerprints
from trunkline_service.workspace.migrate import options_of

_log = logging.getLogger(__name__)
_BATCH = 65_536


@dataclass(frozen=True)
class RefittedHead:
    """A head before and after.

    Attributes:
        before: The card of the version that was fitted on the old collection.
        after: The card of the version that was fitted on the new one.
    """

    before: HeadCard
    after: HeadCard


@dataclass(frozen=True)
class Switched:
    """What a switch did.

    Attributes:
        old: The collection before.
        new: The collection after.
        relabelled: Rows of the new one that took their label, split or users' columns from the old one.
        heads: That were fitted anew.
        aliases: That were moved.
    """

    old: str
    new: str
    relabelled: int
    heads: tuple[RefittedHead, ...]
    aliases: tuple[str, ...]


def switch(store: CollectionStore, heads: HeadRegistry, old: str, new: str) -> Switched:
    """See `Workspace.switch`."""
    before, after = store.open(old), store.open(new)
    missing = _missing(before, after)
    if missing:
        rows = "row" if missing == 1 else "rows"
        raise FailedPrecondition(
            f"collection {new!r} lacks {missing:,} {rows} that {old!r} has embeddings of; finish it first: "
            f"trunkline embed --from-collection {old} --into {new} --retry-failed"
        )
    relabelled = carry_over(before, after)
    # One that can't be read serves nobody, and must not hold up the others.
    entries = heads.list(lambda name, exc: _log.warning("head %s is left as it is: %s", name, exc))
    dependent = [entry for entry in entries if entry.card.collection == old and entry.card.kind in KINDS]
    # All of them before the first is saved: a head that can't be fitted leaves everything as it was.
    fitted = [_refitted(store, new, entry.card) for entry in dependent]
    saved = tuple(
        # Where nothing served there are candidates only, and the new version is one of them.
        RefittedHead(entry.card, heads.save(head, entry.card.name, promote=entry.pointer.serving is not None))
        for entry, head in zip(dependent, fitted, strict=True)
    )
    moved = [alias for alias in store.aliases.all() if alias.collection == old and alias.version is None]
    for alias in moved:
        store.set_alias(alias.name, new)
    return Switched(old, new, relabelled, saved, tuple(alias.name for alias in moved))


def _refitted(store: CollectionStore, new: str, card: HeadCard) -> FittedHead:
    data = training_set(
        store, new, task=card.task, target=card.target, group=card.group or None, test_split=card.test_split
    )
    fitted = fit(card.kind, data, options_of(card))
    return dataclasses.replace(fitted, group=card.group, test_split=card.test_split)


def _missing(before: Collection, after: Collection) -> int:
    """Rows of status ``ok`` before that have none of that status after."""
    there = Fingerprints((ids, ids) for ids in _done(after))
    return sum(int((~there.has(ids)).sum()) for ids in _done(before))


def _done(collection: Collection) -> Iterator[list[str]]:
    for batch in collection.scan(["id"], "status = 'ok'", batch_size=_BATCH):
        yield batch.column("id").to_pylist()
