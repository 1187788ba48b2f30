"""Groups by a column whose name is a word of SQL, and folding that has no end, where Lance holds the rows."""

from __future__ import annotations

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.effort import MAX_DEPTH, MAX_OPERATORS
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import Cancelled, InvalidArgument
from trunkline_service.index import shaping
from trunkline_service.index.lance.searching import LanceSearch
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import Searcher, SearchPolicy

DIM = 4
WORDS = ("null", "true", "not", "interval", "order", "case", "in", "Shelf")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The nearest row to ``QUERY`` shares its value with the farthest two; all others have another."""
    made = CollectionStore(tmp_path_factory.mktemp("data")).create(
        "words", CollectionSpec("sp1-a", DIM, "tiny@1", "ar1-a", "exact")
    )
    vectors = np.random.default_rng(0).standard_normal((400, DIM)).astype(np.float32)
    order = np.argsort(-vectors @ QUERY[0] / np.linalg.norm(vectors, axis=1))
    few = set(order[[0, -1, -2]].tolist())
    rows = [
        Row(f"r{at}", vector, metadata=dict.fromkeys(WORDS, "few" if at in few else "many"))
        for at, vector in enumerate(vectors)
    ]
    made.upsert(rows, space_id="sp1-a", decode="exact")
    return made


QUERY = np.ones((1, DIM), np.float32)


@pytest.mark.parametrize("column", WORDS)
@pytest.mark.parametrize(("k", "per_group"), [(1, 3), (2, 3)])
def test_a_column_may_have_any_name(collection: Collection, column: str, k: int, per_group: int) -> None:
    options = SearchOptions(k, group_by=column, per_group=per_group)
    outcome = LanceSearch(collection).search(QUERY, options)
    flat = Searcher(SearchPolicy()).search(collection, QUERY, options)
    assert [[hit.id for hit in hits] for hits in outcome.hits] == [
        [hit.id for hit in hits] for hits in flat.hits
    ]
    assert [hit.group for hit in outcome.hits[0]].count("few") == per_group


def test_a_condition_as_long_as_is_allowed_has_room_for_groups(collection: Collection) -> None:
    deepest = "(" * MAX_DEPTH + "`order` <> ?" + ")" * MAX_DEPTH
    longest = " OR ".join(["id = 'r1'"] * ((MAX_OPERATORS - 1) // 2)) + " OR true"
    for where, parameters in ((deepest, ("none",)), (longest, ())):
        # The first candidates are of one group, so others are asked for by one more condition.
        options = SearchOptions(2, group_by="order", per_group=3, where=where, parameters=parameters)
        assert len(LanceSearch(collection).search(QUERY, options).hits[0]) == 6
    with pytest.raises(InvalidArgument, match=r"^where 'colour = \?' can't be used"):
        LanceSearch(collection).search(QUERY, SearchOptions(2, where="colour = ?", parameters=("red",)))


def test_so_many_candidates_are_compared_and_what_they_give_is_answered(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shaping, "MOST_COMPARED", 100)
    options = SearchOptions(k=2, collapse=-1.0)
    outcome = LanceSearch(collection).search(QUERY, options)
    assert (len(outcome.hits[0]), outcome.searched.exact) == (1, False)
    # A radius that holds fewer leaves nothing out.
    near = SearchOptions(k=2, collapse=-1.0, min_score=0.99)
    assert LanceSearch(collection).search(QUERY, near).searched.exact
    monkeypatch.setattr(shaping, "MOST_COMPARED", 400)
    assert LanceSearch(collection).search(QUERY, options).searched.exact


def test_what_is_called_off_is_looked_for_no_longer(collection: Collection) -> None:
    asked: list[bool] = []
    options = SearchOptions(k=2, collapse=-1.0)
    LanceSearch(collection).search(QUERY, options, cancelled=lambda: bool(asked.append(True)))
    assert len(asked) > 4
    for most in range(len(asked)):
        left = iter(range(most))
        with pytest.raises(Cancelled, match="called off"):
            LanceSearch(collection).search(
                QUERY, options, cancelled=lambda left=left: next(left, None) is None
            )
