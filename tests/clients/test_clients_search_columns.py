"""Hits with columns of their rows, over a fake server and through both clients."""

from __future__ import annotations

import numpy as np
import pytest

import trunkline
from trunkline._wire import neighbours as neighbours_wire
from trunkline._wire.search import Wishes
from trunkline.index import Recall
from trunkline_service.errors import InvalidArgument
from trunkline_service.index.shaping import MOST_FOLDED
from trunkline_service.server import search_converters


def test_each_hit_has_the_columns_that_were_asked_for(fake, call):
    found = call(fake, "search", "flowers", ids=["7", "8"], k=3, columns=["price", "camera"])
    own = [{"price": rank, "camera": rank} for rank in (0, None, 2)]
    assert found.metadata == [own, own]
    assert (found.columns, list(found.metadata[0][0])) == (("price", "camera"), ["price", "camera"])
    assert list(fake.requests[0].columns) == ["price", "camera"]
    plain = call(fake, "search", "flowers", ids="7", k=2)
    assert (plain.metadata, plain.columns) == ([[{}, {}]], ())


def test_queries_that_failed_have_none_and_parts_are_joined(serve, call, tmp_path):
    fake = serve(max_images=2)
    images = [b"a", b"bad", tmp_path / "missing", b"c", b"d"]
    found = call(fake, "search", "flowers", images, k=1, columns=("price",))
    assert found.metadata == [[{"price": 0}], [], [], [{"price": 0}], [{"price": 0}]]
    assert found.columns == ("price",)
    nothing = call(fake, "search", "flowers", [], columns=("price",))
    assert (nothing.metadata, nothing.columns) == ([], ("price",))


def test_an_older_server_is_noticed(fake, call):
    with pytest.raises(trunkline.Internal, match="without its column 'newer': the server is older"):
        call(fake, "search", "flowers", ids="7", columns=["price", "newer"])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("price", r"columns is the text 'price'; pass a list of names: \['price'\]"),
        (["price", 7], r"columns\[1\] is 7"),
        (None, "columns is None; pass a list of names"),
        ({"price"}, "pass a list of names"),
    ],
)
def test_columns_that_can_not_be_sent_are_refused_here(fake, call, columns, words):
    with pytest.raises(trunkline.InvalidRequest, match=words):
        call(fake, "search", "flowers", ids="7", columns=columns)
    assert fake.requests == []


def test_a_table_has_them_as_columns():
    pytest.importorskip("pandas")
    found = trunkline.SearchResult(
        ids=[["a", "b"], []],
        scores=[[1.0, 0.5], []],
        labels=[["x", None], []],
        sources=[["1", "2"], []],
        groups=[["g", None], []],
        duplicates=[[(), ()], []],
        metadata=[[{"price": 1.5, "source": "1", "rank": 7}, {"price": None, "source": "2", "rank": 8}], []],
        columns=("price", "source", "rank"),
        inputs=["", ""],
        recall=Recall(10, 0.9, 0.8, 5, 1, 3),
    )
    frame = found.to_pandas()
    hit = ["query", "rank", "id", "score", "label", "source", "group", "duplicates"]
    assert list(frame.columns) == [*hit, "price", "metadata.rank"]
    assert (frame["rank"].tolist(), frame["metadata.rank"].tolist()) == ([1, 2], [7, 8])
    assert frame["price"].tolist()[0] == 1.5
    assert np.isnan(frame["price"].tolist()[1])
    empty = trunkline.SearchResult(
        ids=[[]], scores=[[]], labels=[[]], sources=[[]], metadata=[[]], columns=("price",), inputs=[""]
    )
    assert "price" in empty.to_pandas().columns


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("columns", [(), ("a",), ("a", "b", "c")])
@pytest.mark.parametrize(("k", "per_group"), [(1, 1), (10, 1), (100, 1), (1000, 1), (100, 20)])
def test_a_request_carries_as_many_queries_as_a_reply_can_answer(k, per_group, columns, folds):
    wishes = Wishes(k, None, (), 0, None, "label", per_group, 0.9 if folds else None, False, columns)
    most = wishes.most_queries
    if most > 1:
        search_converters.check_hits(most, k * per_group, len(columns), folds)
    with pytest.raises(InvalidArgument, match="send several requests"):
        search_converters.check_hits(most + 1, k * per_group, len(columns), folds)


def test_a_query_of_the_largest_k_may_collapse():
    assert neighbours_wire._MAX_FOLDED == MOST_FOLDED
    search_converters.check_hits(1, 1000, 20, folds=True)


def test_requests_are_smaller_where_rows_may_be_folded(fake, call, monkeypatch):
    monkeypatch.setattr(neighbours_wire, "_MAX_HITS_PER_REPLY", 52)
    call(fake, "search", "flowers", ids=list("abcd"), k=1, collapse=0.9)
    assert [len(request.ids) for request in fake.requests] == [2, 2]
