"""Images that a program gives, and those that a collection recorded."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import ImageTooLarge, InvalidArgument, UnreadableFile
from trunkline_service.jobs.sources import GivenSource
from trunkline_service.jobs.sources.recorded import RecordedSource
from trunkline_service.jobs.sources.seen import SeenIds

LIMIT = 1000
IMAGES = [
    ("a", b"1", {"label": "x", "split": "train", "k": 1}),
    ("b", bytearray(b"22"), {"label": ["x", "y"]}),
    ("c", memoryview(b"3"), None),
]


def test_images_that_are_given():
    source = GivenSource(IMAGES, id_prefix="p/")
    a, b, c = source.items()
    # Another one's label is a list.
    assert source.multi_label
    assert (a.id, a.label, a.split, a.metadata, a.size) == ("p/a", ("x",), "train", {"k": 1}, 1)
    assert (b.label, b.read(LIMIT), c.read(LIMIT)) == (("x", "y"), b"22", b"3")
    # Nothing but their bytes tells one from what took its place.
    assert a.etag == hashlib.sha256(b"1").hexdigest()
    assert a.source == ""
    assert not source.covers("p/a", "")
    assert not GivenSource(IMAGES[:1]).multi_label
    with pytest.raises(ImageTooLarge):
        b.read(1)
    assert source.describe() == "3 images; 2 labels given (x, y); splits train 1"
    assert [item.id for item in GivenSource(lambda: iter(IMAGES)).items()] == ["a", "b", "c"]


def test_an_iterator_is_listed_once():
    source = GivenSource(iter(IMAGES))
    assert source.describe() == "images from an iterator"
    assert len(list(source.items())) == 3
    with pytest.raises(InvalidArgument, match="listed before"):
        list(source.items())


def test_an_id_that_was_given_before_is_left_out():
    source = GivenSource([("a", b"1", {}), ("b", b"2", {}), ("a", b"3", {})])
    assert [(item.id, item.read(LIMIT)) for item in source.items()] == [("a", b"1"), ("b", b"2")]
    assert source.problems() == (
        "id 'a' comes twice; the later image was left out: give it an id of its own",
    )


def test_every_id_that_comes_again_is_found(monkeypatch):
    ids = [f"image {number}" for number in range(5000)]
    seen = SeenIds()
    assert all(map(seen.add, ids))
    assert not any(map(seen.add, ids))
    assert len(seen) == 5000
    # The hash that is the mark of a free slot, and hashes that want one slot.
    monkeypatch.setattr(
        "trunkline_service.jobs.sources.seen.hash", lambda text: len(text) * 2**20, raising=False
    )
    few = SeenIds()
    assert [few.add(text) for text in ("", "a", "bb", "a", "", "bb")] == [True] * 3 + [False] * 3


def test_what_is_remembered_of_ids_is_small():
    seen = SeenIds()
    for number in range(60_000):
        seen.add(str(number))
    # 20 million of them within 1 GB, with the copy that is made while it grows.
    assert len(seen._slots) * seen._slots.itemsize * 1.5 / len(seen) < 50


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("a", b""), "image 0 is not a tuple"),
        ((1, b"", {}), "has the id 1"),
        (("", b"", {}), "has the id ''"),
        (("a", "text", {}), "image 'a' is str; give the bytes"),
        (("a", b"", {"label": 3}), "its label is 3"),
        (("a", b"", {"split": 3}), "its split is 3"),
        (("a", b"", {"k": [1]}), "'k' is list"),
    ],
)
def test_what_can_not_be_an_image_is_refused(given, said):
    with pytest.raises(InvalidArgument, match=said):
        list(GivenSource([given]).items())


def test_no_image_at_all_is_refused():
    with pytest.raises(InvalidArgument, match="no image was given"):
        list(GivenSource([]).items())


def test_recorded_sources_are_read_again(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"one")
    spec = CollectionSpec(space_id="sp1-a", dim=4, model="tiny@1", artifact_id="ar1-a", decode="exact")
    collection = CollectionStore(str(tmp_path / "data")).create("old", spec)
    with pytest.raises(InvalidArgument, match="collection 'old' has no rows"):
        list(RecordedSource(collection).items())
    vector = np.ones(4, np.float32)
    collection.upsert(
        [
            Row(
                "1",
                vector,
                label="a",
                split="train",
                source=str(tmp_path / "1.jpg"),
                etag="e",
                size=3,
                mtime=1.5,
                job="j",
                metadata={"w": 3},
            ),
            Row("2", None, status="error", error="unreadable_file: x", metadata={"w": None}),
            Row("3", vector, source=str(tmp_path / "1.jpg")),
        ],
        space_id="sp1-a",
        decode="exact",
    )
    source = RecordedSource(collection)
    one, two, three = sorted(source.items(), key=lambda item: item.id)
    assert (one.label, one.split, one.etag, one.size, one.mtime) == ("a", "train", "e", 3, 1.5)
    # A null says nothing.
    assert (one.metadata, two.metadata) == ({"w": 3}, {})
    assert one.read(LIMIT) == b"one"
    with pytest.raises(UnreadableFile, match="its source was not recorded"):
        two.read(LIMIT)
    # Whoever wrote this row by a request could have named any file of the operator's.
    with pytest.raises(
        UnreadableFile, match="recorded by a caller, not by a job; embed it from its own source"
    ):
        three.read(LIMIT)
    assert pickle.loads(pickle.dumps(three)).source == f"{tmp_path}/1.jpg"
    assert not source.covers(one.id, one.source)
    assert not source.multi_label
    assert source.describe() == "3 images; 1 labels from the collection (a); splits train 1"


def test_lists_of_labels_are_recorded_as_such(tmp_path):
    spec = CollectionSpec(
        space_id="sp1-a", dim=4, model="tiny@1", artifact_id="ar1-a", decode="exact", multi_label=True
    )
    collection = CollectionStore(str(tmp_path / "data")).create("many", spec)
    rows = [Row("1", np.ones(4, np.float32), label=("a", "b")), Row("2", np.ones(4, np.float32))]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    source = RecordedSource(collection)
    assert source.multi_label
    assert {item.id: item.label for item in source.items()} == {"1": ("a", "b"), "2": None}
