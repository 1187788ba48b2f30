"""Add, predict, search and the catalogue, over a real server and through both clients."""

from __future__ import annotations

import numpy as np
import pytest

import trunkline
from trunkline._wire import neighbours as neighbours_wire


def test_add_keeps_ids_labels_and_sources_with_their_images(fake, call, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"a")
    images = [path, b"b", tmp_path / "missing", b"bad", b"e"]
    result = call(
        fake,
        "add",
        "flowers",
        images,
        ["i0", "i1", "i2", "i3", "i4"],
        labels=["rose", None, "x", "y", "tulip"],
        client={"chunk_images": 2},
    )
    assert result.ids == ["i0", "i1", None, "i3", "i4"]
    assert [(f.index, f.reason) for f in result.errors] == [(2, "unreadable_file"), (3, "corrupt_image")]
    assert result.version == 3
    assert result.space_id == fake.space_id
    rows = {name: row for (_, name), row in fake.rows.items()}
    assert [rows[i].label if rows[i].HasField("label") else None for i in ("i0", "i1", "i4")] == [
        "rose",
        None,
        "tulip",
    ]
    assert [rows[i].source for i in ("i0", "i1")] == [str(path), ""]
    assert {r.collection for r in fake.requests} == {"flowers"}


def test_add_without_ids_leaves_them_to_the_server_and_is_idempotent(fake, call):
    first = call(fake, "add", "flowers", [b"a", b"b", b"a"])
    second = call(fake, "add", "flowers", [b"a", b"b", b"a"])
    assert first.ids == second.ids
    assert first.ids[0] == first.ids[2] != first.ids[1]
    assert len(fake.rows) == 2


def test_add_one_image_with_one_id_label_and_source(fake, call):
    result = call(fake, "add", "flowers", b"a", "mine", "rose", sources="here")
    assert result.ids == ["mine"]
    row = fake.rows["flowers", "mine"]
    assert (row.label, row.source) == ("rose", "here")


def test_add_says_split_and_metadata_of_each_image_and_labels_in_lists(fake, call):
    call(
        fake,
        "add",
        "flowers",
        [b"a", b"b", b"c"],
        ["a", "b", "c"],
        [("x", "y"), (), None],
        splits=["train", None, ""],
        metadata=[{"n": 1, "gone": None}, None, {"s": "é"}],
        client={"chunk_images": 1},
    )
    rows = {name: row for (_, name), row in fake.rows.items()}
    assert [list(rows[i].labels.labels) for i in "abc"] == [["x", "y"], [], []]
    assert [rows[i].HasField("labels") for i in "abc"] == [True, True, False]
    assert [rows[i].split if rows[i].HasField("split") else None for i in "abc"] == ["train", None, ""]
    kinds = [{name: value.WhichOneof("kind") for name, value in rows[i].metadata.items()} for i in "abc"]
    assert kinds == [{"n": "integer", "gone": None}, {}, {"s": "text"}]


def test_add_one_image_with_one_split_and_one_dict(fake, call):
    call(fake, "add", "flowers", b"a", "mine", splits="train", metadata={"n": 1})
    row = fake.rows["flowers", "mine"]
    assert (row.split, row.metadata["n"].integer) == ("train", 1)


def test_add_refuses_ids_twice_before_anything_is_sent(fake, call):
    with pytest.raises(trunkline.InvalidRequest, match="both 'x'"):
        call(fake, "add", "flowers", [b"a", b"b"], ["x", "x"])
    assert fake.requests == []


def test_add_nothing_is_nothing(fake, call):
    result = call(fake, "add", "flowers", [])
    assert (result.ids, result.version, result.model, len(result)) == ([], 0, None, 0)


def parity(content_sum: float) -> str:
    return "even" if content_sum % 2 == 0 else "odd"


def test_predict_images(fake, call, expected, tmp_path):
    images = [b"a", b"bad", tmp_path / "missing", b"d", b"e"]
    result = call(fake, "predict", images, head="h", client={"chunk_images": 2})
    wanted = [parity(expected(image).sum()) if image in (b"a", b"d", b"e") else None for image in images]
    assert result.labels == wanted
    assert result.classes == ("even", "odd")
    assert result.probabilities.shape == (5, 2)
    assert result.probabilities.dtype == np.float32
    assert np.isnan(result.probabilities[[1, 2]]).all()
    np.testing.assert_allclose(result.probabilities[[0, 3, 4]].sum(axis=1), 1)
    assert result.head == trunkline.HeadRef("h", 1, fake.space_id)
    assert [f.index for f in result.errors] == [1, 2]


def test_predict_vectors_equals_predict_images(fake, call):
    images = [b"a", b"bad", b"c", b"d"]
    vectors = call(fake, "embed", images)
    by_images = call(fake, "predict", images, head="h")
    by_vectors = call(fake, "predict", head="h", vectors=vectors)
    assert by_vectors.labels == by_images.labels
    np.testing.assert_array_equal(by_vectors.probabilities, by_images.probabilities)
    assert by_vectors.errors == by_images.errors
    request = fake.requests[-1]
    assert request.space_id == fake.space_id
    assert request.embeddings.count == 3


def test_predict_raw_vectors_in_requests_of_bounded_size(serve, call):
    fake = serve(max_images=7)
    vectors = np.arange(40, dtype=np.float64).reshape(20, 2)
    result = call(fake, "predict", head="h", vectors=vectors, space_id=fake.space_id)
    assert result.labels == [parity(row.sum()) for row in vectors]
    assert sorted(r.embeddings.count for r in fake.requests) == [6, 7, 7]
    one = call(fake, "predict", head="h", vectors=vectors[3], space_id=fake.space_id)
    assert one.labels == [parity(vectors[3].sum())]


def test_a_part_of_an_endless_embedding_can_be_predicted(fake, call):
    parts = call(fake, "embed_iter", [b"a", b"b", b"c", b"bad"], client={"chunk_images": 2})
    result = call(fake, "predict", head="h", vectors=parts[1])
    assert [f.index for f in result.errors] == [1]
    assert [label is None for label in result.labels] == [False, True]


def test_nothing_to_predict(fake, call):
    result = call(fake, "predict", [], head="h")
    assert (result.labels, result.probabilities.shape, result.head) == ([], (0, 0), None)
    result = call(fake, "predict", head="h", vectors=np.empty((0, 8)), space_id="s")
    assert result.labels == []


def test_search_by_images_vectors_and_ids_gives_lists_a_query(fake, call, expected, tmp_path):
    images = [b"a", b"bad", tmp_path / "missing", b"d"]
    names = [str(int(expected(image)[0])) for image in (b"a", b"d")]
    result = call(fake, "search", "flowers", images, k=2, where="label = 'x'", client={"chunk_images": 3})
    assert result.ids == [[f"{names[0]}-0", f"{names[0]}-1"], [], [], [f"{names[1]}-0", f"{names[1]}-1"]]
    assert result.scores[0] == [1.0, 0.75]
    assert result.labels[0] == ["rose", None]
    assert result.sources[0] == ["0.jpg", "1.jpg"]
    assert [f.index for f in result.errors] == [1, 2]
    assert (result.version, result.metric, result.space_id) == (5, "cosine", fake.space_id)
    assert fake.requests[0].where == "label = 'x'"

    vectors = call(fake, "embed", [b"a", b"d"])
    by_vectors = call(fake, "search", "flowers", vectors=vectors, k=2)
    assert by_vectors.ids == [result.ids[0], result.ids[3]]

    by_ids = call(fake, "search", "flowers", ids=["p", "q"], k=1)
    assert by_ids.ids == [["p-0"], ["q-0"]]
    assert by_ids.inputs == ["p", "q"]
    assert call(fake, "search", "flowers", ids="p", k=1).ids == [["p-0"]]
    assert call(fake, "search", "flowers", ids=[]).ids == []


def test_search_of_a_multi_label_collection_gives_tuples(fake, call):
    fake.multi_label = True
    result = call(fake, "search", "flowers", ids=["p"], k=3)
    assert result.labels == [[("rose", "red"), (), None]]


def test_search_keeps_replies_small(fake, call, monkeypatch):
    monkeypatch.setattr(neighbours_wire, "_MAX_HITS_PER_REPLY", 12)
    result = call(fake, "search", "flowers", ids=[str(i) for i in range(10)], k=4)
    assert [hits[0] for hits in result.ids] == [f"{i}-0" for i in range(10)]
    assert max(len(r.ids) for r in fake.requests) == 3


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("predict", {"head": "h"}, "none of them"),
        ("predict", {"images": b"a"}, "head= for one head or heads= for several"),
        ("predict", {"images": b"a", "head": "h", "heads": ["h"]}, "not both"),
        ("predict", {"images": b"a", "heads": "h"}, r"heads is the text 'h'; pass a list of names: \['h'\]"),
        ("predict", {"images": b"a", "heads": []}, "at least one head"),
        ("predict", {"ids": ["a"], "head": "h"}, "ids and collection= go together"),
        ("predict", {"images": b"a", "collection": "c", "head": "h"}, "ids and collection= go together"),
        ("predict", {"images": b"a", "head": "h", "top_k": 0}, "top_k is 0"),
        ("predict", {"images": b"a", "head": "h", "neighbours": "c", "k": 0}, "k is 0"),
        ("promote_head", {"name": "h", "version": 0}, "version is 0"),
        ("promote_head", {"name": "h", "version": True}, "version is True"),
        ("set_head_alias", {"alias": "flowers", "version": 1}, "NAME@WORD"),
        ("fit_head", {"collection": "c", "name": "h", "folds": "five"}, "folds is 'five'"),
        ("fit_head", {"collection": "c", "name": "h", "grid": ["a"]}, r"grid is \['a'\]"),
        ("predict", {"head": "h", "images": b"a", "vectors": [[1.0]]}, "images and vectors"),
        ("predict", {"head": "h", "vectors": [[1.0]]}, "space_id="),
        ("predict", {"head": "h", "vectors": [["a"]], "space_id": "s"}, r"\(N, dim\)"),
        ("predict", {"head": "h", "vectors": [[1.0], [1.0, 2.0]], "space_id": "s"}, r"\(N, dim\)"),
        ("predict", {"head": "h", "vectors": np.ones((1, 1, 1)), "space_id": "s"}, r"\(1, 1, 1\)"),
        ("search", {"collection": "c"}, "images, vectors, ids"),
        ("search", {"collection": "c", "ids": ["a"], "images": b"a"}, "images and ids"),
        ("search", {"collection": "c", "ids": ["a", 7]}, r"ids\[1\]"),
        ("search", {"collection": "c", "ids": ["a"], "k": 0}, "k is 0"),
        ("search", {"collection": "c", "ids": ["a"], "lane": "slow"}, "lane"),
        ("search", {"collection": "c", "ids": ["a"], "where": 5}, "where is 5; it must be text"),
        ("search", {"collection": "c", "ids": ["a"], "where": " "}, "where is empty"),
        ("search", {"collection": "c", "ids": ["a"], "parameters": 2000}, r"pass a list of values: \[2000\]"),
        ("duplicates", {"collection": "c", "where": ""}, "where is empty"),
        ("outliers", {"collection": "c", "where": 5}, "where is 5"),
        ("clusters", {"collection": "c", "where": ""}, "where is empty"),
        ("map", {"collection": "c", "where": ""}, "where is empty"),
    ],
)
def test_arguments_that_contradict_are_refused_here(fake, call, method, arguments, words):
    with pytest.raises(trunkline.InvalidRequest, match=words):
        call(fake, method, **arguments)
    assert fake.requests == []


def test_vectors_of_another_space_than_said_are_refused_here(fake, call):
    vectors = call(fake, "embed", b"a")
    with pytest.raises(trunkline.SpaceMismatch, match="sp1-other"):
        call(fake, "predict", head="h", vectors=vectors, space_id="sp1-other")


def test_the_catalogue(fake, call):
    (model,) = call(fake, "models")
    assert model == call(fake, "model") == call(fake, "model", "fake@3")
    assert (str(model), model.card, model.dim, model.is_default) == ("fake@3", {"a": 1}, 8, True)
    (collection,) = call(fake, "collections")
    assert collection == call(fake, "collection", "flowers")
    assert (collection.rows, collection.labels) == (3, {"rose": 2})
    (head,) = call(fake, "heads")
    assert (str(head), head.classes, head.card) == ("flowers@1", ("a", "b"), {})
    assert head == call(fake, "head", "flowers")
    info = call(fake, "server_info")
    assert (info.max_message_bytes, info.device) == (fake.max_message_bytes, "cpu")
    hash((model, collection, head, info))


def test_a_model_that_is_not_there(fake, call):
    with pytest.raises(trunkline.NotFound, match="no model 'x'") as caught:
        call(fake, "model", "x")
    assert (caught.value.reason, caught.value.items) == ("model_not_found", None)
