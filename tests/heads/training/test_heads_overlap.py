"""Test rows that are among the rows learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trunkline_service.heads.training import close_groups
from trunkline_service.heads.training.overlap import overlap_notes
from trunkline_service.heads.training.training_set import TrainingSet


def learned(rows: Any, **fields: Any) -> TrainingSet:
    return TrainingSet(
        embeddings=rows,
        labels=["a", "b"] * (len(rows) // 2),
        space_id="sp1-a",
        collection="photos",
        collection_version=1,
        model="m@1",
        **fields,
    )


def normal(seed: int, n: int, dim: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize("all_pairs", [0, 2048])
def test_copies_and_near_copies_are_counted(monkeypatch: pytest.MonkeyPatch, all_pairs: int) -> None:
    monkeypatch.setattr(close_groups, "_ALL_PAIRS_ROWS", all_pairs)
    rows, tested = normal(0, 60, 64), normal(1, 20, 64)
    tested[:3] = rows[50:53]
    tested[3:5] = rows[7:9] * 2 + normal(2, 2, 64) * 0.05
    # Copies of each other alone flatter nothing.
    tested[10] = tested[11]
    (note,) = overlap_notes(learned(rows).with_test(tested, ["a", "b"] * 10))
    assert note.startswith("5 of 20 rows of the test split have a duplicate or a near duplicate")
    assert overlap_notes(learned(rows).with_test(tested[5:], ["a", "b", "a"] * 5)) == ()
    assert overlap_notes(learned(rows)) == ()


def test_in_few_dimensions_only_equal_rows_count() -> None:
    rows = np.abs(normal(0, 60, 3)) + 5
    tested = rows[:10] * np.float32(1.001)
    tested[4] = rows[30]
    (note,) = overlap_notes(learned(rows).with_test(tested, ["a", "b"] * 5))
    assert note.startswith("1 of 10 rows")


def test_rows_that_are_all_alike_count_where_they_are_equal() -> None:
    rows = 100 + normal(0, 60, 64)
    tested = 100 + normal(1, 10, 64)
    tested[:2] = rows[:2]
    (note,) = overlap_notes(learned(rows).with_test(tested, ["a", "b"] * 5))
    assert note.startswith("2 of 10 rows")


def test_groups_in_common() -> None:
    data = learned(normal(0, 8, 64), groups=["p", "p", "q", None, "r", "r", "q", None])
    tested = normal(1, 4, 64)
    (note,) = overlap_notes(data.with_test(tested, ["a", "b", "a", "b"], groups=["q", None, "s", "p"]))
    assert note.startswith("2 of 4 rows of the test split are of a group that is also learned from")
    assert overlap_notes(data.with_test(tested, ["a", "b", "a", "b"])) == ()
