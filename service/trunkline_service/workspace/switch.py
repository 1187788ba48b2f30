"""From a collection to another of the same rows in a new space: heads and aliases move together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import FailedPrecondition
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fit import KINDS, fit
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.heads.training.stored import training_set
from trunkline_service.workspace.carry_over import carry_over
from trunkline_service.workspace.fingerprints import Fingerprints
from trunkline_service.workspace.migrate import options_of

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
    dependent = [
        card
        for card in (heads.entry(name).card for name in heads.names())
        if card.collection == old and card.kind in KINDS
    ]
    # All of them before the first is saved: a head that can't be fitted leaves everything as it was.
    fitted = [
        fit(card.kind, training_set(store, new, task=card.task, target=card.target), options_of(card))
        for card in dependent
    ]
    saved = tuple(
        RefittedHead(card, heads.save(head, card.name)) for card, head in zip(dependent, fitted, strict=True)
    )
    moved = [alias for alias in store.aliases.all() if alias.collection == old and alias.version is None]
    for alias in moved:
        store.set_alias(alias.name, new)
    return Switched(old, new, relabelled, saved, tuple(alias.name for alias in moved))


def _missing(before: Collection, after: Collection) -> int:
    """Rows of status ``ok`` before that have none of that status after."""
    there = Fingerprints((ids, ids) for ids in _done(after))
    return sum(int((~there.has(ids)).sum()) for ids in _done(before))


def _done(collection: Collection) -> Iterator[list[str]]:
    for batch in collection.scan(["id"], "status = 'ok'", batch_size=_BATCH):
        yield batch.column("id").to_pylist()
