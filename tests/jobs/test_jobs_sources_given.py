"""Images that a program gives, and those that a collection recorded."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import ImageTooLarge, InvalidArgument, UnreadableFile
from trunkline_service.jobs.sources import GivenSource
from trunkline_service.jobs.sources.recorded import RecordedSource

LIMIT = 1000
IMAGES = [
    ("a", b"1", {"label": "x", "split": "train", "k": 1}),
    ("b", bytearray(b"22"), {"label": ["x", "y"]}),
    ("c", memoryview(b"3"), None),
]


def test_images_that_are_given():
    source = GivenSource(IMAGES, id_prefix="p/")
    a, b, c = source.items()
    assert (a.id, a.label, a.split, a.metadata, a.size) == ("p/a", "x", "train", {"k": 1}, 1)
    assert (b.label, b.read(LIMIT), c.read(LIMIT)) == (("x", "y"), b"22", b"3")
    # Nothing but their bytes tells one from what took its place.
    assert a.etag == hashlib.sha256(b"1").hexdigest()
    assert a.source == ""
    assert not source.covers("")
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
                metadata={"w": 3},
            ),
            Row("2", None, status="error", error="unreadable_file: x", metadata={"w": None}),
        ],
        space_id="sp1-a",
        decode="exact",
    )
    source = RecordedSource(collection)
    one, two = sorted(source.items(), key=lambda item: item.id)
    assert (one.label, one.split, one.etag, one.size, one.mtime) == ("a", "train", "e", 3, 1.5)
    assert (one.metadata, two.metadata) == ({"w": 3}, {"w": None})
    assert one.read(LIMIT) == b"one"
    with pytest.raises(UnreadableFile, match="its source was not recorded"):
        two.read(LIMIT)
    assert source.describe() == "2 images; 1 labels from the collection (a); splits train 1"
