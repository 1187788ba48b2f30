"""Builds an index of a collection's latest version, beside what serves, and publishes it."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.errors import Cancelled, CollectionNotFound, IndexDamaged, StorageError
from trunkline_service.index.building.presence import is_still
from trunkline_service.index.building.scanning import Scanned, scan
from trunkline_service.index.card import IndexCard
from trunkline_service.index.choosing.choice import Choice
from trunkline_service.index.choosing.choose import choose
from trunkline_service.index.choosing.planning import plan
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage import files
from trunkline_service.index.storage.base import FRAGMENTS_FILE, VECTORS_FILE, load_base, map_vectors
from trunkline_service.index.storage.keys import new_build
from trunkline_service.index.storage.lease import Lease, ousted
from trunkline_service.index.storage.store import IndexStore

_log = logging.getLogger(__name__)
# A row's id, version and fragment.
_STAMP_BYTES = 20


def build(
    collection: Collection,
    store: IndexStore,
    options: IndexOptions,
    *,
    flat_rows: int,
    threads: int,
    clock: Callable[[], float],
    progress: Callable[[str, float], None] = lambda *_: None,
    cancelled: Callable[[], bool] = lambda: False,
    seed: int = 0,
) -> IndexCard:
    """Builds an index, publishes it, and removes what it takes the place of.

    The vectors stay on the disk, mapped into memory; the texts of the rows are in memory once.

    Args:
        collection: Its latest version is read.
        store: Where the build goes.
        options: What the index is to be like.
        flat_rows: Up to so many rows, exact search is best.
        threads: The most that building uses.
        clock: Monotonic seconds.
        progress: Told the phase and the share of it that is done, 0..1.
        cancelled: Asked now and then.
        seed: Of which rows are held out.

    Returns:
        The card; of kind ``flat``, and without files, where exact search is best.

    Raises:
        FailedPrecondition: Somebody else is building it, or it was dropped meanwhile.
        Cancelled: ``cancelled`` said so; nothing was stored.
        StorageError: The collection can't be read, or the index can't be written (a full disk).
        CollectionNotFound: It was dropped meanwhile.
        InvalidArgument: Kind ``lance``, which the collection's own storage builds.
    """
    name, uid = collection.name, collection.revision.uid
    with store.lease(name, uid) as lease:
        # Opened under the lease: whoever drops the index takes that away, and purged rows are not in here.
        fragments = collection.fragments()
        work = _Work(
            fragments=fragments,
            name=name,
            store=store,
            options=options,
            flat_rows=flat_rows,
            threads=threads,
            clock=clock,
            progress=progress,
            cancelled=cancelled,
            lease=lease,
            seed=seed,
        )
        try:
            card = work.run() if fragments.uid == uid else None
        except (Cancelled, StorageError) as exc:
            if lease.lost():
                raise ousted(name) from exc
            raise
        if card is None or not is_still(collection, uid):
            if card is not None:
                store.remove(card)
            raise CollectionNotFound(
                f"collection {name!r} was dropped while its index was built; nothing was stored"
            )
        try:
            store.sweep(name, uid, keep=[card.build], is_now=lambda other: is_still(collection, other))
        except StorageError as exc:
            _log.warning("%s; index %s of collection %r serves all the same", exc, card.build, name)
    return card


@dataclass(frozen=True)
class _Work:
    """One build; see `build`."""

    fragments: Fragments
    name: str
    store: IndexStore
    options: IndexOptions
    flat_rows: int
    threads: int
    clock: Callable[[], float]
    progress: Callable[[str, float], None]
    cancelled: Callable[[], bool]
    lease: Lease
    seed: int

    def run(self) -> IndexCard:
        """Builds and publishes."""
        started = self.clock()
        most = self.fragments.count()
        if not most:
            return self._flat("there are no rows yet", started)
        planned = plan(most, self.fragments.spec.dim, self.options, self.flat_rows)
        if not planned.candidates:
            return self._flat(planned.reason, started, rows=most)
        with (
            self.store.scratch(self.name, self.fragments.uid) as folder,
            files.disk_errors(f"the index of collection {self.name!r} can't be built"),
        ):
            scanned = self._scan(folder, most)
            if not scanned.rows:
                return self._flat("no row has a vector", started)
            choice = self._choose(folder, scanned)
            if choice.approximate is None:
                return self._flat(choice.reason, started, choice, scanned.rows + scanned.held_out)
            self._stop_if_cancelled()
            self.progress("write", 0.0)
            choice.approximate.write(folder)
            (folder / FRAGMENTS_FILE).write_text(json.dumps(self.fragments.keys), encoding="utf-8")
            card = self._card(choice, scanned, choice.approximate.nbytes, started)
            _check_whole(folder, card)
            published = self.store.publish(
                card, lambda target: _move(folder, target), self.lease, self.cancelled
            )
            self.progress("write", 1.0)
            return published

    def _scan(self, folder: Path, most: int) -> Scanned:
        return scan(
            self.fragments.batches(),
            most,
            self.fragments.spec.metric,
            folder,
            seed=self.seed,
            progress=lambda share: self.progress("read", share),
            cancelled=self._is_over,
        )

    def _choose(self, folder: Path, scanned: Scanned) -> Choice:
        spec = self.fragments.spec
        vectors = map_vectors(folder / VECTORS_FILE, scanned.rows + scanned.held_out, spec.dim)
        return choose(
            vectors[: scanned.rows],
            vectors[scanned.rows :],
            spec.metric,
            self.options,
            flat_rows=self.flat_rows,
            threads=self.threads,
            clock=self.clock,
            progress=self.progress,
            cancelled=self._is_over,
            version=self.fragments.version,
        )

    def _is_over(self) -> bool:
        return self.cancelled() or self.lease.lost()

    def _stop_if_cancelled(self) -> None:
        if self._is_over():
            raise Cancelled("building the index was cancelled; nothing was stored")

    def _flat(self, reason: str, started: float, choice: Choice | None = None, rows: int = 0) -> IndexCard:
        """Publishes that exact search of so many rows is best, and why."""
        nothing = Choice("flat", None, 0, None, (), reason, {}) if choice is None else choice
        return self.store.publish(
            self._card(nothing, Scanned(rows, 0), 0, started), lambda _: None, self.lease, self.cancelled
        )

    def _card(self, choice: Choice, scanned: Scanned, nbytes: int, started: float) -> IndexCard:
        import faiss

        spec, version = self.fragments.spec, self.fragments.version
        beside = scanned.held_out * spec.dim * 4 + (scanned.rows + scanned.held_out) * _STAMP_BYTES
        beside = beside if choice.approximate is not None else 0
        return IndexCard(
            build=new_build(version),
            collection=self.name,
            uid=self.fragments.uid,
            space_id=spec.space_id,
            dim=spec.dim,
            metric=spec.metric,
            version=version,
            kind=choice.kind,
            rows=scanned.rows,
            held_out=scanned.held_out,
            parameters=choice.parameters,
            effort=choice.effort,
            recall=choice.recall,
            settings=tuple(choice.settings),
            reason=choice.reason,
            options=self.options,
            seconds=self.clock() - started,
            nbytes=nbytes + beside,
            files=(),
            made_by={"trunkline": importlib.metadata.version("trunkline"), "faiss": faiss.__version__},
            created_at=self.store.clock().isoformat(),
            levels=choice.levels,
        )


def _check_whole(folder: Path, card: IndexCard) -> None:
    """Reads back what was written, as who searches will: FAISS says nothing where the disk fills at the very end.

    Raises:
        StorageError: It is not whole.
    """
    try:
        load_base(folder, card)
    except IndexDamaged as exc:
        raise StorageError(
            f"the index of collection {card.collection!r} was not written whole: {exc.message}. Is the disk full? "
            "What serves stays"
        ) from exc


def _move(folder: Path, target: Path) -> None:
    for path in folder.iterdir():
        path.rename(target / path.name)
