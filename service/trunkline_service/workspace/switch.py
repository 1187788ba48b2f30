"""From a collection to another of the same rows in a new space: heads and aliases move together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.known import Known, Verdict
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import FailedPrecondition
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fit import KINDS, fit
from trunkline_service.heads.registry import HeadRegistry
from trunkline_service.heads.stored import training_set

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
        heads: That were fitted anew.
        aliases: That were moved.
    """

    old: str
    new: str
    heads: tuple[RefittedHead, ...]
    aliases: tuple[str, ...]


def switch(store: CollectionStore, heads: HeadRegistry, old: str, new: str) -> Switched:
    """See `Workspace.switch`."""
    before, after = store.open(old), store.open(new)
    missing = _missing(before, after)
    if missing:
        raise FailedPrecondition(
            f"collection {new!r} lacks {missing:,} rows of {old!r}; finish it first: trunkline embed "
            f"--from-collection {old} --into {new}"
        )
    dependent = [
        card for card in map(heads.card, heads.names()) if card.collection == old and card.kind in KINDS
    ]
    # All of them before the first is saved: a head that can't be fitted leaves everything as it was.
    data = training_set(store, new) if dependent else None
    fitted = [fit(card.kind, data) for card in dependent if data is not None]
    saved = tuple(
        RefittedHead(card, heads.save(head, card.name)) for card, head in zip(dependent, fitted, strict=True)
    )
    moved = [alias for alias in store.aliases.all() if alias.collection == old and alias.version is None]
    for alias in moved:
        store.set_alias(alias.name, new)
    return Switched(old, new, saved, tuple(alias.name for alias in moved))


def _missing(before: Collection, after: Collection) -> int:
    """Rows of status ``ok`` before that have no row after."""
    known = Known(_keys(after))
    missing = 0
    for batch in before.scan(["id"], "status = 'ok'", batch_size=_BATCH):
        ids = batch.column("id").to_pylist()
        missing += int((known.judge(ids, [0] * len(ids)) == Verdict.NEW).sum())
    return missing


def _keys(collection: Collection) -> Iterator[list[list[object]]]:
    for batch in collection.scan(["id"], batch_size=_BATCH):
        ids = batch.column("id").to_pylist()
        nothing: list[object] = [None] * len(ids)
        yield [ids, ["ok"] * len(ids), nothing, nothing, nothing, [""] * len(ids), [""] * len(ids)]
