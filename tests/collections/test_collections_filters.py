"""A bound value can only be a value, and a condition can't end before its text does."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.filters import any_of, bind, literal
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument

texts = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("'\"\\?-;()`%_\n/* "))).filter(bool)


NUMBERS = (-3, -2, -1, 0, 1, 2, 3)
BLANKS = ("", " ", "\n", "\t", "/**/", " --\n", " -- - ?\n")
MINUS = [
    ("n {}-{}?{} < 0", lambda n, x: n - x < 0),
    ("n {}+{}?{} < 0", lambda n, x: n + x < 0),
    ("n {}*{}?{} < 0", lambda n, x: n * x < 0),
    ("n {}<{}-{}?", lambda n, x: n < -x),
    ("n {}>={}?{}", lambda n, x: n >= x),
    ("n {}={}?{}-n", lambda n, x: n == x - n),
    ("n {}<>{}?{} AND n > -3", lambda n, x: n != x and n > -3),
    ("?{}-{}n{}>0", lambda n, x: x - n > 0),
    ("n IN{} (?{},{}1-n)", lambda n, x: n in (x, 1 - n)),
    ("n BETWEEN{} ?{} AND{} 2", lambda n, x: x <= n <= 2),
    ("NOT{} n {}<{} ?", lambda n, x: not n < x),
    ("-n {}-{}?{}-1 > 0", lambda n, x: -n - x - 1 > 0),
]
"""Conditions with room for three blanks, and what they say of a row's ``n`` and the parameter."""


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


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    spec = CollectionSpec(space_id="sp1-a", dim=1, model="tiny@1", artifact_id="ar1-a", decode="exact")
    made = CollectionStore(tmp_path_factory.mktemp("data")).create("numbered", spec)
    rows = [Row(str(n), np.ones(1, np.float32), metadata={"n": n, "f": float(n)}) for n in NUMBERS]
    made.upsert(rows, space_id="sp1-a", decode="exact")
    return made


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(MINUS),
    st.tuples(*[st.sampled_from(BLANKS)] * 3),
    st.one_of(st.integers(-4, 4), st.integers(-(2**31), 2**31)),
    st.booleans(),
)
@example(MINUS[0], ("", "", "\n"), -2, False)
@example(MINUS[0], ("", "", "\n"), -2, True)
@example(MINUS[3], ("", "", ""), -2, False)
def test_a_bound_number_gives_what_python_computes(
    numbered: Collection,
    condition: tuple[str, Callable[[int, int], bool]],
    blanks: tuple[str, str, str],
    value: int,
    floats: bool,
) -> None:
    template, said = condition
    where = template.format(*blanks)
    asked: Scalar = value
    if floats:
        where, asked = re.sub(r"\bn\b", "f", where), float(value)
    found = numbered.matrix(where, parameters=[asked]).ids.to_pylist()
    assert found == [str(n) for n in NUMBERS if said(n, value)], (where, asked)


@settings(max_examples=60, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["<", "<=", "=", "<>", ">=", ">"]))
@example(-0.0, "=")
@example(-0.0, "IN")
@example(-5e-324, "<")
@example(-1.7976931348623157e308, ">")
def test_every_finite_float_can_be_compared_with(numbered: Collection, value: float, sign: str) -> None:
    python: dict[str, Callable[[float, float], bool]] = {
        "<": operator.lt, "<=": operator.le, "=": operator.eq, "<>": operator.ne, ">=": operator.ge, ">": operator.gt
    }  # fmt: skip
    python["IN"] = operator.eq
    found = numbered.matrix(f"f {sign}(?)", parameters=[value]).ids.to_pylist()
    assert found == [str(n) for n in NUMBERS if python[sign](n, value)]


def test_rows_are_deleted_by_what_a_negative_parameter_means(collection: Collection) -> None:
    rows = [Row(str(n), np.ones(4, np.float32), metadata={"n": n}) for n in range(-10, 10)]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    assert collection.delete_where("n -?\n < 0", (-5,)) == 5
    assert collection.relabel_where("x", "n -?\n < 2", (-5,)) == 2


def test_a_value_is_set_apart_from_what_stands_beside_it() -> None:
    assert bind("a -?\n< -?", [-5, -2.5]) == "(a - (-5)\n< - (-2.5))"
    assert bind("a=?or b IN (?,?)", [1, "x", -2]) == "(a= 1 or b IN ('x',(-2)))"
    assert bind("?/?", [1, True]) == "(1 / true)"
    assert bind("a = -?and?", [1, 2]) == "(a = - 1 and 2)"
    assert literal(-1) == "(-1)"
    assert literal(np.float64(-1.5)) == "(-1.5)"


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
    assert bind("a = '?' AND b = \"b?\" AND `c?` = ? -- ?", [3]) == "(a = '?' AND b = \"b?\" AND `c?` = 3  )"
    assert bind("a = ?/* ? */", ["?"]) == "(a = '?' )"


@pytest.mark.parametrize(
    ("where", "values"), [("a = ?", []), ("a = ?", [1, 2]), ("a = '?'", [1]), ("a", ["b"])]
)
def test_another_number_of_values_than_parameters_is_refused(where: str, values: list[Scalar]) -> None:
    taken = "1 parameter" if where == "a = ?" else "0 parameters"
    with pytest.raises(
        InvalidArgument, match=f"takes {taken}, {len(values)} {'is' if len(values) == 1 else 'are'} given"
    ):
        bind(where, values)


def test_values_without_a_condition_are_refused() -> None:
    assert bind(None) is None
    with pytest.raises(InvalidArgument, match=r"^1 parameter, but no condition"):
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_refused_by_its_place(value: float) -> None:
    with pytest.raises(InvalidArgument, match=rf"parameter 2 is {value}"):
        bind("a = ? AND b > ?", [1, value])


NAIVE = datetime(2026, 1, 5)
MIDNIGHT = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))


@pytest.mark.parametrize(
    ("value", "said"),
    [(2**63, "64 bits"), (-(2**63) - 1, "64 bits"), (NAIVE, "no time zone"), (MIDNIGHT, "in no year"),
     (b"x", "type bytes"), (np.int64(1), "type int64"), (["a"], "type list"), ("\ud800", "Unicode")],
)  # fmt: skip
def test_what_is_no_value_of_a_column_is_refused(value: Any, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        bind("a = ?", [value])


def test_a_condition_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="Unicode"):
        bind("a = '\ud800'")


def test_times_of_every_year_can_be_compared_with(collection: Collection) -> None:
    moments = [datetime(year, 1, 2, 3, 4, 5, 6, tzinfo=UTC) for year in (1, 33, 999, 1677, 2026, 9999)]
    rows = [Row(str(t.year), np.ones(4, np.float32), metadata={"t": t}) for t in moments]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    for moment in moments:
        assert collection.matrix("t = ?", parameters=[moment]).ids.to_pylist() == [str(moment.year)]
        assert len(collection.matrix("t >= ?", parameters=[moment])) == len(moments) - moments.index(moment)
    assert bind("t = ?", [moments[0]]) == "(t = timestamp '0001-01-02 03:04:05.000006')"
