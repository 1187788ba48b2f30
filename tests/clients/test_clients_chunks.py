"""The laws of chunking, for images that are pushed and for rows that are sliced."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline._wire import floats
from trunkline._wire.add import AddJob
from trunkline._wire.chunks import Chunk, Columns, Feed, Limits, columns, slices
from trunkline._wire.items import Item, Unsendable
from trunkline._wire.scalars import value_to
from trunkline.exceptions import Internal, InvalidRequest
from trunkline.values import ItemFailure
from trunkline_protos.v1 import collections_pb2

items = st.builds(Item, st.binary(max_size=300), source=st.text(max_size=20))
refused = st.builds(Unsendable, st.text(max_size=5), st.just("reason"), st.just("message"))
entries = st.lists(st.one_of(items, refused), max_size=60)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
).map(lambda value: value_to(value, "here"))
limits = st.builds(
    lambda most, extra, count: Limits(bytes=most, item_bytes=most + extra, count=count),
    st.integers(1, 2000),
    st.integers(0, 500),
    st.integers(1, 12),
)


def feed_all(limit: Limits, inputs, said: Columns | None = None) -> list[Chunk]:
    feed = Feed(limit, said)
    pushed = [feed.push(entry) for entry in inputs]
    return [chunk for chunk in [*pushed, feed.finish()] if chunk is not None]


@given(entries, limits)
def test_chunks_together_are_the_input(inputs, limit):
    chunks = feed_all(limit, inputs)
    flat: list[object] = [None] * len(inputs)
    for chunk in chunks:
        assert len(chunk) > 0
        for row, item in zip(chunk.rows, chunk.payload, strict=True):
            flat[chunk.start + row] = item
        for failure in chunk.failures:
            flat[failure.index] = failure
    assert [chunk.start for chunk in chunks] == list(np.cumsum([0, *map(len, chunks)]))[: len(chunks)]
    for entry, got in zip(inputs, flat, strict=True):
        if isinstance(entry, Item) and entry.wire_bytes <= limit.item_bytes:
            assert got == entry
        else:
            assert isinstance(got, ItemFailure)
            assert got.source == entry.source


@given(entries, limits)
def test_a_chunk_is_within_the_limits_unless_one_item_alone_is_larger(inputs, limit):
    for chunk in feed_all(limit, inputs):
        sizes = [item.wire_bytes for item in chunk.payload]
        assert len(chunk) <= limit.count
        assert sum(sizes) <= limit.bytes or len(sizes) == 1
        assert all(size <= limit.item_bytes for size in sizes)


@given(entries, limits)
def test_no_chunk_could_have_taken_the_next_item(inputs, limit):
    chunks = feed_all(limit, inputs)
    for chunk, after in itertools.pairwise(chunks):
        size = sum(item.wire_bytes for item in chunk.payload)
        first = after.payload[0].wire_bytes if after.rows[:1] == [0] else 0
        assert len(chunk) == limit.count or size + first > limit.bytes


@given(st.lists(st.one_of(items, refused), max_size=20))
def test_a_full_chunk_is_handed_out_without_waiting_for_the_next_input(inputs):
    feed = Feed(Limits(bytes=10**6, item_bytes=10**6, count=3))
    for number, entry in enumerate(inputs, start=1):
        assert (feed.push(entry) is not None) == (number % 3 == 0)


@given(
    st.binary(max_size=200_000),
    st.text(max_size=40),
    st.text(max_size=40),
    st.one_of(st.none(), st.text(max_size=40), st.lists(st.text(max_size=40), max_size=30).map(tuple)),
    st.one_of(st.none(), st.text(max_size=40)),
    st.dictionaries(st.text(max_size=20), values, max_size=20),
    st.one_of(st.none(), st.tuples(st.integers(1, 9000), st.integers(1, 9000), st.just(3))),
)
def test_an_item_never_adds_more_to_a_request_than_it_says(
    content, source, name, label, split, metadata, shape
):
    item = Item(content, shape, source, name, label, split, metadata)
    job = AddJob("flowers", "fake@1", "interactive")
    request = job.base()
    job.fill(request, Chunk(0, [source], [0], [item]))
    assert isinstance(request, collections_pb2.AddRequest)
    assert request.ByteSize() - job.base().ByteSize() <= item.wire_bytes


def test_ids_labels_and_sources_travel_with_their_images():
    inputs = [Item(b"0"), Unsendable("p", "reason", "message"), Item(b"2", source="path")]
    said = Columns(ids=iter("abc"), labels=[None, "x", "y"], sources=["s0", "s1", "s2"])
    (chunk,) = feed_all(Limits(10**6, 10**6, 10), inputs, said)
    assert [(i.id, i.label, i.source) for i in chunk.payload] == [("a", None, "s0"), ("c", "y", "s2")]
    assert [(f.index, f.source) for f in chunk.failures] == [(1, "s1")]


def test_splits_metadata_and_lists_of_labels_travel_with_their_images():
    inputs = [Item(b"0"), Unsendable("p", "reason", "message"), Item(b"2"), Item(b"3")]
    own = {"n": 1}
    metadata = iter([own, {"n": 2}, None, {}])
    said = Columns(labels=[("x", "y"), None, [], None], splits=["train", "test", None, ""], metadata=metadata)
    feed = Feed(Limits(10**6, 10**6, 10), said)
    feed.push(inputs[0])
    # An item is a snapshot.
    own["n"] = 7
    for entry in inputs[1:]:
        feed.push(entry)
    chunk = feed.finish()
    assert [(i.label, i.split) for i in chunk.payload] == [(("x", "y"), "train"), ((), None), (None, "")]
    assert [dict(i.metadata) for i in chunk.payload] == [{"n": value_to(1, "here")}, {}, {}]


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_or_too_many_ids_are_refused_even_from_iterators(count):
    with pytest.raises(InvalidRequest, match="ids has"):
        feed_all(Limits(10**6, 10**6, 10), [Item(b"0"), Item(b"1")], Columns(ids=iter("abcd"[:count])))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"ids": ["a"]}, "ids has 1 entries for 2 images"),
        ({"labels": ["a", "b", "c"]}, "labels has 3 entries for 2 images"),
        ({"ids": ["a", "a"]}, r"ids\[0\] and ids\[1\] are both 'a'"),
        ({"ids": "a"}, "1 entries for 2"),
        ({"splits": "train"}, "splits has 1 entries for 2"),
        ({"metadata": {"n": 1, "m": 2}}, "metadata has 1 entries for 2"),
    ],
)
def test_what_can_be_counted_is_checked_before_anything_is_sent(named, words):
    given_ = {"ids": None, "labels": None, "sources": None} | named
    with pytest.raises(InvalidRequest, match=words):
        columns([b"0", b"1"], **given_)


def test_empty_ids_may_repeat_for_they_ask_for_a_hash():
    assert columns([b"0", b"1"], ["", ""], None, None).ids == ["", ""]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ids", 7),
        ("ids", None),
        ("labels", 7),
        ("labels", ("x", 7)),
        ("labels", "\ud800"),
        ("sources", b"x"),
        ("splits", 7),
        ("metadata", "n"),
        ("metadata", [("n", 1)]),
        ("metadata", {7: 1}),
        ("metadata", {"n": object()}),
        ("metadata", {"n": datetime(2026, 1, 1)}),
    ],
)
def test_entries_that_can_not_be_sent_are_named(name, value):
    with pytest.raises(InvalidRequest, match=rf"{name}\[0\]"):
        feed_all(Limits(10**6, 10**6, 10), [Item(b"0")], Columns(**{name: [value]}))


@given(st.integers(0, 40), st.sets(st.integers(0, 39)), st.integers(1, 9))
def test_slices_together_are_the_rows(count, failed, most):
    matrix = np.arange(count, dtype=np.float32)[:, None]
    failures = [ItemFailure(i, "", "r", "m") for i in sorted(failed) if i < count]
    chunks = list(slices(matrix, [""] * count, failures, most))
    sent = [float(row[0]) for chunk in chunks for row in chunk.payload]
    where = [chunk.start + row for chunk in chunks for row in chunk.rows]
    assert sent == where == [i for i in range(count) if i not in failed]
    assert [f for chunk in chunks for f in chunk.failures] == failures
    assert all(len(chunk) <= most for chunk in chunks)


@given(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["<f4", "<f2", ">f4", "f8"]))
def test_packed_floats_come_back(count, dim, dtype):
    from trunkline_protos.v1 import common_pb2

    matrix = np.random.default_rng(0).normal(size=(count, dim)).astype(dtype)
    message = common_pb2.Embeddings()
    floats.pack(matrix, message)
    back = floats.unpack(message, count)
    assert back.dtype == (np.float16 if dtype == "<f2" else np.float32)
    np.testing.assert_array_equal(back, matrix.astype(back.dtype))


@pytest.mark.parametrize("change", [{"count": 3}, {"dim": 5}, {"data": b"x"}, {"type": 9}])
def test_a_reply_that_contradicts_itself_is_refused(change):
    from trunkline_protos.v1 import common_pb2

    message = common_pb2.Embeddings(**({"count": 2, "dim": 1, "data": bytes(8)} | change))
    with pytest.raises(Internal, match="reply"):
        floats.unpack(message, 2)
