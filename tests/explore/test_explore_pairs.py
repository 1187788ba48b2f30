"""Pairs: every one is found, once, whatever the blocks; what is held is bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.explore import pairs
from trunkline_service.explore.pairs import Near, PairSink, all_pairs
from trunkline_service.index.metric import pair_scores, prepared
from trunkline_service.index.workers import Workers


def nobody(_stage, _share):
    """Told of progress."""


def brute(vectors, compared, threshold):
    scores = pair_scores(vectors, np.broadcast_to(vectors, (len(vectors), *vectors.shape)), compared)
    first, second = np.nonzero(np.triu(scores >= np.float32(threshold), k=1))
    return {(int(a), int(b)): float(scores[a, b]) for a, b in zip(first, second, strict=True)}


def found(vectors, compared, threshold, most=10_000):
    sink = PairSink(len(vectors), most)
    all_pairs(Near(vectors, compared, threshold), sink, Workers(2), nobody)
    return sink.pairs()


@pytest.mark.parametrize(("compared", "threshold"), [("cosine", 0.6), ("euclidean", -1.5)])
@given(rows=st.integers(0, 40), seed=st.integers(0, 2**32 - 1), repeated=st.booleans())
def test_the_pairs_are_those_of_brute_force(compared, threshold, rows, seed, repeated):
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(rows, 4)).astype(np.float32)
    if repeated and rows > 3:
        vectors[rows // 2] = vectors[0]
    vectors = prepared(vectors, compared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "_BLOCK_ROWS", 7)
        patch.setattr(pairs, "_BLOCK_COLUMNS", 11)
        patch.setattr(pairs, "_SCORED", 13)
        done = found(vectors, compared, threshold)
    wanted = brute(vectors, compared, threshold)
    given_ = dict(zip(zip(done.first.tolist(), done.second.tolist(), strict=True), done.scores, strict=True))
    # A score at the very edge may be rounded to either side.
    sure = {pair for pair, score in wanted.items() if abs(score - threshold) > 1e-5}
    assert (
        sure
        <= given_.keys()
        <= sure | wanted.keys() | {pair for pair, score in given_.items() if abs(score - threshold) <= 1e-5}
    )
    assert done.count == len(given_) == len(done.first)
    for pair in sure:
        assert given_[pair] == pytest.approx(wanted[pair], abs=1e-5)
    assert (np.diff(done.scores) <= 0).all()
    for a, b in given_:
        assert done.codes[a] == done.codes[b]


def test_the_nearest_pairs_are_kept_and_all_are_counted_and_joined(monkeypatch):
    monkeypatch.setattr(pairs, "_HELD", 5)
    generator = np.random.default_rng(0)
    vectors = prepared(generator.normal(size=(60, 3)).astype(np.float32), "cosine")
    whole, few = found(vectors, "cosine", 0.5), found(vectors, "cosine", 0.5, most=9)
    assert few.count == whole.count > 100
    np.testing.assert_array_equal(few.scores, whole.scores[:9])
    np.testing.assert_array_equal(few.first, whole.first[:9])
    assert len(np.unique(np.stack([few.codes, whole.codes]), axis=1).T) == len(np.unique(whole.codes))


def test_a_vector_of_zeros_is_near_nothing_and_equal_rows_score_one():
    vectors = prepared(np.array([[0, 0], [0, 0], [3, 4], [3, 4]], np.float32), "cosine")
    done = found(vectors, "cosine", 0.1)
    assert (done.first.tolist(), done.second.tolist(), done.scores.tolist()) == ([2], [3], [1.0])


@pytest.mark.parametrize("dim", [3, 384, 32_768])
def test_of_equal_rows_the_cosine_is_at_least_one(dim):
    rows = np.random.default_rng(0).normal(size=(60, dim)).astype(np.float32)
    done = found(prepared(np.concatenate([rows, rows]), "cosine"), "cosine", 1.0)
    assert set(zip(done.first.tolist(), done.second.tolist(), strict=True)) == {
        (at, at + 60) for at in range(60)
    }


def test_the_best_pair_of_each_row():
    vectors = prepared(np.array([[1, 0], [1, 0.1], [1, 0.3], [0, 1]], np.float32), "cosine")
    done = found(vectors, "cosine", 0.9, most=1)
    assert len(done.scores) == 1
    scores = vectors @ vectors.T
    np.testing.assert_allclose(done.best, [scores[0, 1], scores[0, 1], scores[1, 2], -np.inf], atol=1e-6)


def test_long_vectors_that_are_near_are_told_apart():
    # Squares of 10,000 cancel in single precision: distances of 0.01 do not show in them.
    base = np.full((1, 8), 1e4, np.float32)
    vectors = np.concatenate([base, base + np.float32(0.5), base + np.float32(40)])
    done = found(vectors, "euclidean", -3.0)
    assert (done.first.tolist(), done.second.tolist()) == ([0], [1])
    assert done.scores[0] == pytest.approx(-np.sqrt(8 * 0.25), rel=1e-3)
