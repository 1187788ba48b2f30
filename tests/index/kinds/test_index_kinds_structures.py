"""Laws of every approximate structure; the answers of exact search are the truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled, IndexDamaged, InvalidArgument, StorageError
from trunkline_service.index.exact import half_squares_of, nearest
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.kinds.building import build
from trunkline_service.index.kinds.ivf import Ivf
from trunkline_service.index.kinds.reading import read
from trunkline_service.index.kinds.sizes import estimated_bytes
from trunkline_service.index.metric import pair_scores, prepared
from trunkline_service.index.options import IndexKind

METRICS = ["cosine", "dot", "euclidean"]
PARAMETERS: dict[IndexKind, dict[str, int]] = {
    "ivf_flat": {"nlist": 24},
    "ivf_sq8": {"nlist": 24, "k_factor": 4},
    "ivf_pq": {"nlist": 24, "m": 8, "k_factor": 30},
    "hnsw": {"M": 16, "efConstruction": 80},
}
KINDS = list(PARAMETERS)
ROWS, DIM = 3000, 16


@cache
def vectors_of(metric: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(40, DIM))
    raw = centres[rng.integers(40, size=ROWS)] + rng.normal(size=(ROWS, DIM)) * 0.5
    # Lengths differ, so that the metrics disagree.
    raw *= rng.uniform(0.5, 1.5, size=(ROWS, 1))
    return prepared(raw.astype(np.float32), metric)


@cache
def queries_of(metric: str, count: int = 60) -> NDArray[np.float32]:
    rng = np.random.default_rng(2)
    near = vectors_of("dot")[rng.integers(ROWS, size=count)]
    return prepared((near + rng.normal(size=near.shape) * 0.2).astype(np.float32), metric)


def built(kind: IndexKind, metric: str, vectors: NDArray[np.float32], **parameters: int) -> Approximate:
    return build(
        kind,
        vectors,
        metric=metric,
        parameters=PARAMETERS[kind] | parameters,
        progress=lambda phase, done: None,
        cancelled=lambda: False,
        threads=2,
    )


@cache
def structure(kind: IndexKind, metric: str) -> Approximate:
    return built(kind, metric, vectors_of(metric))


def exactly(
    metric: str, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    vectors = vectors_of(metric)
    halves = half_squares_of(vectors) if metric == "euclidean" else None
    return nearest(queries, vectors, k, metric, allowed, halves)


def recall(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, true, strict=True)]))


def whole(kind: IndexKind) -> int:
    """The effort that leaves nothing out."""
    return ROWS if kind == "hnsw" else PARAMETERS[kind]["nlist"]


@pytest.mark.parametrize("metric", METRICS)
@settings(deadline=None, max_examples=25)
@given(first=st.integers(0, 55), k=st.integers(1, 40), share=st.floats(0.002, 1), seed=st.integers(0, 9))
def test_all_lists_of_whole_vectors_give_the_answers_of_exact_search(
    metric: str, first: int, k: int, share: float, seed: int
) -> None:
    queries = queries_of(metric)[first : first + 5]
    allowed = np.random.default_rng(seed).random(ROWS) < share

    scores, positions = structure("ivf_flat", metric).search(queries, k, 24, allowed, threads=2)

    true_scores, true_positions = exactly(metric, queries, k, allowed)
    np.testing.assert_array_equal(positions, true_positions)
    np.testing.assert_array_equal(scores, true_scores)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_full_effort_finds_nearly_all_neighbours(kind: IndexKind, metric: str) -> None:
    queries = queries_of(metric)

    _, positions = structure(kind, metric).search(queries, 10, whole(kind), threads=2)

    # A graph of inner products need not lead everywhere.
    least = 0.9 if (kind, metric) == ("hnsw", "dot") else 0.99
    assert recall(positions, exactly(metric, queries, 10)[1]) >= least


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_more_effort_finds_no_less_and_little_effort_some(kind: IndexKind, metric: str) -> None:
    queries = queries_of(metric)
    true = exactly(metric, queries, 10)[1]

    few, some, many = (
        recall(structure(kind, metric).search(queries, 10, effort)[1], true) for effort in (1, 8, whole(kind))
    )

    assert 0.1 < few <= some <= many


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(
    k=st.integers(1, 50),
    effort=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.003, 0.1, 0.9, 1.0]),
    seed=st.integers(0, 9),
)
def test_answers_are_allowed_and_different_and_sorted_and_scored_exactly(
    kind: IndexKind, metric: str, k: int, effort: int, share: float, seed: int
) -> None:
    queries = queries_of(metric)[seed : seed + 7]
    allowed = np.random.default_rng(seed).random(ROWS) < share

    scores, positions = structure(kind, metric).search(queries, k, effort, allowed, threads=2)

    assert (scores.dtype, positions.dtype, scores.shape) == (np.float32, np.int64, (7, k))
    assert positions.shape == (7, k)
    for query, row, found in zip(queries, scores, positions, strict=True):
        count = int((found >= 0).sum())
        assert np.all(found[count:] == -1)
        assert np.all(np.isneginf(row[count:]))
        assert np.all(allowed[found[:count]])
        assert len(np.unique(found[:count])) == count
        assert np.all(np.diff(row[:count]) <= 0)
        expected = pair_scores(query[None], vectors_of(metric)[found[:count]][None], metric)[0]
        np.testing.assert_array_equal(row[:count], expected)


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq8", "ivf_pq"])
def test_a_filter_whose_rows_lie_far_away_leaves_no_query_short(kind: IndexKind) -> None:
    vectors, queries = vectors_of("cosine"), queries_of("cosine")
    query = queries[0]
    allowed = vectors @ query < np.sort(vectors @ query)[ROWS // 20]

    _, positions = structure(kind, "cosine").search(query[None], 40, 1, allowed)

    assert np.all(positions >= 0)
    assert np.all(allowed[positions])


def test_a_filter_whose_rows_lie_together_costs_little_recall() -> None:
    vectors, queries = vectors_of("cosine"), queries_of("cosine")
    # Looking into the two nearest lists alone, whatever they hold, finds 0.48.
    allowed = vectors[:, 0] > np.quantile(vectors[:, 0], 0.85)

    _, positions = structure("ivf_flat", "cosine").search(queries, 10, 2, allowed)

    assert recall(positions, exactly("cosine", queries, 10, allowed)[1]) > 0.75


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_answers_the_same_when_it_is_read(
    kind: IndexKind, metric: str, tmp_path: Path
) -> None:
    vectors = vectors_of(metric)
    vectors.tofile(tmp_path / "vectors.f32")
    mapped = np.memmap(tmp_path / "vectors.f32", np.float32, "r", shape=vectors.shape)
    original = structure(kind, metric)
    original.write(tmp_path)

    again = read(kind, tmp_path, mapped, original.parameters, metric)

    assert (again.kind, len(again), again.parameters) == (kind, ROWS, original.parameters)
    assert again.nbytes == original.nbytes
    allowed = np.arange(ROWS) % 3 > 0
    for effort in (2, 12):
        for mask in (None, allowed):
            one = original.search(queries_of(metric), 10, effort, mask)
            other = again.search(queries_of(metric), 10, effort, mask)
            np.testing.assert_array_equal(one[1], other[1])
            np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("kind", KINDS)
def test_searches_at_once_answer_as_one_after_another(kind: IndexKind) -> None:
    approximate, queries = structure(kind, "cosine"), queries_of("cosine")
    masks = [None, np.arange(ROWS) % 2 == 0, np.arange(ROWS) % 2 == 1]
    calls = [
        (k, effort, mask, threads)
        for k in (3, 10)
        for effort in (2, 9)
        for mask in masks
        for threads in (1, 2)
    ]
    serial = [approximate.search(queries, k, effort, mask) for k, effort, mask, _ in calls]

    with ThreadPoolExecutor(6) as pool:
        pending = [pool.submit(approximate.search, queries, *call) for call in calls * 4]
        together = [future.result() for future in pending]

    for one, other in zip(serial * 4, together, strict=True):
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_answers_as_its_queries_alone(kind: IndexKind) -> None:
    approximate, queries = structure(kind, "euclidean"), queries_of("euclidean")

    together = approximate.search(queries, 5, 6, threads=2)[1]

    alone = np.vstack([approximate.search(query[None], 5, 6)[1] for query in queries])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_more_neighbours_than_rows_and_no_queries(kind: IndexKind) -> None:
    approximate = structure(kind, "cosine")

    scores, positions = approximate.search(queries_of("cosine")[:2], ROWS + 5, whole(kind))
    nothing = approximate.search(queries_of("cosine")[:0], 4, 3, threads=2)

    assert np.all(positions[:, -5:] == -1)
    assert np.all(np.isneginf(scores[:, -5:]))
    assert np.all(positions[:, : ROWS // 2] >= 0)
    assert (nothing[0].shape, nothing[1].shape) == ((0, 4), (0, 4))


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq8", "hnsw"])
@pytest.mark.parametrize("rows", [1, 2, 30])
def test_few_rows_and_rows_of_zeros(kind: IndexKind, rows: int) -> None:
    vectors = vectors_of("cosine")[:rows].copy()
    vectors[rows // 2] = 0

    approximate = built(kind, "cosine", vectors, **({} if kind == "hnsw" else {"nlist": 1}))
    _, positions = approximate.search(vectors[:1], rows, 50)

    assert sorted(positions[0]) == list(range(rows))


def test_a_wider_choice_mends_product_codes() -> None:
    approximate, queries = structure("ivf_pq", "cosine"), queries_of("cosine")
    assert isinstance(approximate, Ivf)
    true = exactly("cosine", queries, 10)[1]

    narrow, wide = (approximate.with_k_factor(factor) for factor in (1, 30))

    assert narrow.parameters == PARAMETERS["ivf_pq"] | {"k_factor": 1}
    assert (
        recall(narrow.search(queries, 10, 24)[1], true) < recall(wide.search(queries, 10, 24)[1], true) - 0.05
    )


def test_codes_take_less_memory() -> None:
    flat, sq8, pq = (structure(kind, "cosine").nbytes for kind in ("ivf_flat", "ivf_sq8", "ivf_pq"))

    assert flat > ROWS * DIM * 4 > sq8 > ROWS * (DIM + 8) > pq


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_estimated_well_and_near_the_size_of_the_file(kind: IndexKind, tmp_path: Path) -> None:
    approximate = structure(kind, "cosine")
    approximate.write(tmp_path)

    estimated = estimated_bytes(kind, ROWS, DIM, approximate.parameters)

    assert estimated == pytest.approx(approximate.nbytes, rel=0.03)
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert approximate.nbytes == pytest.approx(written, rel=0.05)


def test_progress_goes_from_nothing_to_all_in_each_phase() -> None:
    told: dict[str, list[float]] = {}

    build(
        "ivf_sq8",
        vectors_of("cosine"),
        metric="cosine",
        parameters=PARAMETERS["ivf_sq8"],
        progress=lambda phase, done: told.setdefault(phase, []).append(done),
        cancelled=lambda: False,
        threads=1,
    )

    assert list(told) == ["clustering", "learning codes", "adding", "measuring lists"]
    assert all(
        shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0 for shares in told.values()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_cancelling_ends_a_build(kind: IndexKind) -> None:
    with pytest.raises(Cancelled):
        build(
            kind,
            vectors_of("cosine"),
            metric="cosine",
            parameters=PARAMETERS[kind],
            progress=lambda phase, done: None,
            cancelled=lambda: True,
            threads=1,
        )


def test_a_graph_is_linked_in_steps_between_which_it_can_be_cancelled() -> None:
    told: list[float] = []

    with pytest.raises(Cancelled):
        build(
            "hnsw",
            vectors_of("cosine"),
            metric="cosine",
            parameters=PARAMETERS["hnsw"],
            progress=lambda phase, done: told.append(done),
            cancelled=lambda: len(told) == 2,
            threads=1,
        )

    assert told == [0, 1024 / ROWS]


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("flat", {}, "kind 'flat'"),
        ("lance", {}, "kind 'lance'"),
        ("ivf_pq", {"nlist": 4, "m": 5, "k_factor": 1}, "must divide the dimension, 16"),
        ("ivf_flat", {"nlist": ROWS + 1}, "3001 centroids"),
    ],
)
def test_what_cannot_be_built_is_refused(kind: IndexKind, parameters: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        build(
            kind,
            vectors_of("cosine"),
            metric="cosine",
            parameters=parameters,
            progress=lambda phase, done: None,
            cancelled=lambda: False,
            threads=1,
        )


def test_product_codes_of_few_rows_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="needs 256 vectors or more; there are 255"):
        built("ivf_pq", "cosine", vectors_of("cosine")[:255], nlist=2)


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_not_what_was_written_are_refused(kind: IndexKind, tmp_path: Path) -> None:
    original, vectors = structure(kind, "cosine"), vectors_of("cosine")
    parameters = original.parameters
    original.write(tmp_path)
    path = tmp_path / "index.faiss"
    whole_file = path.read_bytes()

    with pytest.raises(IndexDamaged, match="build it again"):
        read(kind, tmp_path, vectors[:-1], parameters, "cosine")
    with pytest.raises(IndexDamaged, match="build it again"):
        read(kind, tmp_path, vectors[:, :-1], parameters, "cosine")
    with pytest.raises(IndexDamaged, match="build it again"):
        read(kind, tmp_path, vectors, parameters, "euclidean")
    for other in set(get_args(IndexKind)) - {kind}:
        with pytest.raises(IndexDamaged, match="build it again"):
            read(other, tmp_path, vectors, parameters, "cosine")
    if kind != "hnsw":
        with pytest.raises(IndexDamaged, match="24 lists where its card says 25"):
            read(kind, tmp_path, vectors, parameters | {"nlist": 25}, "cosine")
    for content in (b"", whole_file[:10], whole_file[: len(whole_file) // 2], b"\0" * len(whole_file)):
        path.write_bytes(content)
        with pytest.raises(IndexDamaged, match="build it again"):
            read(kind, tmp_path, vectors, parameters, "cosine")
    path.unlink()
    with pytest.raises(IndexDamaged, match="build it again"):
        read(kind, tmp_path, vectors, parameters, "cosine")


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can't write the index"):
        structure("ivf_flat", "cosine").write(tmp_path / "missing")


def test_the_same_vectors_give_the_same_lists(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        built("ivf_flat", "cosine", vectors_of("cosine")).write(tmp_path / name)

    one, other = ((tmp_path / name / "index.faiss").read_bytes() for name in ("one", "other"))
    assert one == other
