"""Files of a build are durable before it appears, never written again, and only called damaged where they are."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.index.storage.conftest import COLLECTION, UID
from tests.index.storage.test_index_storage_store import FILES

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import Cancelled, IndexDamaged, StorageError
from trunkline_service.index.card import IndexCard
from trunkline_service.index.kinds import files as kind_files
from trunkline_service.index.storage import base, files
from trunkline_service.index.storage.base import load_base
from trunkline_service.index.storage.folder import IndexFolder
from trunkline_service.index.storage.store import IndexStore

CardOf = Callable[..., IndexCard]
Write = Callable[[Path], None]
# The file is there and well; this machine can't read it at the moment.
FOR_NOW = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES]


def test_a_build_is_on_the_disk_before_it_appears_and_its_name_after(
    store: IndexStore, data: Path, card_of: CardOf, write_base: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    unsynced: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noting(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    def appearing(path: Path, target: Path) -> Path:
        if path.is_dir():
            there = [path, *path.iterdir()]
            unsynced.extend(each.name for each in there if each.stat().st_ino not in synced)
            assert sorted(each.name for each in there[1:]) == sorted(["card.json", *FILES])
            synced.clear()
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(Path, "rename", appearing)
    store.publish(card_of(), write_base)
    assert unsynced == []
    root = data / "indexes"
    assert synced == [folder.stat().st_ino for folder in (root / COLLECTION / UID, root / COLLECTION, root)]


def test_options_are_on_the_disk_before_they_take_the_place_of_others(
    store: IndexStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("sync"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda *given: (done.append("replace"), replace(*given)))
    store.set_options(COLLECTION, UID, store.options(COLLECTION, UID))
    assert done == ["sync", "replace", "sync"]


def test_nobody_can_write_to_a_build(any_store: IndexStore, card_of: CardOf, write_base: Write) -> None:
    folder = any_store.open(any_store.publish(card_of(), write_base))
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {modes[name] for name in FILES} == {0o444}
    assert set(modes.values()) == {0o444}


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", FOR_NOW)
def test_what_the_machine_lacks_is_no_damage_and_no_reason_to_fetch_again(
    any_store: IndexStore,
    card_of: CardOf,
    write_base: Write,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    card = any_store.publish(card_of(), write_base)
    folder = any_store.open(card)
    with monkeypatch.context() as patch:
        patch.setattr(files, "sha256", failing(code))
        with pytest.raises(
            StorageError, match=r"fragments\.json .*can't be read now: .*tried again"
        ) as caught:
            any_store.open(card)
    assert not isinstance(caught.value, IndexDamaged)
    assert sorted(path.name for path in folder.iterdir() if path.name != "card.json") == FILES
    assert any_store.open(card) == folder


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOENT])
def test_what_the_disk_lost_is_damage(
    store: IndexStore, card_of: CardOf, write_base: Write, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    card = store.publish(card_of(), write_base)
    monkeypatch.setattr(files, "sha256", lambda *_: failing(code)())
    if code == errno.ENOENT:
        monkeypatch.setattr(files, "sha256", lambda *_: Path("nowhere").read_bytes())
    with pytest.raises(IndexDamaged, match=r"fragments\.json .*build the index again"):
        store.open(card)


@pytest.mark.parametrize("code", FOR_NOW)
@pytest.mark.parametrize(("where", "name"), [(base, "map_vectors"), (Path, "read_text")])
def test_mapping_that_fails_for_now_is_no_damage(
    store: IndexStore,
    card_of: CardOf,
    write_base: Write,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    code: int,
) -> None:
    card = store.publish(card_of(), write_base)
    folder = store.open(card)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, failing(code))
        with pytest.raises(StorageError) as caught:
            load_base(folder, card)
    assert not isinstance(caught.value, IndexDamaged)
    load_base(folder, card)


def test_rows_that_can_not_be_mapped_for_now_are_no_damage(
    store: IndexStore, card_of: CardOf, write_base: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    card = store.publish(card_of(), write_base)
    monkeypatch.setattr(pa, "memory_map", failing(errno.EMFILE))
    with pytest.raises(StorageError, match="Too many open files") as caught:
        load_base(store.open(card), card)
    assert not isinstance(caught.value, IndexDamaged)


@pytest.mark.parametrize(
    ("raised", "damaged"),
    [
        (MemoryError(), False),
        (RuntimeError("Error: could not open x for reading: Too many open files"), False),
        (RuntimeError("Error: read error in x: 3 != 4 (Success)"), True),
    ],
)
def test_what_faiss_says_is_damage_only_where_the_file_is_at_fault(
    store: IndexStore,
    card_of: CardOf,
    write_base: Write,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    damaged: bool,
) -> None:
    card = store.publish(card_of(), write_base)

    def fail(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(kind_files.library(), "read_index", fail)
    with pytest.raises(StorageError) as caught:
        load_base(store.open(card), card)
    assert isinstance(caught.value, IndexDamaged) is damaged


# Called off --------------------------------------------------------------------------------------------------


def test_reading_sums_is_called_off(
    any_store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec
) -> None:
    with pytest.raises(Cancelled, match="nothing was stored"):
        any_store.publish(card_of(), write_base, cancelled=lambda: True)
    assert any_store.newest(COLLECTION, UID, spec) is None
    card = any_store.publish(card_of(), write_base, cancelled=lambda: False)
    with pytest.raises(Cancelled, match="not loaded"):
        any_store.open(card, cancelled=lambda: True)
    any_store.open(card)


# What can't be deleted ---------------------------------------------------------------------------------------


def test_a_grave_that_can_not_be_deleted_fails_only_its_own_collection(
    store: IndexStore,
    data: Path,
    card_of: CardOf,
    write_base: Write,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import shutil

    rmtree = shutil.rmtree
    for name in (COLLECTION, f"{COLLECTION}-2"):
        store.publish(card_of(collection=name), write_base)

    def stubborn(path: Path, **given: Any) -> None:
        if not path.name.startswith(f".dropped-{COLLECTION}-2-"):
            rmtree(path, **given)

    monkeypatch.setattr(shutil, "rmtree", stubborn)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"dropped-flowers-2-\w+ can't be deleted"):
            store.drop(f"{COLLECTION}-2")
    caplog.clear()
    store.drop(COLLECTION)
    assert "holds rows of an index" in caplog.text
    folder = IndexFolder(data / "indexes", lambda _: None)
    assert folder.collections() == []
