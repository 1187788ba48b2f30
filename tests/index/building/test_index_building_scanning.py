"""One scan writes every row once, in both files in the same order, with a uniform sample at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.collections.fragments import FragmentRows, Stamps
from trunkline_service.errors import Cancelled
from trunkline_service.index.building.held_out import Reservoir, held_out_rows
from trunkline_service.index.building.scanning import Scanned, scan
from trunkline_service.index.metric import prepared

DIM = 3


def vectors_of(positions: np.ndarray) -> np.ndarray:
    return (positions[:, None] * [1.0, 2.0, 3.0] + [1.0, 0.0, 0.5]).astype(np.float32)


def batches(sizes: list[int], multi_label: bool = False) -> Iterator[FragmentRows]:
    start = 0
    kind = pa.large_list(pa.large_utf8()) if multi_label else pa.large_utf8()
    for number, size in enumerate(sizes):
        positions = np.arange(start, start + size)
        start += size
        labels = [None if i % 3 == 0 else ["a", "b"] if multi_label else "a" for i in positions]
        yield FragmentRows(
            Stamps(
                positions.astype(np.uint64) + 7, np.full(size, 2, np.uint64), np.full(size, number, np.int32)
            ),
            vectors_of(positions),
            pa.array([f"id{i}" for i in positions], pa.large_utf8()),
            pa.array(labels, kind),
            pa.array(["s"] * size, pa.large_utf8()),
        )


def run(folder: Path, sizes: list[int], most: int, metric: str = "dot", seed: int = 0) -> Scanned:
    return scan(
        batches(sizes), most, metric, folder, seed=seed, progress=lambda _: None, cancelled=lambda: False
    )


def read(folder: Path) -> tuple[pa.Table, np.ndarray]:
    reader = pa.ipc.open_file(pa.memory_map(str(folder / "rows.arrow")))
    assert reader.num_record_batches == 1
    return reader.read_all(), np.fromfile(folder / "vectors.f32", "<f4").reshape(-1, DIM)


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    more=st.integers(0, 5000),
    metric=st.sampled_from(["cosine", "dot", "euclidean"]),
    seed=st.integers(0, 5),
)
def test_every_row_is_written_once_with_its_vector(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], more: int, metric: str, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("scan")
    count = sum(sizes)
    scanned = run(folder, sizes, count + more, metric, seed)
    assert scanned == Scanned(count - held_out_rows(count), held_out_rows(count))
    table, vectors = read(folder)
    positions = table.column("row_id").to_numpy().astype(np.int64) - 7
    assert sorted(positions.tolist()) == list(range(count))
    np.testing.assert_array_equal(vectors, prepared(vectors_of(positions), metric))
    assert table.column("id").to_pylist() == [f"id{i}" for i in positions]
    assert table.column("label").to_pylist() == [None if i % 3 == 0 else "a" for i in positions]
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    assert table.column("fragment").to_pylist() == numbers[positions].tolist()
    assert sorted(path.name for path in folder.iterdir()) == ["rows.arrow", "vectors.f32"]


def test_labels_can_be_lists(tmp_path: Path) -> None:
    scan(
        batches([30], multi_label=True),
        30,
        "dot",
        tmp_path,
        seed=0,
        progress=lambda _: None,
        cancelled=lambda: False,
    )
    table, _ = read(tmp_path)
    assert table.schema.field("label").type == pa.large_list(pa.large_utf8())
    assert Counter(map(str, table.column("label").to_pylist())) == {"None": 10, "['a', 'b']": 20}


def test_the_same_seed_holds_out_the_same_rows(tmp_path: Path) -> None:
    seen = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        run(folder, [500, 500], 1000, seed=seed)
        seen.append(read(folder)[0].column("id").to_pylist()[-100:])
    assert seen[0] == seen[1] != seen[2]


def test_of_far_fewer_rows_than_were_thought_any_can_be_held_out(tmp_path: Path) -> None:
    seen = set()
    for seed in range(30):
        run(tmp_path, [25, 15], 4000, seed=seed)
        seen.update(read(tmp_path)[0].column("id").to_pylist()[-4:])
    # 30 times 4 of 40: one row is left out of all with a probability of 0.04.
    assert len(seen) > 30


def test_every_row_is_held_out_as_often_as_any_other() -> None:
    """Of 40 rows 5 are held out, 4,000 times: 500 times each, give or take five standard deviations."""
    counts = np.zeros(40)
    for seed in range(4000):
        reservoir = Reservoir(8, seed)
        slots = np.concatenate([reservoir.admit(size) for size in (3, 17, 20)])
        last = {slot: row for row, slot in enumerate(slots.tolist()) if slot >= 0}
        counts[[last[slot] for slot in reservoir.chosen(5).tolist()]] += 1
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500 * 35 / 40)


def test_a_stream_shorter_than_the_sample_is_all_of_it() -> None:
    reservoir = Reservoir(10, 0)
    assert reservoir.admit(3).tolist() == [0, 1, 2]
    assert sorted(reservoir.chosen(10).tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("rows", "held_out"),
    [(0, 0), (9, 0), (50, 5), (1000, 100), (10_000, 100), (50_000, 500), (10**6, 1000)],
)
def test_how_many_rows_are_held_out(rows: int, held_out: int) -> None:
    assert held_out_rows(rows) == held_out


def test_no_rows_give_no_rows(tmp_path: Path) -> None:
    assert run(tmp_path, [], 10) == Scanned(0, 0)


def test_progress_is_told_and_cancelling_ends_it(tmp_path: Path) -> None:
    told: list[float] = []
    with pytest.raises(Cancelled):
        scan(
            batches([10, 10, 10]),
            40,
            "dot",
            tmp_path,
            seed=0,
            progress=told.append,
            cancelled=lambda: len(told) == 2,
        )
    assert told == [0.25, 0.5]
