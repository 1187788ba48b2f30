"""Lists find what lies far from a query too: between clusters, and where its own are filtered away."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from trunkline_service.index.exact import half_squares_of, nearest
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.kinds.building import build
from trunkline_service.index.metric import prepared

ROWS, DIM, CLUSTERS, K = 12_000, 24, 80, 10
PARAMETERS = {"nlist": 96, "left_permille": 3}
Floats = NDArray[np.float32]


@cache
def rows(metric: str) -> tuple[Floats, NDArray[np.int64]]:
    """Rows in clusters far apart, and the cluster of each."""
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, CLUSTERS, ROWS)
    middles = rng.normal(size=(CLUSTERS, DIM))
    return prepared(
        (middles[cluster] + 0.3 * rng.normal(size=(ROWS, DIM))).astype(np.float32), metric
    ), cluster


@cache
def structure(metric: str, left: int = PARAMETERS["left_permille"]) -> Approximate:
    return built(rows(metric)[0], metric, PARAMETERS | {"left_permille": left})


def built(vectors: Floats, metric: str, parameters: dict[str, int]) -> Approximate:
    return build(
        "ivf_flat",
        vectors,
        metric=metric,
        parameters=parameters,
        progress=lambda phase, done: None,
        cancelled=lambda: False,
        threads=1,
    )


def recall(
    metric: str,
    queries: Floats,
    allowed: NDArray[np.bool_] | None = None,
    left: int = PARAMETERS["left_permille"],
) -> float:
    vectors = rows(metric)[0]
    halves = half_squares_of(vectors) if metric == "euclidean" else None
    true, _ = nearest(queries, vectors, K, metric, allowed, halves)
    found, positions = structure(metric, left).search(queries, K, 1, allowed)
    assert allowed is None or allowed[positions[positions >= 0]].all()
    assert all(len(set(row)) == K for row in positions.tolist())
    return float((found >= true[:, -1:] - 1e-5 * np.abs(true[:, -1:])).mean())


def between(metric: str) -> Floats:
    vectors = rows(metric)[0]
    return prepared((vectors[:200] + vectors[200:400]) / np.float32(2), metric)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_queries_between_rows_and_at_random_find_their_neighbours(metric: str) -> None:
    vectors = rows(metric)[0]
    scale = np.linalg.norm(vectors, axis=1).mean() / np.sqrt(DIM)
    random = np.random.default_rng(1).normal(size=(200, DIM)) * scale
    for queries in (between(metric), prepared(random.astype(np.float32), metric)):
        assert recall(metric, queries) > 0.98


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_queries_whose_own_clusters_are_filtered_away_find_the_nearest_of_the_others(metric: str) -> None:
    vectors, cluster = rows(metric)
    gone = cluster < 4
    assert recall(metric, vectors[gone][:200], ~gone) > 0.98


def test_without_looking_further_they_would_not() -> None:
    vectors, cluster = rows("cosine")
    gone = cluster < 4
    nothing_more = 1_000_000
    assert recall("cosine", between("cosine"), left=nothing_more) < 0.9
    assert recall("cosine", vectors[gone][:200], ~gone, left=nothing_more) < 0.9


def test_queries_like_the_rows_look_into_few_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    from trunkline_service.index.kinds.ivf import Ivf

    looked: list[int] = []
    found = Ivf._found

    def counted(
        self: Ivf, queries: Floats, scored: object, lists: NDArray[np.int64], *rest: object
    ) -> object:
        looked.append(int((lists >= 0).sum()))
        return found(self, queries, scored, lists, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Ivf, "_found", counted)
    for queries, most in ((rows("cosine")[0][:200], 6), (between("cosine"), 20)):
        looked.clear()
        structure("cosine").search(queries, K, 1)
        assert sum(looked) / 200 <= most


def test_what_was_written_many_times_is_no_trouble() -> None:
    rng = np.random.default_rng(0)
    towards = np.zeros(40)
    towards[20:] = 1 / np.sqrt(20)
    wide = np.zeros((2000, 40))
    wide[:, 20:] = 0.3 * towards[20:] + rng.normal(size=(2000, 20)) / np.sqrt(20)
    copies = np.repeat(np.eye(40)[:20], 200, axis=0)
    vectors = prepared(np.concatenate([copies, wide]).astype(np.float32)[rng.permutation(6000)], "cosine")
    equal = np.concatenate([np.full(20, np.sqrt((1 - 0.25**2) / 20)), np.zeros(20)])
    queries = equal + np.array([[0.2], [0.25], [0.3]]) * towards
    asked = prepared(queries.astype(np.float32), "cosine")

    index = built(vectors, "cosine", {"nlist": 60, "left_permille": 3})
    found = [index.search(query[None], K, 1)[0][0] for query in asked]

    np.testing.assert_allclose(found, nearest(asked, vectors, K, "cosine")[0], atol=1e-6)


def test_one_query_that_needs_every_list_does_not_end_the_search_of_the_others() -> None:
    rng = np.random.default_rng(0)
    parts = [
        rng.normal(size=(9000, 2)) * 0.5,
        np.array([60, 0]) + rng.normal(size=(500, 2)) * [14, 2],
        np.array([0, 60]) + rng.normal(size=(500, 2)) * 0.1,
    ]
    vectors = np.concatenate(parts).astype(np.float32)
    index = built(vectors, "euclidean", {"nlist": 3, "left_permille": 3})
    allowed = np.arange(len(vectors)) % 1000 > 0
    queries = np.array([[x, 0] for x in (20, 22, 24, 26, 27, 28, 29)] + [[50, 50]], np.float32)

    together = index.search(queries, K, 2, allowed)[0]

    true = nearest(queries, vectors, K, "euclidean", allowed, half_squares_of(vectors))[0]
    np.testing.assert_allclose(together, true, rtol=1e-4)
