"""The Collections servicer over a real workspace: what Add keeps, what Purge forgets, which columns are listed."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from trunkline_protos.v1 import collections_pb2, common_pb2, search_pb2
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.errors import InvalidArgument, StorageError
from trunkline_service.index import reading
from trunkline_service.index.options import IndexOptions
from trunkline_service.server.row_converters import value_to
from trunkline_service.server.servicers.collections import CollectionsServicer
from trunkline_service.server.servicers.search import SearchServicer
from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace

RNG = np.random.default_rng(3)
PIXELS = [RNG.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(4)]


class Context:
    """A call without a deadline, whose caller stays."""

    def time_remaining(self):
        return None

    def add_callback(self, function):
        return True


@pytest.fixture
def workspace(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    settings = Settings(
        models=str(tmp_path / "models"), data=str(tmp_path / "data"), default_model="tiny", device="cpu"
    )
    with Workspace(settings) as opened:
        yield opened


@pytest.fixture
def servicer(workspace):
    return CollectionsServicer(workspace)


@pytest.fixture
def add(servicer, png):
    """``add(("a", image, {said}), ...)`` is one Add of these items to ``c``; an image is a number or bytes."""

    def call(*items):
        request = collections_pb2.AddRequest(collection="c")
        for row_id, image, said in items:
            content = image if isinstance(image, bytes) else png(PIXELS[image])
            metadata = {name: value_to(value) for name, value in said.get("metadata", {}).items()}
            labels = common_pb2.Labels(labels=said["labels"]) if "labels" in said else None
            plain = {name: said[name] for name in ("label", "split", "source") if name in said}
            request.items.add(
                id=row_id, image=common_pb2.Image(encoded=content), labels=labels, metadata=metadata, **plain
            )
        return servicer.Add(request, Context())

    return call


@pytest.fixture
def stored(workspace):
    """``stored("a")``: (label, split, metadata) of a row of ``c``."""

    def read(row_id):
        row = workspace.collections.open("c").get([row_id])[0]
        return row.label, row.split, dict(row.metadata)

    return read


ALL = {"label": "x", "split": "train", "metadata": {"n": 1, "s": "one"}}


def test_what_an_add_says_is_stored(add, stored):
    add(("a", 0, ALL), ("b", 1, {}))
    assert stored("a") == ("x", "train", {"n": 1, "s": "one"})
    assert stored("b") == (None, None, {})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, ("x", "train", {"n": 1, "s": "one"})),
        ({"label": "y"}, ("y", "train", {"n": 1, "s": "one"})),
        ({"split": "test"}, ("x", "test", {"n": 1, "s": "one"})),
        ({"metadata": {"n": 2}}, ("x", "train", {"n": 2, "s": "one"})),
        ({"metadata": {"s": None}}, ("x", "train", {"n": 1})),
        (
            {"label": "y", "split": "test", "metadata": {"t": True}},
            ("y", "test", {"n": 1, "s": "one", "t": True}),
        ),
        ({"label": "y", "split": "test", "metadata": {"n": 2, "s": None}}, ("y", "test", {"n": 2})),
    ],
    ids=str,
)
def test_what_a_second_add_does_not_say_stays(add, stored, said, expected):
    add(("a", 0, ALL), ("other", 2, {"metadata": {"n": 7}}))
    add(("a", 1, said), ("new", 3, {}))
    assert stored("a") == expected
    assert stored("other") == (None, None, {"n": 7})
    assert stored("new") == (None, None, {})


@pytest.mark.parametrize(("before", "after"), [(0, 1), (b"bad", 1), (b"bad", b"worse"), (0, b"bad")])
def test_a_row_that_is_embedded_again_is_new_but_for_what_people_said(workspace, add, stored, before, after):
    add(("a", before, ALL))
    first = workspace.collections.open("c").get(["a"])[0]
    add(("a", after, {"split": "test"}))
    second = workspace.collections.open("c").get(["a"])[0]
    if (before, after) == (0, b"bad"):
        # A good row stays as it is.
        assert stored("a") == ("x", "train", {"n": 1, "s": "one"})
        assert (second.status, second.embedded_at) == ("ok", first.embedded_at)
    else:
        assert stored("a") == ("x", "test", {"n": 1, "s": "one"})
        assert second.embedded_at > first.embedded_at
        assert second.content_hash != first.content_hash


def test_rows_that_say_everything_are_not_looked_up(add, workspace, monkeypatch):
    add(("a", 0, ALL), ("b", 1, {}))
    asked = []
    find = Collection.find

    def watched(self, ids, version=None):
        asked.append(list(ids))
        return find(self, ids, version)

    monkeypatch.setattr(Collection, "find", watched)
    add(("a", 0, ALL), ("b", 1, {"label": "x", "split": "train"}))
    assert asked == [["b"]]


def test_tuples_of_labels_make_a_multi_label_collection(add, stored, workspace, png):
    add(("a", 0, {"labels": ["x", "y"]}), ("b", 1, {"labels": []}), ("c", 2, {}))
    add(("a", 0, {"split": "train"}))
    assert [stored(row_id)[0] for row_id in "abc"] == [("x", "y"), (), None]
    request = search_pb2.SearchRequest(collection="c", k=3, images=[common_pb2.Image(encoded=png(PIXELS[0]))])
    hits = {hit.id: hit for hit in SearchServicer(workspace).Search(request, Context()).results[0].hits}
    assert list(hits["a"].labels.labels) == ["x", "y"]
    assert [hits[row_id].HasField("labels") for row_id in "abc"] == [True, True, False]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([], [{"label": "x"}, {"labels": ["x"]}], "no collection holds both"),
        ([{"label": "x"}], [{}, {"labels": ["x"]}], "'r1'.*one label a row"),
        ([{"labels": []}], [{"label": "x"}], "'r0'.*lists of labels"),
        ([{"metadata": {"n": 1}}], [{"metadata": {"n": "one"}}], "'r0', column 'n'"),
        ([], [{"metadata": {"split": "x"}}], "'split' is a column of every collection"),
        ([], [{"metadata": {"n": float("nan")}}], "'r0', column 'n'.*no finite number"),
    ],
)
def test_what_a_row_can_not_hold_is_refused_and_nothing_is_stored(add, workspace, first, second, words):
    if first:
        add(*((f"r{index}", index, said) for index, said in enumerate(first)))
    with pytest.raises(InvalidArgument, match=words):
        add(*((f"r{index}", index, said) for index, said in enumerate(second)))
    if workspace.collections.exists("c"):
        assert workspace.collections.open("c").info().rows == len(first)


@pytest.fixture
def held(monkeypatch):
    """``held()``: how many of the segments that searches read are in memory."""
    made = []
    read = reading.whole

    def noted(*arguments):
        part = read(*arguments)
        made.append(weakref.ref(part.segment))
        return part

    def count():
        gc.collect()
        return sum(held() is not None for held in made)

    monkeypatch.setattr(reading, "whole", noted)
    return count


def purge(servicer, *ids, **options):
    request = collections_pb2.PurgeRequest(
        collection="c", ids=collections_pb2.Ids(ids=ids) if ids else None, **options
    )
    return servicer.Purge(request, Context())


def test_a_purge_leaves_nothing_in_memory(add, servicer, workspace, held):
    add(("a", 0, {}), ("b", 1, {}))
    workspace.search_ids("c", ["a"])
    assert held() == 1
    assert purge(servicer, "a").rows == 1
    assert held() == 0
    assert [hit.id for hit in workspace.search_ids("c", ["b"]).outcome.hits[0]] == []
    assert held() == 1
    condition = collections_pb2.Condition(where="id = ?", parameters=[value_to("b")])
    assert purge(servicer, condition=condition).rows == 1
    assert held() == 0


def test_a_purge_that_failed_forgets_what_it_may_have_deleted(add, servicer, workspace, held, monkeypatch):
    add(("a", 0, {}), ("b", 1, {}))
    workspace.search_ids("c", ["a"])

    def failing(self, *arguments, **options):
        self.delete(["a"])
        raise StorageError("others kept committing first")

    monkeypatch.setattr(Collection, "purge", failing)
    with pytest.raises(StorageError):
        purge(servicer, "a")
    assert held() == 0


def test_a_purge_is_exclusive_where_the_caller_says_so(add, servicer, workspace):
    add(("a", 0, {}), ("b", 1, {}))
    (data, *_others) = Path(workspace.collections.open("c").key, "data").iterdir()
    orphan = data.with_name("f" * 40 + ".lance")
    orphan.write_bytes(data.read_bytes())
    assert purge(servicer, "a").unowned_files == 1
    assert purge(servicer, "a", exclusive=True).unowned_files == 0
    assert not orphan.exists()


def test_a_version_is_described_with_its_own_columns(add, servicer):
    version = add(("a", 0, {"metadata": {"n": 1}})).collection_version
    add(("b", 1, {"metadata": {"later": "x"}}))

    def own(reference):
        found = servicer.GetCollection(collections_pb2.GetCollectionRequest(collection=reference), Context())
        return {column.name: column.type for column in found.columns if column.name not in COLUMNS}

    assert own("c") == {"n": "int64", "later": "string"}
    assert own(f"c@{version}") == {"n": "int64"}
    asked = collections_pb2.ScanRequest(collection=f"c@{version}")
    (batch,) = servicer.Scan(asked, Context())
    assert [(row.id, list(row.metadata)) for row in batch.rows] == [("a", ["n"])]


def test_dropping_deletes_the_indexes_too(servicer, workspace, add, tmp_path):
    add(("a", 0, ALL), ("b", 1, ALL))
    workspace.build_index("c", IndexOptions("flat"))
    assert (tmp_path / "data" / "indexes" / "c").exists()
    servicer.DropCollection(collections_pb2.DropCollectionRequest(collection="c"), Context())
    assert not (tmp_path / "data" / "indexes" / "c").exists()
