from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.heads.training import close_groups as close_module
from trunkline_service.heads.training.close_groups import close_groups
from trunkline_service.heads.training.duplicates import NEAR_COSINE, equal_rows, group_rows
from trunkline_service.heads.training.partitions import components, first_rows, ordered
from trunkline_service.heads.training.training_set import TrainingSet


def clouds(rows: int, seed: int = 0, dim: int = 64) -> np.ndarray[Any, Any]:
    """Ten clouds off the origin, as embeddings are."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(10, dim)) + 1
    codes = generator.integers(0, 10, rows)
    return (centres[codes] + generator.normal(size=(rows, dim))).astype(np.float32)


def with_copies(rows: np.ndarray[Any, Any], copies: int, seed: int = 1) -> np.ndarray[Any, Any]:
    """Copies of the first rows, changed a little, at the end."""
    noise = np.random.default_rng(seed).normal(scale=0.04, size=(copies, rows.shape[1]))
    return np.vstack([rows, rows[:copies] + noise]).astype(np.float32)


def brute(rows: np.ndarray[Any, Any], cosine: float) -> set[tuple[int, int]]:
    unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    first, second = np.nonzero(np.triu(unit @ unit.T >= cosine, k=1))
    return set(zip(first.tolist(), second.tolist(), strict=True))


def joined(pairs: set[tuple[int, int]], count: int) -> np.ndarray[Any, Any]:
    """(count, count) which rows a chain of pairs joins."""
    return together(components(count, np.array(sorted(pairs), np.int64).reshape(-1, 2)))


def together(codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(codes[:, None] == codes[None])


def test_few_rows_are_compared_with_all() -> None:
    rows = with_copies(clouds(300), 40)
    expected = brute(rows, NEAR_COSINE)
    assert len(expected) >= 40
    np.testing.assert_array_equal(together(close_groups(rows, NEAR_COSINE)), joined(expected, 340))


def test_hashing_finds_nearly_all_pairs_and_no_others() -> None:
    rows = with_copies(clouds(5000), 500)
    codes, expected = close_groups(rows, NEAR_COSINE), brute(rows, NEAR_COSINE)
    assert not (together(codes) & ~joined(expected, 5500)).any()
    assert len(expected) >= 500
    assert sum(codes[i] == codes[j] for i, j in expected) >= 0.98 * len(expected)


def test_some_rows_among_others_are_as_they_are_alone() -> None:
    rows = with_copies(clouds(3000), 100)
    chosen = np.arange(0, 3100, 2)
    np.testing.assert_array_equal(
        together(close_groups(rows, NEAR_COSINE, chosen)), together(close_groups(rows[chosen], NEAR_COSINE))
    )
    chosen = np.flatnonzero(np.arange(3100) % 10)
    np.testing.assert_array_equal(
        together(close_groups(rows, NEAR_COSINE, chosen)), together(close_groups(rows[chosen], NEAR_COSINE))
    )


def test_hashing_gives_the_same_every_time() -> None:
    rows = with_copies(clouds(3000), 100)
    np.testing.assert_array_equal(close_groups(rows, NEAR_COSINE), close_groups(rows, NEAR_COSINE))


@pytest.mark.parametrize("held", [1, 6000])
def test_rows_that_are_all_alike_cost_no_more_than_their_number(
    monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(close_module, "_MAX_COMPARED", 9000)
    monkeypatch.setattr(close_module, "_MAX_HELD", held)
    compared = []
    monkeypatch.setattr(
        close_module,
        "_cosines",
        lambda taken, lengths, pairs: (compared.append(len(pairs)), np.ones(len(pairs), np.float32))[1],
    )
    copies = np.random.default_rng(0).permutation(np.repeat(clouds(10), 300, axis=0))
    rows = copies + np.random.default_rng(1).normal(scale=1e-3, size=copies.shape)
    codes = close_groups(rows.astype(np.float32), NEAR_COSINE)
    # Of 448,500 close pairs three a row, and not three a row and key: what is joined is not compared again.
    assert len(np.unique(codes)) == 10
    assert 0 < sum(compared) <= 3 * 3000


def test_rows_of_zeros_are_near_nothing() -> None:
    rows = clouds(3000)
    rows[::7] = 0
    for few in (rows[:200], rows):
        codes = close_groups(few, NEAR_COSINE)
        assert len(np.unique(codes)) == len(few)


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 5))
def test_equal_rows_are_those_of_equal_values(values: list[int], dim: int) -> None:
    rows = np.array([[value + 7 * d for d in range(dim)] for value in values], np.float32).reshape(-1, dim)
    codes = equal_rows(rows)
    for i in range(len(values)):
        for j in range(len(values)):
            assert (codes[i] == codes[j]) == (values[i] == values[j])


def test_equal_hashes_alone_join_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from trunkline_service.heads.training import duplicates

    monkeypatch.setattr(duplicates, "_row_hashes", lambda rows, chosen: np.zeros(len(chosen), np.uint64))
    assert len(np.unique(equal_rows(clouds(50)))) == 50


@given(st.integers(0, 2**32 - 1), st.integers(17, 40))
def test_rows_that_begin_alike_are_told_apart(seed: int, dim: int) -> None:
    generator = np.random.default_rng(seed)
    rows = np.zeros((30, dim), np.float32)
    rows[:, -1] = generator.integers(0, 5, 30)
    np.testing.assert_array_equal(together(equal_rows(rows)), together(rows[:, -1]))


@given(st.lists(st.integers(0, 20), max_size=30))
def test_ordered_numbers_follow_the_first_rows(values: list[int]) -> None:
    codes = ordered(np.array(values, np.int64))
    np.testing.assert_array_equal(together(codes), together(np.array(values, np.int64)))
    firsts = [values.index(value) for value in dict.fromkeys(values)]
    assert codes[firsts].tolist() == list(range(len(firsts)))
    assert first_rows(codes).tolist() == firsts


def test_copies_stay_with_their_originals() -> None:
    rows = with_copies(clouds(200), 20)
    found = group_rows(rows, None, None)
    assert found.count == 200
    np.testing.assert_array_equal(found.codes[:20], found.codes[200:])
    assert found.codes.tolist()[:200] == list(range(200))
    assert found.notes == (
        "20 groups of duplicates and near duplicates (40 rows) are kept on one side of each split",
    )


def test_duplicates_can_be_left_out() -> None:
    rows = with_copies(clouds(100), 10)
    rows[50] = rows[49]
    found = group_rows(rows, ["a", "a", *[None] * 108], None, duplicates=False)
    assert found.count == 109
    assert found.codes[0] == found.codes[1]
    assert found.codes[49] != found.codes[50]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_groups_and_duplicates_join_each_other(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = clouds(30, seed)
    rows[generator.integers(0, 30, 5)] = rows[generator.integers(0, 30, 5)]
    groups = [None if g == 0 else f"g{g}" for g in generator.integers(0, 8, 30)]
    codes = group_rows(rows, groups, None).codes
    # Reached by steps of one relation or the other, and by nothing else.
    equal = (rows[:, None] == rows[None]).all(axis=2)
    same = np.array([[a is not None and a == b for b in groups] for a in groups])
    reach = equal | same | np.eye(30, dtype=bool)
    for _ in range(5):
        reach = reach.astype(int) @ reach.astype(int) > 0
    np.testing.assert_array_equal(codes[:, None] == codes[None], reach)


def test_few_dimensions_say_nothing_of_near_duplicates(iris: TrainingSet) -> None:
    assert len(brute(np.asarray(iris.embeddings), NEAR_COSINE)) > 1000
    sizes = np.bincount(iris.group_codes())
    # Iris holds one flower twice.
    assert sorted(sizes[sizes > 1].tolist()) == [2]


def test_vectors_that_are_all_alike_are_no_duplicates() -> None:
    rows = np.ones((100, 64), np.float32) + np.random.default_rng(0).normal(scale=1e-3, size=(100, 64))
    rows = rows.astype(np.float32)
    rows[9] = rows[8]
    found = group_rows(rows, None, None)
    assert found.count == 99
    assert "would hold 100 of 100 rows): only equal embeddings" in found.notes[1]
    assert found.notes[0].startswith("1 groups of duplicates")


def test_a_class_that_is_one_image_is_split_all_the_same() -> None:
    rows = with_copies(clouds(60), 3)
    codes = np.zeros(63, np.int64)
    codes[[0, 60]] = 1
    found = group_rows(rows, None, codes)
    assert found.codes[0] != found.codes[60]
    np.testing.assert_array_equal(found.codes[1:3], found.codes[61:])
    assert "1 groups of near duplicates hold all rows of a class" in found.notes[1]
    equal = np.vstack([rows[:60], rows[:1]])
    codes = np.zeros(61, np.int64)
    codes[[0, 60]] = 1
    kept = group_rows(equal, None, codes)
    assert kept.codes[0] == kept.codes[60]
    assert len(kept.notes) == 1


def test_no_rows() -> None:
    found = group_rows(np.empty((0, 64), np.float32), None, None)
    assert (found.count, found.notes) == (0, ())
