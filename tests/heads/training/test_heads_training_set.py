from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument, NotEnoughData
from trunkline_service.heads.training import checks, hashing
from trunkline_service.heads.training.notes import look_alikes
from trunkline_service.heads.training.training_set import TrainingSet

MakeSet = Callable[..., TrainingSet]


def rows(n: int, dim: int = 3) -> np.ndarray[Any, Any]:
    return np.arange(n * dim, dtype=np.float32).reshape(n, dim)


def test_classes_are_sorted_and_codes_follow_them(make_set: MakeSet) -> None:
    data = make_set(rows(5), ["b", "a", "b", "a", "b"])
    assert data.classes == ("a", "b")
    assert data.codes().tolist() == [1, 0, 1, 0, 1]
    assert data.dim == 3
    assert data.notes == ()


def test_unlabelled_rows_are_dropped_and_counted(make_set: MakeSet) -> None:
    data = make_set(rows(7), ["a", None, "b", "a", "", "b", "  "])
    assert data.labels == ("a", "b", "a", "b")
    np.testing.assert_array_equal(data.embeddings, rows(7)[[0, 2, 3, 5]])
    assert data.notes == ("3 rows without a label were left out",)


def test_an_unlabelled_row_may_hold_nan(make_set: MakeSet) -> None:
    embeddings = rows(5)
    embeddings[4] = np.nan
    assert len(make_set(embeddings, ["a", "a", "b", "b", None]).labels) == 4


def test_classes_of_one_row_are_left_out_with_a_note(make_set: MakeSet) -> None:
    data = make_set(rows(6), ["a", "a", "b", "b", "typo", "c"])
    assert data.classes == ("a", "b")
    (note,) = data.notes
    assert "2 classes of a single row were left out ('c', 'typo')" in note


def test_labels_that_look_alike_are_noted_and_kept(make_set: MakeSet) -> None:
    data = make_set(rows(8), ["Cat", "cat ", "Cat", "cat ", "dog", "dog", "cow", "cow"])
    assert data.classes == ("Cat", "cat ", "cow", "dog")
    (note,) = data.notes
    assert "'Cat' / 'cat '" in note
    assert "dog" not in note


def test_look_alikes_see_case_blanks_and_composition() -> None:
    assert look_alikes(["a b", "A  B", "\ta b", "ab"]) == [("\ta b", "A  B", "a b")]
    assert look_alikes(["é", "e\u0301"]) == [("e\u0301", "é")]
    assert look_alikes(["one", "two", "one"]) == []


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([None] * 4, "0 of them labelled; classes found: none"),
        (["a"] * 4, r"4 of them labelled; classes found: 'a' \(4 rows\)"),
        (["a", "a", "a", "b"], r"classes found: 'a' \(3 rows\). 1 more have a single row"),
        (["a", "b", "c", "d"], "classes found: none. 4 more have a single row"),
    ],
)
def test_fewer_than_two_usable_classes(make_set: MakeSet, labels: list[Any], found: str) -> None:
    with pytest.raises(NotEnoughData, match=found) as caught:
        make_set(rows(4), labels)
    assert "'flowers' gives 4 rows" in caught.value.message
    assert caught.value.message.endswith("Label more rows")


def test_no_rows_at_all(make_set: MakeSet) -> None:
    with pytest.raises(NotEnoughData, match="gives 0 rows"):
        make_set(np.empty((0, 3)), [])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_their_row(make_set: MakeSet, bad: float) -> None:
    embeddings = rows(6)
    embeddings[5, 1] = bad
    with pytest.raises(InvalidArgument, match=r"1 of 5 labelled rows .*\(rows 5\)"):
        make_set(embeddings, ["a", None, "a", "b", "b", "a"])


def test_rows_that_are_not_finite_are_found_in_every_chunk(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_CHUNK_ROWS", 2)
    embeddings = rows(9)
    embeddings[[2, 3, 8]] = np.nan
    with pytest.raises(InvalidArgument, match=r"3 of 8 labelled rows .*\(rows 2, 3, 8\)"):
        make_set(embeddings, ["a", None, "a", "b", "b", "a", "a", "a", "a"])


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (rows(4).astype(np.float64), ["a", "a", "b", "b"], "must be a float32 array, and are float64"),
        (rows(4).tolist(), ["a", "a", "b", "b"], "must be a float32 array, and are list"),
        (rows(4)[0], ["a", "a", "b"], r"must be \(N, dim\)"),
        (rows(4, 0), ["a", "a", "b", "b"], r"must be \(N, dim\)"),
        (rows(4), ["a", "a", "b"], "4 embeddings came with 3 labels"),
        (rows(4), ["a", "a", 1, 1], "label of row 2 is 1, of type int"),
        (rows(4), ["a", "a", "b\ud800", "b"], "row 2, .* is not valid Unicode"),
    ],
)
def test_what_cannot_be_used_is_refused(embeddings: Any, labels: list[Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        TrainingSet(embeddings, labels, "sp1-" + "0" * 32, "flowers", 1, "m@1")


def test_the_rows_are_a_copy(make_set: MakeSet) -> None:
    embeddings = rows(4)
    data = make_set(embeddings, ["a", "a", "b", "b"])
    embeddings[:] = -1
    np.testing.assert_array_equal(data.embeddings, rows(4))
    with pytest.raises(ValueError, match="read-only"):
        data.embeddings[0, 0] = 9


def test_the_hash_sees_values_labels_order_and_shape(make_set: MakeSet) -> None:
    labels = ["a", "a", "b", "b"]
    first = make_set(rows(4), labels).training_hash()
    assert first == make_set(rows(4), labels).training_hash()
    assert first == make_set(np.vstack([rows(4), rows(1)]), [*labels, None]).training_hash()
    others = {
        make_set(rows(4) + 1, labels).training_hash(),
        make_set(rows(4), ["a", "a", "c", "c"]).training_hash(),
        make_set(rows(4)[::-1], labels).training_hash(),
        make_set(rows(4), ["a", "b", "a", "b"]).training_hash(),
        make_set(rows(4, 6), labels).training_hash(),
    }
    assert first not in others
    assert len(others) == 5


def test_the_hash_does_not_depend_on_how_much_is_hashed_at_a_time(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = make_set(rows(5), ["a", "b", "a", "c", "c"]).training_hash()
    monkeypatch.setattr(hashing, "_TEXTS", 2)
    assert make_set(rows(5), ["a", "b", "a", "c", "c"]).training_hash() == expected


def test_the_hash_does_not_run_labels_together(make_set: MakeSet) -> None:
    one = make_set(rows(4), ["ab", "c", "ab", "c"]).training_hash()
    other = make_set(rows(4), ["a", "bc", "a", "bc"]).training_hash()
    assert one != other
