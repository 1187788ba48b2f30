"""Versions listed, tagged, restored, and told apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, InvalidArgument

SPEC = CollectionSpec(space_id="sp1-a", dim=2, model="tiny@1", artifact_id="ar1-a", decode="exact")


def far_ahead() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def collection(tmp_path: Any) -> Collection:
    return CollectionStore(tmp_path, clock=far_ahead).create("flowers", SPEC)


def write(collection: Collection, *names: str, label: str | None = None, **metadata: Any) -> int:
    rows = [Row(name, np.ones(2, np.float32), label=label, metadata=metadata) for name in names]
    return collection.upsert(rows, space_id="sp1-a", decode="exact")


def labels_of(collection: Collection, version: int | None = None) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for batch in collection.scan(["id", "label"], version=version):
        found |= dict(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))
    return found


def test_versions_are_listed_newest_first_with_their_rows_and_tags(collection: Collection) -> None:
    before = datetime.now(UTC)
    two = write(collection, "a", "b")
    collection.delete(["a"])
    collection.tag("b-alone")
    collection.tag("both", two)
    collection.tag("again", two)
    listed = collection.versions()
    assert [(info.version, info.rows, info.tags) for info in listed] == [
        (3, 1, ("b-alone",)), (2, 2, ("again", "both")), (1, 0, ()),
    ]  # fmt: skip
    for info in listed:
        assert info.created_at.utcoffset() == timedelta(0)
        assert abs(info.created_at - before) < timedelta(hours=1)


def test_tags_move_and_go(collection: Collection) -> None:
    two = write(collection, "a")
    three = write(collection, "b")
    assert collection.tags() == {}
    assert collection.tag("prod", two) == two
    assert collection.tag("prod") == three
    assert collection.tag("old", 1) == 1
    assert collection.tags() == {"old": 1, "prod": three}
    collection.untag("prod")
    assert collection.tags() == {"old": 1}
    with pytest.raises(CollectionNotFound, match="'flowers' has no tag 'prod'"):
        collection.untag("prod")
    with pytest.raises(InvalidArgument, match="no version 99"):
        collection.tag("prod", 99)


@pytest.mark.parametrize("name", ["", "7", "a b", "../x", ".x", "a..b", "x.lock", "x.", "é", "a" * 101])
def test_names_that_no_tag_can_have(collection: Collection, name: str) -> None:
    with pytest.raises(InvalidArgument, match="can't be a tag"):
        collection.tag(name)
    assert collection.tags() == {}


def test_an_old_version_becomes_the_latest_and_none_is_lost(collection: Collection) -> None:
    two = write(collection, "a", "b", label="rose")
    three = write(collection, "b", "c", label="lily", colour="red")
    four = collection.restore(two)
    assert (four, collection.version) == (three + 1, three + 1)
    assert labels_of(collection) == {"a": "rose", "b": "rose"}
    assert "colour" not in collection.columns()
    assert labels_of(collection, three) == {"a": "rose", "b": "lily", "c": "lily"}
    write(collection, "d", colour="blue")
    assert collection.get(["d"])[0].metadata == {"colour": "blue"}
    with pytest.raises(InvalidArgument, match="no version 99"):
        collection.restore(99)


def changed(collection: Collection, since: int) -> tuple[set[str], set[str]]:
    found = collection.changes(since)
    upserted = [name for batch in found.upserted(["id"]) for name in batch.column("id").to_pylist()]
    deleted = [name for ids in found.deleted() for name in ids]
    assert len(upserted) == len(set(upserted))
    assert len(deleted) == len(set(deleted))
    return set(upserted), set(deleted)


def test_every_kind_of_write_is_a_change(collection: Collection) -> None:
    base = write(collection, *"abcdefgh")
    write(collection, "a", label="new")
    collection.relabel({"b": "rose"})
    collection.relabel_where("lily", "id = 'c'")
    collection.delete(["d"])
    collection.delete_where("id = 'e'")
    collection.delete(["f"])
    write(collection, "f", "i", colour="red")
    write(collection, "j")
    collection.delete(["j"])
    assert changed(collection, base) == ({"a", "b", "c", "f", "i"}, {"d", "e"})
    assert changed(collection, 1) == (set("abcfghi"), set())
    assert changed(collection, collection.version) == (set(), set())


def test_compaction_changes_no_row(collection: Collection) -> None:
    base = write(collection, *"abc")
    write(collection, "a", "d")
    collection.delete(["b"])
    before = changed(collection, base)
    collection.compact()
    assert before == changed(collection, base) == ({"a", "d"}, {"b"})
    compacted = collection.version
    collection.compact()
    assert changed(collection, compacted) == (set(), set())


def test_changes_are_of_the_version_that_they_were_asked_for(collection: Collection) -> None:
    base = write(collection, "a", "b")
    write(collection, "a", label="first")
    found = collection.changes(base)
    write(collection, "a", "c", label="second")
    collection.delete(["b"])
    (batch,) = found.upserted(["label", "id"])
    assert (batch.to_pydict(), list(found.deleted())) == ({"label": ["first"], "id": ["a"]}, [])
    assert (found.since, found.version) == (base, base + 1)


@pytest.mark.parametrize("since", [0, -1, 99])
def test_changes_since_no_version_say_what_to_do(collection: Collection, since: int) -> None:
    with pytest.raises(InvalidArgument, match="export in full"):
        collection.changes(since)


def test_changes_since_a_removed_version_say_what_to_do(collection: Collection) -> None:
    base = write(collection, "a")
    write(collection, "b")
    collection.compact(timedelta(0))
    with pytest.raises(InvalidArgument, match=rf"no version {base}.*export in full"):
        collection.changes(base)


def test_changes_across_a_restoration_are_right_or_refused(collection: Collection) -> None:
    two = write(collection, "a", "b", label="old")
    three = write(collection, "b", "c", label="new")
    collection.delete(["a"])
    four = collection.version
    collection.restore(two)
    assert changed(collection, two) == (set(), set())
    for since in (three, four):
        with pytest.raises(InvalidArgument, match=rf"after version {since}.*export in full"):
            collection.changes(since)
    write(collection, "c")
    assert changed(collection, two) == ({"c"}, set())


operations = st.lists(
    st.tuples(
        st.sampled_from(["write", "relabel", "delete", "compact", "restore"]),
        st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True),
        st.integers(0, 30),
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations)
def test_a_copy_that_follows_the_changes_equals_the_collection(
    store: CollectionStore, done: list[tuple[str, list[str], int]]
) -> None:
    if store.exists("any"):
        store.drop("any")
    collection = store.create("any", SPEC)
    states: dict[int, dict[str, str | None]] = {1: {}}
    for number, (kind, names, chosen) in enumerate(done):
        if kind == "write":
            write(collection, *names, label=str(number))
        elif kind == "relabel":
            collection.relabel(dict.fromkeys(names, str(number)))
        elif kind == "delete":
            collection.delete(names)
        elif kind == "compact":
            collection.compact()
        else:
            collection.restore(1 + chosen % collection.version)
        states[collection.version] = labels_of(collection)
    restored = any(kind == "restore" for kind, *_ in done)
    for since, copy in states.items():
        try:
            found = collection.changes(since)
        except InvalidArgument:
            assert restored
            continue
        following = dict(copy)
        for ids in found.deleted():
            for name in ids:
                del following[name]
        for batch in found.upserted(["id", "label"]):
            following |= dict(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))
        assert following == labels_of(collection)


def test_columns_of_a_version(collection: Collection) -> None:
    first = write(collection, "a", n=1, s="one")
    write(collection, "a", later=True)
    assert list(collection.columns())[-3:] == ["n", "s", "later"]
    assert list(collection.columns(first))[-2:] == ["n", "s"]
    assert list(collection.columns(1))[-1] == "embedded_at"
    with pytest.raises(InvalidArgument, match="no version 99"):
        collection.columns(99)
