"""A bound value can only be a value, and a condition can't end before its text does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.filters import any_of, bind
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
