"""Hits that carry columns of their rows, of the version that was searched."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from trunkline_service.collections import columns as reading
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import Cancelled, FailedPrecondition, InvalidArgument, StorageError
from trunkline_service.index.query import SearchOptions

SPACE = "declared:mine"
SEEN = datetime(2026, 1, 2, 3, tzinfo=UTC)


def rows(names, price=1.0, **values):
    return [
        Row(
            name,
            np.array([1.0, index, 0.0], np.float32),
            label="x",
            source=f"{name}.jpg",
            decode="unknown",
            metadata={"price": price * index, "camera": None if index % 2 else f"c{index}", **values},
        )
        for index, name in enumerate(names)
    ]


@pytest.fixture
def photos(workspace):
    made = workspace.collections.create("photos", CollectionSpec(SPACE, 3, "", "", "unknown", declared=True))
    made.upsert(rows("abcd", seen=SEEN, good=True, count=7), space_id=SPACE, decode=None)
    return made


def search(workspace, *columns, reference="photos", **options):
    query = np.array([[1, 0, 0]], np.float32)
    found = workspace.search_vectors(reference, query, SPACE, SearchOptions(columns=columns, **options))
    (hits,) = found.outcome.hits
    return hits


def test_each_hit_carries_what_was_asked_for_with_its_type(workspace, photos):
    hits = search(workspace, "count", "price", "camera", "seen", "good", "label", "source", k=2)
    own = {"count": 7, "seen": SEEN, "good": True, "label": "x"}
    assert [hit.metadata for hit in hits] == [
        own | {"price": 0.0, "camera": "c0", "source": "a.jpg"},
        own | {"price": 1.0, "camera": None, "source": "b.jpg"},
    ]
    assert list(hits[0].metadata) == ["count", "price", "camera", "seen", "good", "label", "source"]
    assert [dict(hit.metadata) for hit in search(workspace)] == [{}] * 4


def test_by_ids_too_and_with_groups_and_folded_rows(workspace, photos):
    options = SearchOptions(columns=("price",), k=1, group_by="label", collapse=-1.0)
    (hits,) = workspace.search_ids("photos", ["d"], options).outcome.hits
    assert [(hit.id, hit.metadata, set(hit.duplicates)) for hit in hits] == [
        ("c", {"price": 2.0}, {"a", "b"})
    ]


def test_rows_are_found_among_deleted_and_rewritten_ones(workspace, photos):
    names = [f"r{index:03d}" for index in range(300)]
    photos.upsert(rows(names), space_id=SPACE, decode=None)
    photos.delete([*names[::3], "a"])
    photos.upsert(rows(names[1::3], price=2.0), space_id=SPACE, decode=None)
    photos.compact(keep=None)
    photos.delete(names[2:60:3])
    stored = photos.fragments()
    expected = {row.id: {"price": row.metadata["price"]} for row in photos.find([*names, *"abcd"]).values()}
    assert len(expected) == 183
    assert reading.values_by_id(stored, [*names, *"abcd"], ["price"], lambda: False) == expected
    assert reading.values_by_id(stored, [], ["price"], lambda: False) == {}
    hits = search(workspace, "price", k=1000)
    assert {hit.id: dict(hit.metadata) for hit in hits} == expected


def test_values_are_of_the_version_that_was_searched(workspace, photos, monkeypatch):
    before = photos.version
    search_ = workspace._indexes.search

    def and_then_another_write(*args, **kwargs):
        outcome = search_(*args, **kwargs)
        photos.upsert(rows("abcd", price=100.0), space_id=SPACE, decode=None)
        return outcome

    monkeypatch.setattr(workspace._indexes, "search", and_then_another_write)
    assert [hit.metadata["price"] for hit in search(workspace, "price")] == [0, 1, 2, 3]
    monkeypatch.undo()
    assert [hit.metadata["price"] for hit in search(workspace, "price")] == [0, 100, 200, 300]
    old = search(workspace, "price", reference=f"photos@{before}")
    assert [hit.metadata["price"] for hit in old] == [0, 1, 2, 3]


def test_a_version_that_was_removed_meanwhile_is_searched_anew(workspace, photos, monkeypatch):
    fragments, gone = Collection.fragments, []

    def removed_once(self, version=None):
        if version is not None and not gone:
            gone.append(version)
            raise InvalidArgument(f"collection 'photos' has no version {version} (any more)")
        return fragments(self, version)

    monkeypatch.setattr(Collection, "fragments", removed_once)
    assert [hit.metadata["price"] for hit in search(workspace, "price")] == [0, 1, 2, 3]
    assert gone == [photos.version]


def test_rows_of_another_collection_of_the_name_are_not_given(workspace, photos, monkeypatch):
    search_ = workspace._indexes.search

    def and_then_another(*args, **kwargs):
        outcome = search_(*args, **kwargs)
        workspace.collections.drop("photos")
        spec = CollectionSpec(SPACE, 3, "", "", "unknown", declared=True)
        made = workspace.collections.create("photos", spec)
        made.upsert(rows("wxyz"), space_id=SPACE, decode=None)
        return outcome

    monkeypatch.setattr(workspace._indexes, "search", and_then_another)
    with pytest.raises((FailedPrecondition, StorageError)) as caught:
        search(workspace, "price")
    assert "search again" in str(caught.value)


@pytest.mark.parametrize("reference", ["photos", "photos@2"])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["prize"], "no column 'prize'; the columns are id, label, .*price"),
        (["price", "embedding"], "hits carry no vectors"),
        (["price", "price"], "'price' twice"),
        (["_rowid"], "no column '_rowid'"),
    ],
)
def test_columns_that_can_not_be_given_are_refused(workspace, photos, columns, words, reference):
    with pytest.raises(InvalidArgument, match=words):
        search(workspace, *columns, reference=reference)
    with pytest.raises(InvalidArgument, match=words):
        workspace.search_ids(reference, ["a"], SearchOptions(columns=tuple(columns)))


def test_columns_are_refused_before_an_image_is_embedded(workspace, store_rows, image, monkeypatch):
    store_rows("shades")
    found = workspace.search("shades", [image(3)], SearchOptions(columns=("price",)))
    assert all(isinstance(hit.metadata["price"], float) for hit in found.outcome.hits[0])

    def embed(*_args, **_kwargs):
        raise AssertionError("an image was embedded")

    monkeypatch.setattr(workspace._searching._embedder, "embed_for", embed)
    with pytest.raises(InvalidArgument, match="no column 'prize'"):
        workspace.search("shades", [image(3)], SearchOptions(columns=("prize",)))
    with pytest.raises(InvalidArgument, match="cosines are at most 1"):
        workspace.search("shades", [image(3)], SearchOptions(min_score=1.5))


def test_the_labels_of_a_multi_label_collection_are_not_asked_for_twice(workspace):
    spec = CollectionSpec(SPACE, 3, "", "", "unknown", declared=True, multi_label=True)
    workspace.collections.create("tagged", spec)
    with pytest.raises(InvalidArgument, match="hits carry their labels anyway"):
        search(workspace, "label", reference="tagged")


@pytest.mark.parametrize("queries", [1, 3])
def test_more_than_a_reply_holds_is_refused(workspace, photos, monkeypatch, queries):
    # Of one query the text is read at once, of several it is given more than once.
    photos.upsert(rows("e", note="n" * 1000), space_id=SPACE, decode=None)
    monkeypatch.setattr(reading, "MOST_VALUE_BYTES", 900 if queries == 1 else 2500)
    monkeypatch.setattr("trunkline_service.workspace.hit_columns.MOST_VALUE_BYTES", 2500)
    vectors = np.ones((queries, 3), np.float32)
    with pytest.raises(
        InvalidArgument, match="name fewer columns, send fewer queries, or ask for a smaller k"
    ):
        workspace.search_vectors("photos", vectors, SPACE, SearchOptions(columns=("note",)))


def test_reading_ends_with_the_caller(workspace, photos):
    with pytest.raises(Cancelled):
        reading.values_by_id(photos.fragments(), ["a"], ["price"], lambda: True)
