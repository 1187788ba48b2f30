"""Builds are stored whole or not at all, found by what they are of, checked byte for byte, and dropped for good."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.index.storage.conftest import COLLECTION, UID, Clock, never

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import FailedPrecondition, IndexDamaged, InvalidArgument, StorageError
from trunkline_service.index.card import IndexCard
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage import card_json
from trunkline_service.index.storage.base import load_base
from trunkline_service.index.storage.store import IndexStore

CardOf = Callable[..., IndexCard]
Write = Callable[[Path], None]
FILES = ["fragments.json", "index.faiss", "rows.arrow", "spread.f32", "vectors.f32"]


def home(data: Path) -> Path:
    return data / "indexes" / COLLECTION / UID


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_build_is_published_found_and_opened(
    any_store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec
) -> None:
    assert any_store.newest(COLLECTION, UID, spec) is None
    card = any_store.publish(card_of(7), write_base)
    assert [file.name for file in card.files] == FILES
    assert any_store.newest(COLLECTION, UID, spec) == card
    base = load_base(any_store.open(card), card)
    assert len(base.ids) == card.rows + card.held_out
    assert any_store.newest(COLLECTION, "other", spec) is None
    assert any_store.newest("others", UID, spec) is None


def test_the_folder_is_as_documented(
    store: IndexStore, data: Path, card_of: CardOf, write_base: Write
) -> None:
    card = store.publish(card_of(7), write_base)
    assert names(home(data)) == [f"{card.build}/{name}" for name in sorted(["card.json", *FILES])]


def test_a_kind_without_files_is_a_card_alone(
    any_store: IndexStore, card_of: CardOf, spec: CollectionSpec
) -> None:
    card = any_store.publish(card_of(3, kind="flat", recall=None), lambda _: None)
    assert any_store.newest(COLLECTION, UID, spec) == card
    any_store.open(card)


def test_the_newest_is_of_the_latest_version_and_of_those_made_last(
    any_store: IndexStore, card_of: CardOf, clock: Clock, spec: CollectionSpec
) -> None:
    made = {}
    for version, word in ((10, "ff"), (10, "aa"), (9, "bb")):
        clock.wait(1)
        made[word] = any_store.publish(card_of(version, word), lambda _: None)
    assert any_store.newest(COLLECTION, UID, spec) == made["aa"]
    assert any_store.newest(COLLECTION, UID, spec, at_most=9) == made["bb"]
    assert any_store.newest(COLLECTION, UID, spec, at_most=8) is None


def summed(text: str) -> str:
    """The card with the sum that it should have."""
    document = json.loads(text)
    rest = {key: value for key, value in document.items() if key not in ("schema_version", "sha256")}
    return json.dumps({**document, "sha256": card_json.sum_of(rest)})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda text: text[: len(text) // 2], "not valid JSON"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "schema version 2"),
        (lambda text: text.replace('"rows": 40', '"rows": -1', 1), "rows is -1"),
        (lambda text: text.replace('"space_id": "sp1-a"', '"space_id": "sp1-b"'), "sp1-b"),
        (lambda text: text.replace('"dim": 4', '"dim": 5'), "5"),
        (lambda text: text.replace('"uid": "0123abcd"', '"uid": "4567"'), "4567"),
        (lambda text: text.replace('"metric": "cosine"', '"metric": "dot"'), "dot"),
        (lambda text: text.replace('"name": "rows.arrow"', '"name": "../rows.arrow"'), "can't be"),
        (None, "missing"),
    ],
)
def test_a_card_that_is_no_use_is_told_once_and_passed_over(
    store: IndexStore,
    data: Path,
    card_of: CardOf,
    write_base: Write,
    spec: CollectionSpec,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[str], str] | None,
    word: str,
) -> None:
    older = store.publish(card_of(1), write_base)
    path = home(data) / store.publish(card_of(2), write_base).build / "card.json"
    if change is None:
        path.unlink()
    else:
        changed = change(path.read_text())
        assert changed != path.read_text()
        # Else the sum would tell; a file that is cut off has none.
        path.write_text(summed(changed) if changed.endswith("}\n") else changed)
    with caplog.at_level(logging.WARNING):
        assert store.newest(COLLECTION, UID, spec) == older
        assert store.newest(COLLECTION, UID, spec) == older
    assert len(caplog.messages) == 1
    assert word in caplog.messages[0]
    assert f"{2:012d}-aa" in caplog.messages[0]


def test_a_build_of_another_space_is_not_this_ones(
    store: IndexStore, card_of: CardOf, spec: CollectionSpec
) -> None:
    store.publish(card_of(1), lambda _: None)
    for change in ({"space_id": "sp1-b"}, {"dim": 8}):
        assert store.newest(COLLECTION, UID, dataclasses.replace(spec, **change)) is None


def truncate(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def link(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to(path.with_name("aside"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("harm", "word"),
    [(truncate, "bytes, not"), (flip, "SHA-256"), (Path.unlink, "missing"), (link, "regular")],
)
def test_a_damaged_file_is_refused_and_named(
    store: IndexStore, card_of: CardOf, write_base: Write, name: str, harm: Callable[[Path], None], word: str
) -> None:
    card = store.publish(card_of(), write_base)
    harm(store.open(card) / name)
    with pytest.raises(IndexDamaged, match=f"{name} .*{word}.*build the index again") as caught:
        store.open(card)
    assert caught.value.reason == "index_damaged"


def test_a_build_that_is_gone_is_damaged(store: IndexStore, card_of: CardOf, write_base: Write) -> None:
    card = store.publish(card_of(), write_base)
    store.remove(card)
    with pytest.raises(IndexDamaged):
        store.open(card)


def test_what_fails_while_it_is_written_leaves_nothing(
    any_store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec, tmp_path: Path
) -> None:
    older = any_store.publish(card_of(1), write_base)
    before = names(tmp_path)

    def full(folder: Path) -> None:
        write_base(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match=r"index 000000000002-aa .*No space left.*Make room"):
        any_store.publish(card_of(2), full)
    assert any_store.newest(COLLECTION, UID, spec) == older
    assert names(tmp_path) == before


def test_what_cannot_be_moved_to_its_place_is_told(
    store: IndexStore, card_of: CardOf, spec: CollectionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(StorageError, match="No space left"):
            store.publish(card_of(), lambda _: None)
    assert store.newest(COLLECTION, UID, spec) is None


def test_options_are_kept_beside(any_store: IndexStore, card_of: CardOf) -> None:
    assert any_store.options(COLLECTION, UID) == IndexOptions()
    wished = IndexOptions(kind="hnsw", recall=0.95, k=5, memory_mb=100)
    any_store.set_options(COLLECTION, UID, wished)
    any_store.publish(card_of(), lambda _: None)
    any_store.drop(COLLECTION, UID)
    assert any_store.options(COLLECTION, UID) == wished
    any_store.drop(COLLECTION)
    assert any_store.options(COLLECTION, UID) == IndexOptions()


@pytest.mark.parametrize(
    "text", ["{", '{"schema_version": 1, "kind": "tree", "recall": 1, "k": 1, "memory_mb": 1}']
)
def test_options_that_are_none_are_refused(store: IndexStore, data: Path, text: str) -> None:
    store.set_options(COLLECTION, UID, IndexOptions())
    home(data).with_name(f"{UID}.options.json").write_text(text)
    with pytest.raises(IndexDamaged, match=r"indexes/flowers/0123abcd\.options\.json"):
        store.options(COLLECTION, UID)


def test_a_drop_leaves_no_file_with_rows(
    any_store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec, tmp_path: Path
) -> None:
    for version in (1, 2):
        any_store.open(any_store.publish(card_of(version), write_base))
    other = any_store.publish(card_of(1, collection="others"), write_base)
    any_store.drop(COLLECTION, UID)
    any_store.drop(COLLECTION, UID)
    assert any_store.newest(COLLECTION, UID, spec) is None
    assert not [name for name in names(tmp_path) if name.endswith(tuple(FILES)) and "others" not in name]
    assert any_store.open(other)
    any_store.drop("others")
    assert not [name for name in names(tmp_path) if name.endswith(tuple(FILES))]


def test_a_drop_takes_away_what_is_being_built(
    any_store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec, tmp_path: Path
) -> None:
    with any_store.scratch(COLLECTION, UID) as scratch:
        write_base(scratch)

        def moved(folder: Path) -> None:
            any_store.drop(COLLECTION, UID)
            assert not [name for name in names(tmp_path) if name.endswith(tuple(FILES))]
            (scratch / "vectors.f32").rename(folder / "vectors.f32")

        with pytest.raises(FailedPrecondition, match="was dropped while it was built"):
            any_store.publish(card_of(), moved)
    assert any_store.newest(COLLECTION, UID, spec) is None
    assert not [name for name in names(tmp_path) if name.endswith(tuple(FILES))]


def test_what_a_killed_drop_left_goes_with_the_next(
    store: IndexStore, data: Path, card_of: CardOf, write_base: Write
) -> None:
    store.publish(card_of(), write_base)
    home(data).rename(data / "indexes" / ".dropped-1")
    store.drop(COLLECTION, UID)
    assert names(data) == []


def test_a_sweep_removes_old_builds_leftovers_and_other_uids(
    any_store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec, tmp_path: Path
) -> None:
    old, kept, later = (any_store.publish(card_of(version), write_base) for version in (1, 2, 3))
    any_store.publish(card_of(9, uid="gone"), write_base)
    any_store.set_options(COLLECTION, "gone", IndexOptions())
    any_store.set_options(COLLECTION, UID, IndexOptions(k=7))
    with any_store.scratch(COLLECTION, UID) as scratch:
        (scratch / "vectors.f32").write_bytes(b"alive")
        any_store.sweep(COLLECTION, UID, keep=[kept.build], is_now=never)
        assert (scratch / "vectors.f32").read_bytes() == b"alive"
    assert any_store.newest(COLLECTION, UID, spec, at_most=1) is None
    assert any_store.newest(COLLECTION, UID, spec, at_most=2) == kept
    assert any_store.newest(COLLECTION, UID, spec) == later
    assert any_store.newest(COLLECTION, "gone", spec) is None
    assert any_store.options(COLLECTION, UID) == IndexOptions(k=7)
    assert not [name for name in names(tmp_path) if "gone" in name or old.build in name]


def test_a_sweep_tells_the_dead_from_the_living(store: IndexStore, data: Path) -> None:
    left = home(data) / ".building-1" / "files"
    left.mkdir(parents=True)
    (left / "vectors.f32").write_bytes(b"dead")
    with store.scratch(COLLECTION, UID) as scratch:
        store.sweep(COLLECTION, UID, keep=[], is_now=never)
        assert scratch.is_dir()
    assert list(home(data).iterdir()) == []


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".x", "a\0b"])
def test_names_do_not_leave_the_folder(
    any_store: IndexStore, spec: CollectionSpec, card_of: CardOf, tmp_path: Path, name: str
) -> None:
    calls: list[Callable[[str, str], Any]] = [
        lambda collection, uid: any_store.newest(collection, uid, spec),
        lambda collection, uid: any_store.open(card_of(collection=collection, uid=uid)),
        lambda collection, uid: any_store.publish(card_of(collection=collection, uid=uid), lambda _: None),
        any_store.drop,
        any_store.options,
        any_store.building,
        any_store.lease,
        any_store.scratch,
        lambda collection, uid: any_store.sweep(collection, uid, [], never),
        lambda collection, uid: any_store.set_options(collection, uid, IndexOptions()),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument):
            call(name, UID)
        with pytest.raises(InvalidArgument):
            call(COLLECTION, name)
    with pytest.raises(InvalidArgument):
        any_store.drop(name)
    assert names(tmp_path) == []


def test_a_build_that_would_leave_the_folder_is_no_card(card_of: CardOf) -> None:
    document = json.loads(card_json.dumps(card_of()))
    with pytest.raises(IndexDamaged):
        card_json.loads(json.dumps({**document, "build": "../../x"}))


def test_a_uri_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"'ftp://host/data'.*s3://"):
        IndexStore("ftp://host/data")


def test_a_file_uri_is_a_folder(data: Path, card_of: CardOf, spec: CollectionSpec) -> None:
    card = IndexStore(f"file://{data}").publish(card_of(), lambda _: None)
    assert IndexStore(data).newest(COLLECTION, UID, spec) == card
