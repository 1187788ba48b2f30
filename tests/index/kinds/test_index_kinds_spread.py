"""How the rows of lists lie about their centroids."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled
from trunkline_service.index.kinds.lists import Lists
from trunkline_service.index.kinds.spread import Spread, spread_of

DIM = 24
RNG = np.random.default_rng(3)


def cloud(middle: NDArray[np.float32], along: NDArray[np.float32], rows: int = 64) -> NDArray[np.float32]:
    """Rows about a middle, 0.1 wide, and 1 wide along one direction."""
    noise = RNG.normal(size=(rows, DIM)) * 0.1
    noise += (RNG.normal(size=(rows, 1)) - noise @ along[:, None]) * along
    return (middle + noise).astype(np.float32)


def direction(place: int) -> NDArray[np.float32]:
    return np.eye(DIM, dtype=np.float32)[place]


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_the_main_direction_and_the_variances_are_found(metric: str) -> None:
    middles = np.stack([5 * direction(0), -3 * direction(4)])
    vectors = np.concatenate([cloud(middles[0], direction(1)), cloud(middles[1], direction(2))])
    members = [np.arange(64), np.arange(64, 128)]

    found = spread_of(vectors, members, middles, metric)

    assert abs(found.turned[1, 0]) > 0.98
    assert abs(found.turned[2, 1]) > 0.98
    np.testing.assert_allclose(found.main, 1.0, rtol=0.5)
    np.testing.assert_allclose(found.rest, 0.01, rtol=0.6)
    apart = ((vectors - np.repeat(middles, 64, axis=0)) ** 2).sum(axis=1).reshape(2, 64)
    if metric == "euclidean":
        np.testing.assert_allclose(found.square, apart.mean(axis=1), rtol=1e-4)
        np.testing.assert_allclose(found.square_variance, apart.var(axis=1), rtol=1e-4)
        assert (found.shrink == 1).all()
    else:
        np.testing.assert_allclose(found.shrink, 1.0, atol=0.1)


def test_a_centroid_that_is_longer_than_the_mean_is_shrunk() -> None:
    vectors = cloud(2 * direction(0), direction(1))
    found = spread_of(vectors, [np.arange(64)], 4 * direction(0)[None], "dot")
    np.testing.assert_allclose(found.shrink, 0.5, atol=0.05)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_the_expected_scores_are_those_of_the_rows(metric: str) -> None:
    middles = RNG.normal(size=(5, DIM)).astype(np.float32)
    middles *= {"cosine": 1 / np.linalg.norm(middles, axis=1, keepdims=True)}.get(metric, 1)
    vectors = np.concatenate([cloud(middle, direction(place)) for place, middle in enumerate(middles)])
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[::40] + RNG.normal(size=(8, DIM)).astype(np.float32) * 0.1
    members = [np.arange(64) + 64 * place for place in range(5)]

    lists = Lists(middles, metric)
    means, deviations = lists.expected(lists.scored(queries), spread_of(vectors, members, middles, metric))

    scores = queries @ vectors.T
    if metric == "euclidean":
        scores = -((queries[:, None] - vectors[None]) ** 2).sum(axis=2)
    true = scores.reshape(len(queries), 5, 64)
    # Within half a deviation, and the deviations within a factor of 1.6: what the main direction does not hold is
    # an average over the others.
    assert (np.abs(means - true.mean(axis=2)) < 0.5 * true.std(axis=2) + 1e-3).all()
    ratio = deviations / true.std(axis=2)
    assert ratio.min() > 0.6
    assert ratio.max() < 1.6


def test_lists_of_one_row_or_none_are_taken_to_be_as_wide_as_the_others() -> None:
    middles = np.stack([direction(0), direction(1), direction(2)])
    vectors = np.concatenate([cloud(middles[0], direction(3)), middles[1:2]])
    found = spread_of(vectors, [np.arange(64), np.array([64]), np.empty(0, np.int64)], middles, "dot")
    for values in (found.rest, found.main, found.square, found.square_variance):
        np.testing.assert_allclose(values, values[0])
    assert np.isfinite(found.packed()).all()


def test_it_is_unpacked_as_it_was_packed() -> None:
    vectors = cloud(direction(0), direction(3))
    found = spread_of(vectors, [np.arange(32), np.arange(32, 64)], vectors[:2], "cosine")
    again = Spread.unpacked(found.packed())
    for name in ("shrink", "square", "square_variance", "main", "rest", "turned"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


def test_it_can_be_called_off() -> None:
    with pytest.raises(Cancelled):
        spread_of(cloud(direction(0), direction(1)), [np.arange(64)], direction(0)[None], "dot", lambda: True)


def test_rows_that_were_written_last_are_looked_at_too() -> None:
    # Between 64 and 127 rows, every second or none would be left out.
    first, last = (
        cloud(direction(0), direction(1), 70),
        cloud(direction(0) + 2 * direction(5), direction(1), 40),
    )
    vectors = np.concatenate([first, last])
    found = spread_of(vectors, [np.arange(110)], vectors.mean(axis=0)[None], "euclidean")
    whole = ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).mean()
    np.testing.assert_allclose(found.square, whole, rtol=0.15)
