from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument
from trunkline_service.index.choosing.planning import lists_for, plan
from trunkline_service.index.options import IndexOptions

MIB = 1 << 20
FLAT_ROWS = 200_000


def kinds(rows: int, dim: int, options: IndexOptions) -> list[str]:
    return [candidate.kind for candidate in plan(rows, dim, options, FLAT_ROWS).candidates]


@pytest.mark.parametrize("rows", [0, 1, FLAT_ROWS])
def test_few_rows_are_compared(rows: int) -> None:
    planned = plan(rows, 128, IndexOptions(), FLAT_ROWS)

    assert planned.candidates == ()
    assert f"{rows:,} rows are compared" in planned.reason


def test_more_rows_get_lists_or_else_a_graph() -> None:
    assert kinds(FLAT_ROWS + 1, 128, IndexOptions()) == ["ivf_flat", "hnsw"]
    assert kinds(20_000_000, 128, IndexOptions()) == ["ivf_flat"]


def test_an_index_that_was_asked_for_is_built_at_any_size_and_alone() -> None:
    assert kinds(50, 8, IndexOptions(kind="ivf_flat")) == ["ivf_flat"]
    assert kinds(10_000_000, 8, IndexOptions(kind="flat")) == []
    assert kinds(50, 8, IndexOptions(kind="hnsw")) == ["hnsw"]


def test_product_codes_of_too_few_rows_say_so() -> None:
    planned = plan(255, 8, IndexOptions(kind="ivf_pq"), FLAT_ROWS)

    assert planned.candidates == ()
    assert "ivf_pq needs at least 256 rows" in planned.reason
    assert kinds(256, 8, IndexOptions(kind="ivf_pq")) == ["ivf_pq"]


@pytest.mark.parametrize(
    ("memory_mb", "expected"),
    [
        (800, ["ivf_flat", "hnsw"]),
        (520, ["ivf_flat"]),
        (400, ["ivf_sq8", "ivf_pq"]),
        (100, ["ivf_pq"]),
        (10, []),
    ],
)
def test_memory_decides_what_is_tried(memory_mb: int, expected: list[str]) -> None:
    planned = plan(1_000_000, 128, IndexOptions(memory_mb=memory_mb), FLAT_ROWS)

    assert [candidate.kind for candidate in planned.candidates] == expected
    assert (f"{memory_mb} are allowed" in planned.reason) == (memory_mb < 500)


def test_a_kind_that_takes_too_much_memory_is_not_built() -> None:
    planned = plan(1_000_000, 128, IndexOptions(kind="hnsw", memory_mb=100), FLAT_ROWS)

    assert planned.candidates == ()
    assert "hnsw would take" in planned.reason
    assert "100 are allowed" in planned.reason


@settings(deadline=None)
@given(
    rows=st.integers(1, 50_000_000),
    dim=st.integers(1, 2048),
    kind=st.sampled_from(["auto", "hnsw", "ivf_flat", "ivf_sq8", "ivf_pq"]),
    memory_mb=st.none() | st.integers(1, 100_000),
)
def test_whatever_is_planned_fits_and_can_be_built(
    rows: int, dim: int, kind: str, memory_mb: int | None
) -> None:
    planned = plan(rows, dim, IndexOptions(kind=kind, memory_mb=memory_mb), FLAT_ROWS)  # type: ignore[arg-type]

    assert planned.reason
    for candidate in planned.candidates:
        assert kind in ("auto", candidate.kind)
        assert memory_mb is None or candidate.nbytes <= memory_mb * MIB
        if candidate.kind == "hnsw":
            assert candidate.parameters["M"] >= 2
            continue
        assert 1 <= candidate.parameters["nlist"] <= rows
        if candidate.kind == "ivf_pq":
            assert dim % candidate.parameters["m"] == 0
            assert rows >= 256


@pytest.mark.parametrize(
    ("rows", "lists"), [(1, 1), (100, 2), (10_000, 256), (1_000_000, 4096), (10_000_000, 16_384)]
)
def test_lists_grow_with_the_root_of_the_rows(rows: int, lists: int) -> None:
    assert lists_for(rows) == lists


def test_kind_lance_is_not_planned_here() -> None:
    with pytest.raises(InvalidArgument, match="lance"):
        plan(10, 8, IndexOptions(kind="lance"), FLAT_ROWS)
