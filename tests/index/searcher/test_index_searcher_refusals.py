"""What the searcher refuses, and the failure that it tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.index.points import at, write
from tests.index.searcher.conftest import ids

from trunkline_service.collections.collection import Collection
from trunkline_service.errors import FailedPrecondition, InvalidArgument, SpaceMismatch, StorageError
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import Searcher
from trunkline_service.index.selecting import Selector


def test_a_version_before_the_min_version_is_refused(collection: Collection, searcher: Searcher) -> None:
    write(collection, a=0)
    old = collection.version
    write(collection, b=1)
    options = SearchOptions(k=1, min_version=old)
    assert searcher.search(collection, at(0), options, version=old).version == old
    for refused in (old - 1, 1):
        words = f"version {refused} of collection 'points' is searched, and min_version is {old}"
        with pytest.raises(InvalidArgument, match=words):
            searcher.search(collection, at(0), options, version=refused)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"queries": np.zeros((1, 3), np.float32)},
            "the query vectors have 3 floats, those of collection '.*' have 2",
        ),
        ({"queries": np.zeros(2, np.float32)}, r"\(2,\)"),
        ({"queries": np.zeros((1, 2))}, "float64"),
        ({"queries": np.array([[0, 0], [np.nan, 0]], np.float32)}, "query 1 holds NaN"),
        ({"queries": np.array([[np.inf, 0]], np.float32)}, "query 0 holds NaN or infinity"),
        ({"exclude_ids": []}, "0 entries for 1 queries"),
        ({"options": SearchOptions(where="colour = 'red'")}, "The columns are id, "),
        ({"options": SearchOptions(where="label = ?")}, "takes 1 parameter, 0 are given"),
        ({"options": SearchOptions(where="label = 'a'); DROP TABLE points")}, "brackets"),
        ({"options": SearchOptions(group_by="embedding")}, "no column 'embedding' to group by"),
    ],
)
def test_what_cannot_be_used_is_refused(
    collection: Collection, searcher: Searcher, arguments: dict[str, Any], words: str
) -> None:
    write(collection, a=0)
    with pytest.raises(InvalidArgument, match=words):
        searcher.search(collection, **{"queries": at(0), "options": SearchOptions()} | arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 1001}, "1 to 1,000"),
        ({"min_version": -1}, "min_version is -1"),
        ({"per_group": 0}, "per_group is 0"),
        ({"min_score": float("nan")}, "min_score is NaN"),
        ({"collapse": float("nan")}, "collapse is NaN"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        SearchOptions(**options)


def test_queries_of_another_space_are_refused(collection: Collection, searcher: Searcher) -> None:
    with pytest.raises(SpaceMismatch, match="of space sp1-b; collection 'points' holds space sp1-a"):
        searcher.search(collection, at(0), SearchOptions(), space_id="sp1-b")
    assert searcher.search(collection, at(0), SearchOptions(), space_id="sp1-a").hits == [[]]


def test_a_min_version_in_the_future_is_refused(collection: Collection, searcher: Searcher) -> None:
    write(collection, a=0)
    version = collection.version
    assert ids(searcher, collection, 0, min_version=version) == [["a"]]
    with pytest.raises(FailedPrecondition, match=f"min_version {version + 1} was never written"):
        ids(searcher, collection, 0, min_version=version + 1)


def test_a_store_that_fails_under_a_filter_is_told(
    collection: Collection, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(collection, a=0)

    def fails(*_: Any) -> None:
        raise StorageError("the disk is gone")

    monkeypatch.setattr(Selector, "masks", fails)
    with pytest.raises(StorageError, match="disk"):
        ids(searcher, collection, 0, where="true")
