"""What a condition may say: the functions that are listed, signs that SQL has, parameters where values stand."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.filters import bind
from trunkline_service.collections.grammar import FUNCTIONS
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.rows import Row
from trunkline_service.errors import InvalidArgument

CALLS = {
    "lower": "lower(s) = 'ab'", "upper": "upper(s) = 'AB'", "initcap": "initcap(s) = 'Ab'",
    "reverse": "reverse(s) = 'bA'", "length": "length(s) = 2", "char_length": "char_length(s) = 2",
    "character_length": "character_length(s) = 2", "octet_length": "octet_length(s) = 2",
    "left": "left(s, 1) = 'A'", "right": "right(s, 1) = 'b'", "btrim": "btrim(s) = s", "ltrim": "ltrim(s) = s",
    "rtrim": "rtrim(s, 'b') = 'A'", "split_part": "split_part(s, 'b', 1) = 'A'",
    "starts_with": "starts_with(s, 'A')", "ends_with": "ends_with(s, 'b')", "contains": "contains(s, 'Ab')",
    "strpos": "strpos(s, 'b') = 2", "regexp_like": "regexp_like(s, '^A.$')",
    "regexp_match": "regexp_match(s, 'x') IS NULL", "regexp_count": "regexp_count(s, 'b') = 1",
    "abs": "abs(n) = 4", "signum": "signum(n) = -1", "round": "round(f) = 2", "trunc": "trunc(f) = 2",
    "sqrt": "sqrt(abs(n)) = 2", "cbrt": "cbrt(8) = 2", "power": "power(n, 2) = 16", "pow": "pow(n, 2) = 16",
    "exp": "exp(0) = 1", "ln": "ln(1) = 0", "log": "log(10, 1) = 0", "log2": "log2(2) = 1",
    "log10": "log10(10) = 1", "isnan": "NOT isnan(f)", "greatest": "greatest(n, 3) = 3",
    "least": "least(n, 3) = -4", "date_part": "date_part('year', t) = 2026",
    "date_trunc": "date_trunc('year', t) = timestamp '2026-01-01 00:00:00'",
    "to_date": "to_date('2026-01-01') < t", "to_timestamp": "to_timestamp('2026-01-01T00:00:00') < t",
    "to_timestamp_seconds": "to_timestamp_seconds(1) < t", "to_timestamp_millis": "to_timestamp_millis(1) < t",
    "to_timestamp_micros": "to_timestamp_micros(1) < t", "to_unixtime": "to_unixtime(t) > 1",
    "coalesce": "coalesce(label, 'none') = 'none'", "nullif": "nullif(n, -4) IS NULL",
    "ifnull": "ifnull(label, 'none') = 'none'", "nvl": "nvl(label, 'none') = 'none'",
    "array_has": "array_has(['Ab'], s)", "array_contains": "array_contains(['Ab'], s)",
    "array_has_any": "array_has_any(['Ab', 'x'], [s])", "array_has_all": "array_has_all(['Ab', 'x'], [s])",
    "array_length": "array_length(embedding) = 4", "array_position": "array_position(['x', 'Ab'], s) = 2",
    "array_element": "array_element([s, 'x'], 2) = 'x'", "list_has": "list_has(['Ab'], s)",
    "list_contains": "list_contains(['Ab'], s)", "make_array": "array_has(make_array('Ab', 'x'), s)",
    "cardinality": "cardinality([n, 1]) = 2", "empty": "NOT empty([n])",
}  # fmt: skip


@pytest.fixture
def filled(collection: Collection) -> Collection:
    metadata: dict[str, Scalar] = {"s": "Ab", "n": -4, "f": 2.25, "t": datetime(2026, 5, 1, tzinfo=UTC)}
    collection.upsert([Row("a", np.ones(4, np.float32), metadata=metadata)], space_id="sp1-a", decode="exact")
    return collection


def test_every_function_that_is_listed_works(filled: Collection) -> None:
    assert CALLS.keys() == FUNCTIONS
    for name, where in CALLS.items():
        assert len(filled.row_ids(where)) == 1, name


@pytest.mark.parametrize("name", ["lower", "LOWER", "`lower`", "lower ", "lower/* ( */"])
def test_a_function_may_be_written_as_sql_has_it(filled: Collection, name: str) -> None:
    assert len(filled.row_ids(f"{name}(s) = 'ab'")) == 1


@pytest.mark.parametrize(
    "where",
    ["length(lpad('x', 2000000000)) > 1", "array_length(array_repeat(1, 300000000)) = 1",
     "length(REPEAT('x', 500000000)) > 1", "repeat (label, 1000000) = 'a'", "`repeat`('a', 9) = 'a'",
     "replace(label, '', 'abc') = 'a'", "concat(label, label) = 'a'", "random() > 0.5", "now() > t",
     "count(*) > 1", "row_number() over () = 1", "arrow_cast(1, 'Int8') = 1", "range(9000000000) IS NULL"],
)  # fmt: skip
def test_another_function_is_refused_by_its_name_with_those_that_there_are(where: str) -> None:
    with pytest.raises(
        InvalidArgument, match=r"none of the functions of a condition, which are abs, array_"
    ) as caught:
        bind(where)
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    "where",
    ["n IN (1, -4)", "n in(-4)", "NOT (n = 1)", "n = 1 OR(n = -4)", "n = -4 AND (true)", "cast(n as int) = -4", "cast(n as float(24)) = -4",
     "cast(n as double) = -4", "cast(n as FLOAT) = -4",
     "try_cast(n AS decimal(10, 2)) = -4", "n BETWEEN (-5) AND (-3)", "s LIKE ('A%')", "s LIKE'A%'",
     "n IS DISTINCT FROM (1)", "t = timestamp'2026-05-01 00:00:00'", "t::date = date '2026-05-01'",
     "n::double = -4 AND embedding[1] = 1", "-n = 4", "n <= - 4", "n % 3 = -1 AND n / 2 = -2 AND n != 1",
     "s ILIKE ? ESCAPE '\\'", "s LIKE ?", "n BETWEEN ? AND -1", "NOT ? = s", "n IS DISTINCT FROM ?"],
)  # fmt: skip
def test_what_sql_writes_with_brackets_is_no_function(filled: Collection, where: str) -> None:
    given: Scalar = (
        -4 if "BETWEEN ?" in where else 1 if "FROM ?" in where else "A_" if "LIKE" in where else "x"
    )
    assert len(filled.row_ids(where, parameters=[given] * where.count("?"))) == 1


@pytest.mark.parametrize(
    "sign", ["$1", "$$a$$", "$a$a$a$", ":x", ":1", "@x", "#", "\\", "{a}", "!n", "~'a'", "a & b"]
)
def test_a_sign_that_sql_has_not_is_refused(sign: str) -> None:
    with pytest.raises(InvalidArgument, match=r"means nothing in a condition; a parameter is written \?"):
        bind(f"n > {sign}")
    assert bind(f"n > '{sign.replace(chr(39), '')}' -- {sign}")


@pytest.mark.parametrize("prefix", ["E", "e", "N", "X", "B", "R"])
@pytest.mark.parametrize("text", ["'a'", '"a"'])
def test_a_text_of_another_notation_is_refused(prefix: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"without '{prefix}' before it"):
        bind(f"s = {prefix}{text}")


@pytest.mark.parametrize(
    ("where", "said"),
    [("n IN ?", r"write IN \(\?, \?\)"), ("lower ?", "can't follow 'lower'"), ("s = E?", "can't follow 'E'"),
     ("s = 'a' ?", "can't follow \"'a'\""), ("(n) ?", "can't follow '\\)'"), ("? ?", "can't follow '\\?'"),
     ("t > timestamp ?", "send a datetime"), ("n.?", "can't follow '.'"), ("n::?", "can't follow '::'"),
     ("? (1)", "can't follow a parameter"), ("?.a", "can't follow a parameter")],
)  # fmt: skip
@pytest.mark.parametrize("value", [-5, "x"])
def test_a_parameter_stands_where_a_value_may(where: str, said: str, value: Scalar) -> None:
    with pytest.raises(InvalidArgument, match=said):
        bind(where, [value] * where.count("?"))


@pytest.mark.parametrize(
    "where",
    ["\"s\" <> 'x'", "\"s\"<>'x'", "n = -4 AND \"s\" = 'Ab'", "NOT \"s\" = 'x'", "n = 1 OR \"s\" IS NOT NULL",
     "\"s\" /* , */ in ('Ab')", "\"s\" NOT IN ('x')", "(\"s\") <> 'x'", "NOT ((\"s\" )) like 'A%'",
     "(n = -4 or (\"s\" >= ?))", "\"n\" BETWEEN 1 AND 2", "CASE WHEN \"s\" = 'x' THEN true END",
     "coalesce(\"s\" <> 'x', true)", "\"it\"\"s\" != 'x'"],
)  # fmt: skip
def test_a_name_in_double_quotes_is_refused_where_it_is_compared(where: str) -> None:
    with pytest.raises(
        InvalidArgument,
        match="is a text to Lance and no column; a name stands in backticks, a text in single",
    ):
        bind(where, ["x"] * where.count("?"))


@pytest.mark.parametrize(
    "where",
    ['s = "Ab"', 's = "Ab" AND n = -4', 's IN ("Ab", "x") AND n = -4', '(s = ("Ab")) IS TRUE', 's LIKE "A%"',
     's BETWEEN "A" AND "B" AND n = -4', 'coalesce(label, "none") = \'none\'', 'lower("AB") <> s',
     'array_has(["Ab"], s) IS TRUE', 's IN ("Ab") IS TRUE', '"Ab" || s = \'AbAb\''],
)  # fmt: skip
def test_a_text_in_double_quotes_is_compared_with(filled: Collection, where: str) -> None:
    assert len(filled.row_ids(where)) == 1


def test_a_comment_that_is_not_closed_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="a comment that begins with /\\* is not closed"):
        bind("n = 1 /* b")


@pytest.mark.parametrize("word", ["current_timestamp", "CURRENT_DATE"])
def test_what_changes_by_itself_is_refused(word: str) -> None:
    with pytest.raises(InvalidArgument, match="send the moment as a parameter"):
        bind(f"t < {word}")
    bind(f"`{word}` = 1")
