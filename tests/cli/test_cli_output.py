"""What all commands print with: tables in a pipe, text that would break them, figures and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.cli import output


def printed(capsys, *table, **named):
    output.table(*table, **named)
    return capsys.readouterr().out


def test_no_line_of_a_table_in_a_pipe_ends_in_blanks(capsys):
    rows = [("a", 1, "short"), ("longer", 1000, "x" * 500), ("b", 2, None)]
    assert printed(capsys, ("name", "count", "id"), rows, numbers=("count",)).splitlines() == [
        "name    count  id",
        "a           1  short",
        f"longer   1000  {'x' * 500}",
        "b           2",
    ]
    assert printed(capsys, ("name", "id"), []) == "name  id\n"


def test_wide_characters_take_two_columns(capsys):
    assert printed(capsys, ("id", "n"), [("日本", 1), ("abc", 2)]) == "id    n\n日本  1\nabc   2\n"


def test_a_cell_is_one_cell_whatever_it_holds(capsys):
    rows = [("a\nb", "c\td"), ("\u202egnp.exe", "\x1b[31mred")]
    assert printed(capsys, ("id", "label"), rows).splitlines() == [
        "id             label",
        "a\\nb           c\\td",
        "\\u202egnp.exe  \\x1b[31mred",
    ]
    output.pairs([("id", "a\nb"), ("none", None)])
    assert capsys.readouterr().out == "id  a\\nb\n"


@pytest.mark.parametrize("text", ["naïve", "日本", "עברית", "👩\u200d👩\u200d👧", "C:\\new", "a\xa0b", ""])
def test_letters_of_all_languages_are_shown_as_they_are(text):
    assert output.visible(text) == text


@given(st.text())
def test_what_is_shown_is_one_line_that_can_be_written(text):
    shown = output.visible(text)
    assert len((shown + "|").splitlines()) == 1
    shown.encode()
    assert not set(shown) & set(
        "\t\x1b\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


@pytest.mark.parametrize(
    ("value", "decimals", "said"),
    [
        (1, 3, "1.000"),
        (0.99512, 3, "0.995"),
        (0.9994, 3, "0.999"),
        (0.9998, 3, "0.9998"),
        (0.9998, 4, "0.9998"),
        (0.99996, 4, "0.99996"),
        (0.99999996, 3, "> 0.999999"),
        (0, 3, "0.000"),
    ],
)
def test_a_recall_is_1_only_where_it_is(value, decimals, said):
    assert output.recall_figure(value, decimals) == said


def test_times_are_those_of_utc():
    later = datetime(2026, 11, 22, 6, 14, 26, tzinfo=timezone(timedelta(hours=1)))
    assert output.moment(later) == output.moment("2026-11-22T05:14:26.123+00:00") == "2026-11-22 05:14:26 UTC"
    assert output.moment(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01 00:00:00 UTC"
