"""Limits of conditions: what they allow leaves the process alive and small, what they don't is refused in words."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.effort import (
    MAX_DEPTH,
    MAX_JOINS,
    MAX_LENGTH,
    MAX_LISTED,
    MAX_OPERATORS,
    MAX_TEXT,
    MAX_VALUES,
)
from trunkline_service.collections.filters import bind
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.rows import Row
from trunkline_service.collections.store import CollectionStore
from trunkline_service.collections.tokens import Bound
from trunkline_service.errors import InvalidArgument


def chain(term: str, between: str, operators: int) -> str:
    return between.join([term] * (operators + 1))


# Of each kind, as many as are allowed.
LONGEST = {
    "plus": "1 < " + chain("1", " + ", MAX_OPERATORS - 1),
    "minus": "1 < " + chain("1", "-", MAX_OPERATORS - 1),
    "product": "n < " + chain("n", " * ", MAX_OPERATORS - 1),
    "joined": "id = " + chain("id", "||", MAX_JOINS),
    "or": "id = 'a'" + " OR id = 'a'" * ((MAX_OPERATORS - 1) // 2),
    "and": "id = 'a'" + " AND id = 'a'" * ((MAX_OPERATORS - 1) // 2),
    "is": "(n = 1)" + " IS TRUE" * (MAX_OPERATORS - 1),
    "equal": "(n = 1)" + " = true" * (MAX_OPERATORS - 1),
    "not": "NOT " * MAX_OPERATORS + "n = 1",
    "cast": "n" + "::double::int" * (MAX_OPERATORS // 2 - 1) + " = 1",
    "between": "n BETWEEN 1 AND " * (MAX_OPERATORS // 2) + "2",
    "nested": "NOT (" * MAX_DEPTH + "n = 1" + ")" * MAX_DEPTH,
    "doubling": "coalesce(" * MAX_DEPTH + "n" + ", n)" * MAX_DEPTH + " + 1" * 100 + " > 1",
    "calls": "abs(" * (MAX_DEPTH // 2) + "n" + " + 1" * (MAX_OPERATORS - 1) + ")" * (MAX_DEPTH // 2) + " > 1",
    "deep": "(" * 11 + "(n = 1)" + " IS TRUE" * (MAX_OPERATORS - 1) + ")" * 11,
}
LONGER = {
    "plus": "size > " + "+".join(["1"] * 900),
    "or": " OR ".join(["id = 'a'"] * 50_000),
    "joined": "id = " + "||".join(["'a'"] * 20_000),
    "brackets": "(" * 20_000 + "n = 1" + ")" * 20_000,
    "NOT (": "NOT (" * 40 + "n = 1" + ")" * 40,
    "doubling": "coalesce(" * 20 + "n" + ", 1)" * 20 + " = 1",
    "is": "(n = 1)" + " IS TRUE" * 400,
    "equal": "(n = 1)" + " = true" * 1000,
    "not": "NOT " * 20_000 + "n = 1",
    "between": "n BETWEEN 1 AND " * 400 + "2",
    "like": "id" + " LIKE 'a'" * 400,
    "case": "CASE " + "WHEN n = 1 THEN true " * 400 + "END",
    "columns": f"n IN ({','.join(['n'] * 20_000)})",
    "calls": f"n IN ({','.join(['abs(1)'] * 20_000)})",
    "subscripts": "id" + "[1]" * 400 + " = 'a'",
    "fields": "id" + ".a" * 400 + " = 'a'",
    "list of columns": f"array_has([{','.join(['id'] * 20)}], 'a')",
    "list of numbers": f"array_has([{','.join(['1'] * (MAX_LISTED + 2))}], n)",
    "list of a function": f"array_has(`make_array` ({','.join('1' * (MAX_LISTED + 2))}), n)",
    "list of columns of a function": f"array_has(make_array({','.join(['id'] * 20)}), 'a')",
    "arguments": f"n = greatest({','.join(['1'] * 200)})",
    "signs": "n = " + "- " * 400 + "1",
    "listed signs": "n IN (" + "- " * 400 + "1)",
    "texts": "id = " + "'a' " * 400,
    "comments": "size > " + "+/* ' */".join(["1"] * 900),
    "a long name": "n = " + "a" * (MAX_LENGTH + 1),
    "as much of the last kind": "1 < " + chain("1", " + ", MAX_OPERATORS),
}

SEARCHED = """
import sys
from concurrent.futures import ThreadPoolExecutor
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument

collection = CollectionStore(sys.argv[1]).open("flowers")

def read(where):
    try:
        return len(collection.matrix(where))
    except InvalidArgument:
        return -1

for where in sys.stdin.read().splitlines():
    with ThreadPoolExecutor(1) as pool:
        print(read(where), pool.submit(read, where).result())
"""


def test_the_longest_conditions_that_are_allowed_leave_the_process_alive(
    store: CollectionStore, collection: Collection, tmp_path: Path
) -> None:
    collection.upsert([Row("a", np.ones(4, np.float32), metadata={"n": 1})], space_id="sp1-a", decode="exact")
    for where in LONGEST.values():
        bind(where)
    done = subprocess.run(
        [sys.executable, "-c", SEARCHED, str(tmp_path / "data")],
        input="\n".join(LONGEST.values()),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-1000:])
    answers = dict(zip(LONGEST, done.stdout.splitlines(), strict=True))
    assert {name: answers[name] for name in ("plus", "product", "or", "and", "is", "cast", "calls")} == {
        "plus": "1 1", "product": "0 0", "or": "1 1", "and": "1 1", "is": "1 1", "cast": "1 1", "calls": "1 1"
    }  # fmt: skip


@pytest.mark.parametrize("name", LONGER)
def test_a_condition_that_could_end_the_process_is_refused(name: str) -> None:
    with pytest.raises(
        InvalidArgument, match=r"more than [\d,]+ (operators|deep|characters|joins|values)"
    ) as caught:
        bind(LONGER[name])
    assert len(caught.value.message) < 1000


def test_a_list_of_literals_may_be_long(collection: Collection) -> None:
    collection.upsert(
        [Row("5", np.ones(4, np.float32), metadata={"n": -5})], space_id="sp1-a", decode="exact"
    )
    many = 20_000
    assert len(collection.matrix(f"id IN ({', '.join(repr(str(at)) for at in range(many))})")) == 1
    assert len(collection.matrix(f"n IN ({', '.join(str(-at) for at in range(many))})")) == 1
    asked = ", ".join("?" * many)
    assert len(collection.matrix(f"id IN ({asked})", parameters=list(map(str, range(many))))) == 1
    times = ",".join(["timestamp '2026-01-01 00:00:00'", "1.5e-3", "'it''s'"] * many)
    assert bind(f"t IN ({times})") == f"(t IN ({times}))"
    # What was bound can be bound again.
    values: list[Scalar] = [datetime(2026, 5, 1, tzinfo=UTC)] * 1000
    bound = str(bind(f"t IN ({', '.join('?' * 1000)})", values))
    assert bind(bound) == f"({bound})"


def test_a_list_holds_so_many_values_and_the_message_says_how_many(collection: Collection) -> None:
    collection.upsert(
        [Row("5", np.ones(4, np.float32), metadata={"n": -5})], space_id="sp1-a", decode="exact"
    )
    values: list[Scalar] = [-at for at in range(MAX_VALUES + 1)]
    asked = f"n IN ({','.join('?' * MAX_VALUES)})"
    assert len(collection.matrix(asked, parameters=values[:-1])) == 1
    bound = str(bind(asked, values[:-1]))
    assert bind(bound) == f"({bound})"
    with pytest.raises(InvalidArgument, match="has more than 65,536 values; ask several times") as caught:
        bind(f"n IN ({','.join('?' * len(values))})", values)
    assert "IN (?, ?, ...)" not in caught.value.message


@pytest.mark.parametrize("brackets", [("[", "]"), ("make_array(", ")"), ("Make_Array (", ")")])
def test_values_between_square_brackets_are_no_operators(
    collection: Collection, brackets: tuple[str, str]
) -> None:
    opening, closing = brackets
    collection.upsert([Row("5", np.ones(4, np.float32), metadata={"n": 5})], space_id="sp1-a", decode="exact")
    numbers: list[Scalar] = list(range(MAX_LISTED))
    asked = f"array_has({opening}{', '.join('?' * MAX_LISTED)}{closing}, n)"
    assert len(collection.matrix(asked, parameters=numbers)) == 1
    with pytest.raises(InvalidArgument, match="more than 1,024 values in square brackets"):
        bind(f"{asked} OR {asked}", numbers * 2)


def test_what_is_bound_is_not_held_against_the_limits_again() -> None:
    longest = "(" * MAX_DEPTH + "n = ?" + ")" * MAX_DEPTH
    bound = bind(longest, [1])
    assert bind(bound) is bound
    assert bound.written == longest
    # What the service adds to it.
    assert bind(Bound(f"({bound} AND status = 'ok')")) == f"({bound} AND status = 'ok')"
    with pytest.raises(InvalidArgument, match="brackets more than 12 deep"):
        bind(str(bound))
    with pytest.raises(InvalidArgument, match="1 parameter, but those of the condition are in place"):
        bind(bound, [1])


def test_a_bound_condition_is_quoted_as_it_was_written(collection: Collection) -> None:
    with pytest.raises(InvalidArgument, match=r"^where 'colour = \?' can't be used"):
        collection.row_ids(bind("colour = ?", ["red"]))


LONG = "x" * (MAX_TEXT + 1)
LONG_TEXTS: dict[str, tuple[str, list[Scalar]]] = {
    "parameter": ("lower(id) = ?", [LONG]),
    "joined": ("id || ? = 'a'", [LONG]),
    "literal": (f"strpos('{LONG}', id) = 1", []),
    "in double quotes": (f'coalesce(id, "{LONG}") = 1', []),
    "together": ("id = ? OR lower(id) = ?", ["x" * (MAX_TEXT // 2), "x" * (MAX_TEXT // 2)]),
    "in a list, computed": ("lower(id) IN (? || id)", [LONG]),
    "in a list of a function": ("id IN (lower(?))", [LONG]),
}


@pytest.mark.parametrize("name", LONG_TEXTS)
def test_a_long_text_is_not_computed_with(name: str) -> None:
    with pytest.raises(InvalidArgument, match="more than 4,096 characters of text"):
        bind(*LONG_TEXTS[name])


def test_a_long_text_is_compared_with(collection: Collection) -> None:
    collection.upsert([Row("a", np.ones(4, np.float32), label=LONG)], space_id="sp1-a", decode="exact")
    assert len(collection.matrix("label = ?", parameters=[LONG])) == 1
    several = "lower(label) IN (?, ?) AND (id = 'a')"
    assert len(collection.matrix(several, parameters=["y", LONG])) == 1
