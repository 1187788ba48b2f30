"""Sweeps take away what is of no living collection, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.index.storage.conftest import COLLECTION, UID
from tests.index.storage.test_index_storage_store import names

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import Cancelled, StorageError
from trunkline_service.index.card import IndexCard
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage import bucket as bucket_module
from trunkline_service.index.storage.bucket import Bucket
from trunkline_service.index.storage.store import IndexStore

CardOf = Callable[..., IndexCard]
Write = Callable[[Path], None]
Machine = Callable[..., IndexStore]
NEW = "4567cdef"


def test_a_sweep_of_an_old_builder_leaves_the_collection_that_is_there_now(
    any_store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec
) -> None:
    old = any_store.publish(card_of(1), write_base)
    any_store.publish(card_of(1, uid="gone"), write_base)
    # Between the old one's last look and its sweep, the collection was dropped and made anew.
    new = any_store.publish(card_of(1, uid=NEW), write_base)
    any_store.set_options(COLLECTION, NEW, IndexOptions(k=7))
    asked: list[tuple[str, bool]] = []

    def is_now(uid: str) -> bool:
        asked.append((uid, any_store.building(COLLECTION, uid)))
        return uid == NEW

    any_store.sweep(COLLECTION, UID, [old.build], is_now)
    # Nobody else can begin to build while it is asked.
    assert sorted(asked) == [(NEW, True), ("gone", True)]
    assert any_store.newest(COLLECTION, NEW, spec) == new
    assert any_store.options(COLLECTION, NEW) == IndexOptions(k=7)
    assert any_store.newest(COLLECTION, "gone", spec) is None
    assert not any_store.building(COLLECTION, NEW)


def test_a_sweep_leaves_what_somebody_builds(
    any_store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec
) -> None:
    new = any_store.publish(card_of(1, uid=NEW), write_base)
    with any_store.lease(COLLECTION, NEW) as lease:
        any_store.sweep(COLLECTION, UID, [], lambda _: False)
        assert not lease.lost()
    assert any_store.newest(COLLECTION, NEW, spec) == new


def test_a_store_that_fails_to_say_what_is_there_fails_the_sweep(
    any_store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec
) -> None:
    new = any_store.publish(card_of(1, uid=NEW), write_base)

    def fail(_: str) -> bool:
        raise StorageError("the store does not answer")

    with pytest.raises(StorageError, match="does not answer"):
        any_store.sweep(COLLECTION, UID, [], fail)
    assert any_store.newest(COLLECTION, NEW, spec) == new


# Caches ------------------------------------------------------------------------------------------------------


def test_a_cache_forgets_a_collection_that_is_gone(
    s3_store: Machine, card_of: CardOf, write_base: Write, tmp_path: Path
) -> None:
    one, two = s3_store("one"), s3_store("two")
    card, other = (one.publish(card_of(uid=uid), write_base) for uid in (UID, NEW))
    for each in (card, other):
        two.open(each)
    two.forget_cache(COLLECTION, UID)
    assert {name.split("/")[2] for name in names(tmp_path / "two")} == {NEW}
    # What others have is theirs.
    assert one.open(card)


def test_a_data_folder_is_no_cache(
    store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec
) -> None:
    card = store.publish(card_of(), write_base)
    store.forget_cache(COLLECTION, UID)
    store.sweep_cache()
    assert store.newest(COLLECTION, UID, spec) == card


def test_a_start_removes_from_the_cache_what_the_store_has_no_more(
    s3_store: Machine, card_of: CardOf, write_base: Write, tmp_path: Path
) -> None:
    one, two = s3_store("one"), s3_store("two")
    kept, old = (one.publish(card_of(version), write_base) for version in (2, 1))
    others = [one.publish(card_of(collection=name), write_base) for name in ("dropped", "alive")]
    for each in (kept, old, *others, one.publish(card_of(uid=NEW), write_base)):
        two.open(each)
    one.remove(old)
    one.drop(COLLECTION, NEW)
    one.drop("dropped")
    s3_store("two").sweep_cache()
    left = {tuple(name.split("/")[1:4]) for name in names(tmp_path / "two")}
    assert left == {(COLLECTION, UID, kept.build), ("alive", UID, others[1].build)}


def test_a_start_goes_on_where_the_store_does_not_answer(
    s3_store: Machine,
    card_of: CardOf,
    write_base: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = s3_store("one")
    for name in ("a", "b"):
        store.open(store.publish(card_of(collection=name), write_base))
    before = names(tmp_path / "one")

    def fail(*_: Any) -> None:
        raise StorageError("the network is down")

    monkeypatch.setattr(Bucket, "paths", fail)
    store.sweep_cache()
    assert names(tmp_path / "one") == before
    assert len([text for text in caplog.messages if "the network is down" in text]) == 2


# Called off, piece by piece ----------------------------------------------------------------------------------


class Asked:
    """Says that it is over after so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def sent(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Paths of the files whose transfer was begun."""
    begun: list[str] = []
    known = getattr(Bucket, name)

    def noting(self: Bucket, path: str, *given: Any) -> None:
        begun.append(path)
        known(self, path, *given)

    monkeypatch.setattr(Bucket, name, noting)
    return begun


def test_an_upload_is_called_off_at_the_next_piece(
    s3_store: Machine, card_of: CardOf, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "_PIECE", 1024 * 1024)
    begun = sent(monkeypatch, "upload")

    def write(folder: Path) -> None:
        for name in ("a.f32", "b.f32"):
            (folder / name).write_bytes(bytes(8 * 1024 * 1024))

    with pytest.raises(Cancelled, match="nothing was stored"):
        # Of 16 blocks for the sums, and 16 pieces.
        s3_store().publish(card_of(), write, cancelled=Asked(16 + 3))
    assert [path.rpartition("/")[2] for path in begun] == ["a.f32"]
    assert Bucket(f"{s3_bucket}/data/indexes").paths(f"{COLLECTION}/") == []


def test_fetching_is_called_off_at_the_next_piece(
    s3_store: Machine, card_of: CardOf, write_base: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = s3_store("one").publish(card_of(), write_base)
    begun = sent(monkeypatch, "download")
    with pytest.raises(Cancelled, match="not loaded"):
        s3_store("two").open(card, cancelled=Asked(2))
    assert len(begun) == 3
    assert names(tmp_path / "two") == []
    s3_store("two").open(card)
