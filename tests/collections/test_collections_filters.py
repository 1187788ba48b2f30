"""A bound value can only be a value, and a condition can't end before its text does."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.filters import MAX_DEPTH, MAX_LENGTH, MAX_OPERATORS, any_of, bind
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument

texts = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("'\"\\?-;()`%_\n/* "))).filter(bool)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    spec = CollectionSpec(space_id="sp1-a", dim=1, model="tiny@1", artifact_id="ar1-a", decode="exact")
    return CollectionStore(tmp_path_factory.mktemp("data")).create("any", spec)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=6, unique=True), texts)
@example(["' OR '1'='1"], "x")
@example(["it''s", "it's", "its"], "it's")
@example(["a?b", "--", "/*", "a\\'b", "\\"], "?")
@example(["%", "_", "ab"], "%")
def test_a_bound_text_finds_exactly_the_rows_equal_to_it(
    stored: Collection, labels: list[str], asked: str
) -> None:
    rows = [Row(str(number), np.ones(1, np.float32), label=label) for number, label in enumerate(labels)]
    stored.delete([str(number) for number in range(6)])
    stored.upsert(rows, space_id="sp1-a", decode="exact")
    for value in {asked, *labels}:
        found = stored.matrix("label = ?", parameters=[value])
        assert found.labels.to_pylist() == [label for label in labels if label == value]
        # What surrounds a value stays what it was.
        around = "id = '?' OR `label` = ? -- label = ?\n AND /* ? */ 'it''s ?' <> ?"
        found = stored.matrix(around, parameters=[value, value])
        assert found.labels.to_pylist() == [label for label in labels if label == value]


@pytest.mark.parametrize(
    "where",
    ["x) junk (y", "label = 'a') or (1 = 1", "a; b", "label = 'a'; drop", "label = 'a", 'label = "a', "`a", ")(",
     "(label = 'a'", "label = 'a' -- )\n)", "label = 'it's'"],
)  # fmt: skip
def test_what_could_end_a_condition_early_is_refused(stored: Collection, where: str) -> None:
    with pytest.raises(InvalidArgument, match=r"bracket|quotes"):
        bind(where)
    with pytest.raises(InvalidArgument):
        stored.matrix(where)


def test_a_question_mark_inside_quotes_and_comments_is_none_of_the_parameters() -> None:
    assert bind("a = '?' AND \"b?\" = 1 AND `c?` = ? -- ?", [3]) == "(a = '?' AND \"b?\" = 1 AND `c?` = 3  )"
    assert bind("a = ?/* ? */", ["?"]) == "(a = '?' )"


@pytest.mark.parametrize(
    ("where", "values"), [("a = ?", []), ("a = ?", [1, 2]), ("a = '?'", [1]), ("a", ["b"])]
)
def test_another_number_of_values_than_parameters_is_refused(where: str, values: list[Scalar]) -> None:
    with pytest.raises(
        InvalidArgument, match=rf"takes {int(where == 'a = ?')} parameters, {len(values)} are"
    ):
        bind(where, values)


def test_values_without_a_condition_are_refused() -> None:
    assert bind(None) is None
    with pytest.raises(InvalidArgument, match="no condition"):
        bind(None, [1])


def test_every_type_of_value_can_be_bound(collection: Collection) -> None:
    noon = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
    values: dict[str, Scalar] = {"n": -7, "f": 0.1, "b": True, "t": noon, "s": "it's"}
    others: dict[str, Scalar] = {
        "n": 7,
        "f": 0.2,
        "b": False,
        "t": noon + timedelta(microseconds=1),
        "s": "x",
    }
    rows = [
        Row("a", np.ones(4, np.float32), metadata=values),
        Row("b", np.ones(4, np.float32), metadata=others),
    ]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    for name, value in values.items():
        assert collection.matrix(f"{name} = ?", parameters=[value]).ids.to_pylist() == ["a"], name
    elsewhere = noon.astimezone(timezone(timedelta(hours=5)))
    assert collection.matrix("t = ?", parameters=[elsewhere]).ids.to_pylist() == ["a"]
    assert len(collection.matrix("s = ? OR n = ?", parameters=[None, 7])) == 1


def test_numbers_far_out_are_bound_as_they_are(collection: Collection) -> None:
    numbers: dict[str, Scalar] = {"big": 2**63 - 1, "least": -(2**63), "tiny": 5e-324, "huge": 1.7e308}
    collection.upsert([Row("a", np.ones(4, np.float32), metadata=numbers)], space_id="sp1-a", decode="exact")
    for name, value in numbers.items():
        assert len(collection.matrix(f"{name} = ?", parameters=[value])) == 1, name


def test_one_of_many_values(tmp_path: Path) -> None:
    assert any_of("id", ["a", "it's"]) == "id IN ('a','it''s')"


def chain(term: str, between: str, operators: int) -> str:
    return between.join([term] * (operators + 1))


# Of each kind, as many as are allowed.
LONGEST = {
    "plus": "1 < " + chain("1", " + ", MAX_OPERATORS - 1),
    "minus": "1 < " + chain("1", "-", MAX_OPERATORS - 1),
    "product": "n < " + chain("n", " * ", MAX_OPERATORS - 1),
    "joined": "id = " + chain("id", "||", MAX_OPERATORS - 1),
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
    with pytest.raises(InvalidArgument, match=r"more than [\d,]+ (operators|deep|characters)") as caught:
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
    bound = bind(f"t IN ({', '.join('?' * 1000)})", values)
    assert bind(bound) == f"({bound})"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_refused_by_its_place(value: float) -> None:
    with pytest.raises(InvalidArgument, match=rf"parameter 2 is {value}"):
        bind("a = ? AND b > ?", [1, value])


@pytest.mark.parametrize(
    "where", ["count(*) > 1", "sum(n) > 1", "row_number() over () = 1", "n BETWEEN 1 AND 2 BETWEEN 1 AND 2"]
)
def test_what_no_row_can_answer_is_the_conditions_fault(collection: Collection, where: str) -> None:
    collection.upsert([Row("a", np.ones(4, np.float32), metadata={"n": 1})], space_id="sp1-a", decode="exact")
    with pytest.raises(InvalidArgument, match="can't be used on collection 'flowers'") as caught:
        collection.matrix(where)
    assert len(caught.value.message) < 1000
