"""What becomes of the targets of each task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument, NotEnoughData
from trunkline_service.heads.training.training_set import TrainingSet


def rows(n: int, dim: int = 3) -> np.ndarray[Any, Any]:
    return np.arange(n * dim, dtype=np.float32).reshape(n, dim)


def make(labels: Any, task: Any = "single-label", **more: Any) -> TrainingSet:
    return TrainingSet(
        embeddings=more.pop("embeddings", rows(len(labels))),
        labels=labels,
        space_id="sp1-a",
        collection="photos",
        collection_version=1,
        model="m@1",
        task=task,
        **more,
    )


# Multi-label -------------------------------------------------------------------------------------------

SETS = [("a", "b"), ("b",), (), ("a", "a"), None, ("b", "c", " "), ("a",)]


def test_multi_label_rows_keep_the_classes_that_can_be_learned() -> None:
    data = make(SETS, "multi-label")
    assert data.classes == ("a", "b")
    assert data.labels == (("a", "b"), ("b",), (), ("a",), ("b",), ("a",))
    np.testing.assert_array_equal(data.indicator(), [[1, 1], [0, 1], [0, 0], [1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(data.embeddings, rows(7)[[0, 1, 2, 3, 5, 6]])
    assert data.notes[0] == "1 rows without a label were left out"
    assert "1 classes of a single row were left out ('c')" in data.notes[1]


def test_a_class_that_all_rows_have_is_left_out() -> None:
    data = make([("x", "a"), ("x",), ("x", "a"), ("x",)], "multi-label")
    assert data.classes == ("a",)
    assert "1 classes that all rows have, or all but one, were left out ('x')" in data.notes[0]


@pytest.mark.parametrize("labels", [[()] * 5, [None] * 5, [("a",)] * 5, [("a",), ("b",), (), ()]])
def test_multi_label_without_a_usable_class(labels: list[Any]) -> None:
    with pytest.raises(NotEnoughData, match="at least 1 class that 2 rows have and 2 rows do not"):
        make(labels, "multi-label")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([("a",), "b"], "the labels of row 1 are 'b', of type str; give a tuple"),
        ([("a",), 3], "the labels of row 1 are 3, of type int"),
        ([("a", 3), ()], "one label of row 0 is 3, of type int"),
        ([("a",), ("b", "a\ud800")], "the label of row 1, .* is not valid Unicode"),
    ],
)
def test_labels_that_are_no_tuples_of_text(labels: list[Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make(labels, "multi-label")


def test_single_labels_have_an_indicator_too() -> None:
    data = make(["b", "a", "b", "a"])
    np.testing.assert_array_equal(data.indicator(), [[0, 1], [1, 0], [0, 1], [1, 0]])


# Regression --------------------------------------------------------------------------------------------


def test_values_come_out_as_a_matrix_of_the_targets() -> None:
    data = make(np.array([1, 2, np.nan, 4, 5.5]), "regression", target="price")
    assert data.classes == data.targets == ("price",)
    np.testing.assert_array_equal(data.values(), [[1], [2], [4], [5.5]])
    assert data.values().dtype == np.float64
    assert data.notes == ("1 rows without a value were left out",)
    assert len(data) == 4


def test_a_row_needs_all_of_its_values() -> None:
    values = np.array([[1, 2], [2, np.nan], [3, 4], [4, 5], [5, 7.0]])
    data = make(values, "regression", target="x,y", targets=("x", "y"))
    np.testing.assert_array_equal(data.values(), values[[0, 2, 3, 4]])
    assert data.classes == ("x", "y")


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            [1, 2, np.nan, 3],
            NotEnoughData,
            "at least 4 rows with a value of price. Collection 'photos' gives 4 rows, 3",
        ),
        (
            [2, 2, 2, 2],
            NotEnoughData,
            "all 4 rows of collection 'photos' have price = 2: there is nothing to learn",
        ),
        ([1, 2, np.inf, 3], InvalidArgument, "the value of row 2 is infinite"),
        (["x", "y", "z", "u"], InvalidArgument, "values must be numbers"),
        (np.zeros((4, 2)), InvalidArgument, "2 values a row came with 1 names of targets"),
        (np.zeros((4, 2, 1)), InvalidArgument, r"\(N,\) or \(N, M\)"),
    ],
)
def test_values_that_cannot_be_learned(values: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make(values, "regression", target="price")


# Anomaly -----------------------------------------------------------------------------------------------


def test_anomalies_need_no_labels() -> None:
    data = make([None] * 5, "anomaly")
    assert (len(data), data.classes, data.notes) == (5, (), ())
    assert data.normal(None).all()
    assert not data.labelled().any()


def test_what_is_normal_is_told_by_its_label() -> None:
    data = make(["good", "broken", None, " ", "good"], "anomaly")
    np.testing.assert_array_equal(data.normal("good"), [True, False, False, False, True])
    np.testing.assert_array_equal(data.labelled(), [True, True, False, False, True])
    with pytest.raises(InvalidArgument, match=r"has label = 'goood'; did you mean 'good'"):
        data.normal("goood")
    several = make([("good", "big"), ("bad",), None, ("good",)], "anomaly")
    np.testing.assert_array_equal(several.normal("good"), [True, False, False, True])


def test_too_few_rows_to_know_what_is_normal() -> None:
    with pytest.raises(NotEnoughData, match="at least 4 rows, and collection 'photos' gives 3"):
        make([None] * 3, "anomaly")


# What comes with the rows ------------------------------------------------------------------------------


def test_everything_is_cut_to_the_rows_kept() -> None:
    data = make(
        ["a", None, "b", "a", "b", "c"],
        ids=list("uvwxyz"),
        sources=[f"{i}.jpg" for i in range(6)],
        groups=["g", "g", None, "h", "h", "h"],
        weights=[1, 2, 3, 4, 5, 6],
        validation=np.array([True, False, False, False, True, True]),
    )
    assert data.ids == ("u", "w", "x", "y")
    assert data.sources == ("0.jpg", "2.jpg", "3.jpg", "4.jpg")
    assert data.groups == ("g", None, "h", "h")
    assert data.weights is not None
    assert data.weights.tolist() == [1, 3, 4, 5]
    assert data.validation is not None
    assert data.validation.tolist() == [True, False, False, True]


def test_validation_rows_that_were_left_out_are_none() -> None:
    data = make(["a", "a", "b", "b", None], validation=np.array([False] * 4 + [True]))
    assert data.validation is None


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"ids": ["u"]}, "4 embeddings came with 1 ids"),
        ({"groups": []}, "4 embeddings came with 0 groups"),
        ({"weights": [1, 1, 0, 1]}, "the weight of row 2 is 0; weights are positive"),
        ({"weights": [1, np.nan, 1, 1]}, "the weight of row 1 is nan"),
        ({"weights": np.ones((4, 1))}, r"weights must be \(N,\)"),
        ({"validation": [True, False, True, False]}, "validation must be a bool array"),
        ({"task": "clustering"}, "task is 'clustering'; it can be single-label"),
    ],
)
def test_parts_that_cannot_be_used(part: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make(["a", "a", "b", "b"], **part)


def test_a_task_has_its_own_targets_only() -> None:
    with pytest.raises(
        InvalidArgument, match="is for single-label, and this is for regression; choose a kind"
    ):
        make(["a", "a", "b", "b"]).values()
    with pytest.raises(InvalidArgument, match="is for regression, and this is for single-label"):
        make([1.0, 2, 3, 4], "regression").codes()


def test_rows_with_nan_are_named_by_their_ids() -> None:
    embeddings = rows(4)
    embeddings[2, 0] = np.nan
    with pytest.raises(InvalidArgument, match=r"\(rows u2\)"):
        make(["a", "a", "b", "b"], embeddings=embeddings, ids=["u0", "u1", "u2", "u3"])


def test_read_only_rows_are_not_copied() -> None:
    embeddings = rows(4)
    embeddings.setflags(write=False)
    assert make(["a", "a", "b", "b"], embeddings=embeddings).embeddings is embeddings
    assert make(["a", "a", "b", "b", None][:4], embeddings=rows(4)).embeddings.flags.writeable is False


# The test split ----------------------------------------------------------------------------------------


def test_a_test_split_is_cleaned_by_the_classes_learned() -> None:
    data = make(["a", "a", "b", "b"])
    both = data.with_test(rows(4) + 100, ["b", "z", None, "b"], ids=list("mnop"))
    assert data.test is None
    assert both.test is not None
    assert both.test.classes == data.classes
    assert both.test.codes().tolist() == [1, 1]
    assert both.test.ids == ("m", "p")
    assert both.notes == (
        "test split: 1 rows without a label were left out",
        "test split: 1 labels of 1 classes that were not learned were left out ('z')",
    )
    assert both.training_hash() == data.training_hash()


def test_a_test_split_of_which_nothing_can_be_judged() -> None:
    both = make(["a", "a", "b", "b"]).with_test(rows(2), ["z", None])
    assert both.test is None
    assert both.notes[-1] == "none of the 2 rows of the test split can be judged"


def test_test_splits_of_the_other_tasks() -> None:
    several = make(SETS, "multi-label").with_test(rows(2), [("b", "c"), ()])
    assert several.test is not None
    assert several.test.indicator().tolist() == [[False, True], [False, False]]
    values = make([1.0, 2, 3, 4], "regression", target="price").with_test(rows(2), np.array([5, np.nan]))
    assert values.test is not None
    assert values.test.values().tolist() == [[5]]
    anything = make(["good"] * 4, "anomaly").with_test(rows(2), ["bad", None])
    assert anything.test is not None
    assert anything.test.normal("good").tolist() == [False, False]


def test_a_test_set_of_other_classes_is_refused() -> None:
    other = make(["a", "a", "c", "c"])
    with pytest.raises(InvalidArgument, match="give its rows to with_test"):
        make(["a", "a", "b", "b"], test=other)
    assert make(["a", "a", "b", "b"], test=make(["a", "b", "a", "b"])).test is not None


# Identity ----------------------------------------------------------------------------------------------


def test_the_hash_of_plain_labels_is_what_it_always_was() -> None:
    # Of Trunkline 0.1.0: cards that hold such hashes must stay comparable.
    data = make(["é", "b", "é", None, "b"])
    assert data.training_hash() == "8282a5151a83e038c86c7d450c9785694185ec8dfc9daf1ff2851e64b340f934"


def test_the_hash_sees_all_that_is_learned_from() -> None:
    labels = ["a", "a", "b", "b"]
    mask = np.array([True, False, False, False])
    sets = [
        make(labels),
        make(labels, weights=[1, 1, 1, 2]),
        make(labels, weights=[1, 1, 2, 1]),
        make(labels, groups=["g", "g", None, None]),
        make(labels, groups=["g", "g", "None", None]),
        make(labels, validation=mask),
        make(labels, validation=~mask),
        make([("a",), ("a",), (), ()], "multi-label"),
        make([("a",), (), ("a",), ()], "multi-label"),
        make([1.0, 2, 3, 4], "regression", target="x"),
        make([1.0, 2, 3, 5], "regression", target="x"),
        make([1.0, 2, 3, 4], "regression", target="y"),
        make([None, None, None, None], "anomaly"),
        make(["a", None, None, None], "anomaly"),
        make(["None", None, None, None], "anomaly"),
    ]
    assert len({data.training_hash() for data in sets}) == len(sets)
    assert make(labels, ids=list("uvwx")).training_hash() == sets[0].training_hash()


def test_ten_thousand_classes() -> None:
    codes = np.arange(100_000) % 10_000
    data = make([f"{k:05d}" for k in codes], embeddings=np.zeros((100_000, 2), np.float32))
    np.testing.assert_array_equal(data.codes(), codes)
    assert len(data.classes) == 10_000


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            [1.0, 1e-13, 1.0, 1.0],
            r"the weights of rows 1 and 0 are 1e-13 and 1; they may be 1e\+12 times apart",
        ),
        ([1.0, 1e31, 1e31, 1e31], r"the weight of row 1 is 1e\+31; weights lie from 1e-30 to 1e\+30"),
        ([1e-31] * 4, "the weight of row 0 is 1e-31"),
    ],
)
def test_weights_out_of_bounds(weights: list[float], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make(["a", "b"] * 2, weights=weights)


def test_values_out_of_bounds() -> None:
    with pytest.raises(InvalidArgument, match=r"the value of row 2 is -2e\+30.* up to 1e\+30"):
        make([[1.0, 0.0], [np.nan, 1.0], [3.0, -2e30], [4.0, 2.0]], "regression", targets=("a", "b"))
    with pytest.raises(InvalidArgument, match="values of label differ by 3e-40 at most"):
        make([1e-40, 2e-40, 3e-40, 4e-40], "regression")
