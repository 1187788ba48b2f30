"""A build holds the rows of one version, is published whole, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.index.building.conftest import DIM, ROWS, SPACE, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import Cancelled, CollectionNotFound, FailedPrecondition, StorageError
from trunkline_service.index.building import builder, scanning
from trunkline_service.index.card import IndexCard
from trunkline_service.index.metric import prepared
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage.base import load_base
from trunkline_service.index.storage.store import IndexStore

Built = Callable[..., IndexCard]


def names(data: Path) -> list[str]:
    return sorted(
        str(path.relative_to(data / "indexes")) for path in (data / "indexes").rglob("*") if path.is_file()
    )


def test_a_build_holds_the_rows_of_its_version(
    collection: Collection, store: IndexStore, built: Built
) -> None:
    write(collection, range(ROWS, ROWS + 20), error_every=2)
    collection.delete(["id3"])
    fragments = collection.fragments()
    card = built(collection)
    base = load_base(store.open(card), card)
    count = ROWS + 10 - 1
    assert (card.rows, card.held_out) == (count - 60, 60)
    assert (card.version, card.uid, card.kind) == (collection.version, fragments.uid, "ivf_flat")
    assert base.fragments == fragments.keys
    matrix = collection.matrix()
    places = {row_id: place for place, row_id in enumerate(base.row_ids.tolist())}
    order = [places.pop(row_id) for row_id in matrix.row_ids.tolist()]
    assert places == {}
    np.testing.assert_array_equal(base.vectors[order], prepared(matrix.embeddings, "cosine"))
    for kept, stored in (
        (base.ids, matrix.ids),
        (base.labels, matrix.labels),
        (base.sources, matrix.sources),
    ):
        assert kept.take(order).to_pylist() == stored.to_pylist()
    stamps = fragments.stamps()
    known = dict(zip(stamps.row_ids.tolist(), zip(stamps.written, stamps.fragment, strict=True), strict=True))
    assert all(
        known[row_id] == (written, fragment)
        for row_id, written, fragment in zip(base.row_ids.tolist(), base.written, base.fragment, strict=True)
    )


def test_the_card_tells_what_was_measured(collection: Collection, store: IndexStore, built: Built) -> None:
    options = IndexOptions("ivf_flat", recall=0.8, k=5)
    card = built(collection, options=options)
    assert card.options == options
    assert card.recall is not None
    assert (card.recall.k, card.recall.queries, card.recall.version) == (5, card.held_out, card.version)
    assert 0.8 <= card.recall.low <= card.recall.measured <= 1
    assert card.effort in {setting.effort for setting in card.settings}
    assert card.seconds > 0
    assert card.nbytes > card.rows * DIM * 4
    assert set(card.made_by) == {"trunkline", "faiss"}
    assert store.newest("flowers", card.uid, collection.spec) == card


@pytest.mark.parametrize("options", [IndexOptions(), IndexOptions("flat")])
def test_where_exact_search_is_best_the_card_says_why(
    collection: Collection, data: Path, store: IndexStore, built: Built, options: IndexOptions
) -> None:
    card = built(collection, options=options, flat_rows=ROWS)
    assert (card.kind, card.files, card.rows, card.recall) == ("flat", (), ROWS, None)
    assert card.reason
    assert store.newest("flowers", card.uid, collection.spec) == card
    assert [name.rpartition("/")[2] for name in names(data) if ".lease" not in name] == ["card.json"]


def test_without_rows_there_is_nothing_to_build(empty: Collection, built: Built) -> None:
    assert built(empty, flat_rows=0).reason == "there are no rows yet"
    write(empty, range(5), error_every=1)
    assert built(empty, flat_rows=0).kind == "flat"


def test_a_new_build_takes_the_place_of_the_old(collection: Collection, data: Path, built: Built) -> None:
    old = built(collection)
    write(collection, range(10))
    new = built(collection)
    assert new.version > old.version
    assert {name.split("/")[2] for name in names(data) if ".lease" not in name} == {new.build}


def test_a_build_of_the_same_version_with_other_wishes_is_the_newest(
    collection: Collection, store: IndexStore, built: Built
) -> None:
    for kind in ("ivf_flat", "flat", "hnsw"):
        card = built(collection, options=IndexOptions(kind, recall=0.5))
        assert store.newest("flowers", card.uid, collection.spec) == card


def test_progress_is_told_by_phase(collection: Collection, built: Built) -> None:
    told: list[tuple[str, float]] = []
    built(collection, progress=lambda *said: told.append(said))
    phases = list(dict.fromkeys(phase for phase, _ in told))
    assert (phases[0], phases[-1]) == ("read", "write")
    assert len(phases) > 2
    assert all(0 <= share <= 1 for _, share in told)


def test_of_two_builders_one_builds(collection: Collection, store: IndexStore, built: Built) -> None:
    with (
        store.lease("flowers", collection.revision.uid),
        pytest.raises(FailedPrecondition, match="'flowers' is being built by another process"),
    ):
        built(collection)
    built(collection)


def test_rows_are_read_under_the_lease(
    collection: Collection, store: IndexStore, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before it could be of before a purge, whose drop of the index nobody would notice."""
    fragments, held = collection.fragments, []

    def reading() -> Any:
        held.append(store.building("flowers", collection.revision.uid))
        return fragments()

    monkeypatch.setattr(collection, "fragments", reading)
    built(collection)
    assert held == [True]


@pytest.mark.parametrize("after", [0, 1, 3, 8])
def test_a_cancelled_build_leaves_nothing(
    collection: Collection, data: Path, built: Built, after: int
) -> None:
    asked: list[None] = []

    def cancelled() -> bool:
        asked.append(None)
        return len(asked) > after

    with pytest.raises(Cancelled):
        built(collection, cancelled=cancelled)
    assert [name for name in names(data) if ".lease" not in name] == []


def during(phase: str, deed: Callable[[], Any]) -> Callable[[str, float], None]:
    """Progress that does something once, at a phase."""
    done: list[None] = []

    def progress(now: str, _: float) -> None:
        if now == phase and not done:
            done.append(None)
            deed()

    return progress


@pytest.mark.parametrize("phase", ["read", "write"])
def test_an_index_that_is_dropped_while_it_is_built_is_not_stored(
    collection: Collection, data: Path, store: IndexStore, built: Built, phase: str
) -> None:
    uid = collection.revision.uid
    with pytest.raises(FailedPrecondition, match="was dropped while it was built"):
        built(collection, progress=during(phase, lambda: store.drop("flowers", uid)))
    assert names(data) == []
    assert built(collection).kind == "ivf_flat"


@pytest.mark.parametrize("again", [False, True])
def test_an_index_of_a_collection_that_is_gone_is_not_stored(
    collections: CollectionStore, collection: Collection, data: Path, built: Built, again: bool
) -> None:
    spec = collection.spec

    def gone() -> None:
        collections.drop("flowers")
        if again:
            collections.create("flowers", spec)

    with pytest.raises(CollectionNotFound, match="was dropped while its index was built"):
        built(collection, progress=during("write", gone))
    assert [name for name in names(data) if ".lease" not in name] == []


def test_a_purged_row_is_in_no_file_of_an_index(
    collection: Collection, data: Path, store: IndexStore, built: Built
) -> None:
    row = "id-to-be-forgotten"
    collection.upsert([Row(row, np.ones(DIM, np.float32))], space_id=SPACE, decode="exact")

    def holding() -> list[str]:
        return [name for name in names(data) if row.encode() in (data / "indexes" / name).read_bytes()]

    built(collection)
    assert len(holding()) == 1
    collection.purge([row])
    store.drop("flowers", collection.revision.uid)
    assert holding() == []
    built(collection)
    assert holding() == []


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("where", "name"), [(scanning._Rows, "write"), (scanning, "_in_one_piece"), (builder, "_move")]
)
def test_a_full_disk_leaves_what_serves(
    collection: Collection,
    data: Path,
    store: IndexStore,
    built: Built,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
) -> None:
    card = built(collection)
    before = names(data)
    write(collection, range(10))
    with monkeypatch.context() as patch:
        patch.setattr(where, name, full)
        with pytest.raises(StorageError, match=r"No space left.*Make room"):
            built(collection)
    assert names(data) == before
    assert store.newest("flowers", card.uid, collection.spec) == card
    load_base(store.open(card), card)
    assert built(collection).version == collection.version


def test_what_cannot_be_swept_does_not_fail_the_build(
    collection: Collection,
    store: IndexStore,
    built: Built,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise StorageError("not permitted")

    monkeypatch.setattr(store, "sweep", refused)
    card = built(collection)
    assert "not permitted" in caplog.text
    assert store.newest("flowers", card.uid, collection.spec) == card


def test_an_index_of_an_object_store_is_built_here_and_served_there(
    s3_bucket: str, tmp_path: Path, built: Built, collection: Collection
) -> None:
    uri = f"{s3_bucket}/data"
    remote = CollectionStore(uri).create("flowers", collection.spec)
    write(remote, range(ROWS))
    card = built(remote, store=IndexStore(uri, tmp_path / "one"))
    there = IndexStore(uri, tmp_path / "two")
    assert there.newest("flowers", card.uid, remote.spec) == card
    base = load_base(there.open(card), card)
    assert len(base.ids) == ROWS
    assert not there.building("flowers", card.uid)
