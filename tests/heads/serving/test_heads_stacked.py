"""Several heads at once answer as each would alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument, SpaceMismatch
from trunkline_service.heads.network import Network
from trunkline_service.heads.serving import stacked
from trunkline_service.heads.serving.loaded import LoadedHead
from trunkline_service.heads.serving.stacked import StackedHeads
from trunkline_service.heads.serving.unknown import UnknownPolicy

MakeNetwork = Callable[..., Network]
MakeHead = Callable[..., LoadedHead]
ROWS = np.random.default_rng(9).normal(size=(7, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def pool(make_network: MakeNetwork, make_head: MakeHead) -> list[LoadedHead]:
    """One head of each sort that there is."""
    made: list[LoadedHead] = []

    def add(task: str, body: str = "linear", **more: Any) -> None:
        made.append(make_head(make_network(body, seed=len(made), **more), task, f"head{len(made)}"))

    add("single-label")
    add("single-label", rank=2)
    add("single-label", classes=5, rank=0)
    add("single-label", classes=5, rank=2)
    add("multi-label", activation="sigmoid", classes=1)
    add("multi-label", activation="sigmoid", classes=4, rank=1)
    add("regression", activation="none", classes=2)
    add("single-label", body="mlp", rank=2)
    add("single-label", body="neighbours")
    add("single-label", normalised=True)
    add("anomaly", body="distance", activation="none")
    return made


@settings(max_examples=25, deadline=None)
@given(chosen=st.lists(st.integers(0, 10), min_size=1, max_size=14), failed=st.sets(st.integers(0, 6)))
def test_each_answers_as_alone(pool: list[LoadedHead], chosen: list[int], failed: set[int]) -> None:
    heads = [pool[i] for i in chosen]
    rows = ROWS.copy()
    rows[sorted(failed), 1] = np.nan
    before = rows.copy()
    for head, answer in zip(heads, StackedHeads(heads).outputs(rows, heads[0].card.space_id), strict=True):
        alone = head.answer(rows, head.card.space_id)
        assert answer.outputs.dtype == np.float32
        np.testing.assert_allclose(answer.outputs, alone.outputs, rtol=1e-4, atol=1e-5)
        assert (answer.distance is None) == (alone.distance is None)
        if answer.distance is not None and alone.distance is not None:
            np.testing.assert_allclose(answer.distance, alone.distance, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(rows, before)


def test_distances_only_where_they_are_wanted(pool: list[LoadedHead]) -> None:
    space = pool[0].card.space_id
    answers = StackedHeads(pool).outputs(ROWS, space, distances=False)
    assert [answer.distance for answer in answers] == [None] * len(pool)
    alone = StackedHeads(pool[1:2])
    assert alone.outputs(ROWS, space, distances=False)[0].distance is None
    assert alone.outputs(ROWS, space)[0].distance is not None


def test_no_rows(pool: list[LoadedHead]) -> None:
    answers = StackedHeads(pool).outputs(np.empty((0, 6), np.float32), pool[0].card.space_id)
    assert [answer.outputs.shape for answer in answers] == [(0, max(1, len(h.card.classes))) for h in pool]


def test_large_logits_do_not_overflow(make_network: MakeNetwork, make_head: MakeHead) -> None:
    heads = [
        make_head(make_network(seed=i, activation=activation), task)
        for i, (activation, task) in enumerate([("softmax", "single-label"), ("sigmoid", "multi-label")] * 2)
    ]
    for answer in StackedHeads(heads).outputs(ROWS * np.float32(1e4), heads[0].card.space_id):
        assert np.isfinite(answer.outputs).all()
        assert answer.outputs.min() >= 0
        assert answer.outputs.max() <= 1


def test_distances_keep_their_digits_far_from_the_origin(
    make_network: MakeNetwork, make_head: MakeHead
) -> None:
    import dataclasses

    def moved(seed: int) -> Network:
        network = make_network(seed=seed, rank=2)
        assert network.distance is not None
        distance = dataclasses.replace(network.distance, mean=network.distance.mean + np.float32(300))
        return dataclasses.replace(network, distance=distance)

    networks = [moved(0), moved(1)]
    heads = [make_head(network) for network in networks]
    rows = ROWS + np.float32(300)
    for network, answer in zip(
        networks, StackedHeads(heads).outputs(rows, heads[0].card.space_id), strict=True
    ):
        assert network.distance is not None
        exact = network.distance(rows)[:, 0]
        np.testing.assert_allclose(answer.distance, exact, rtol=1e-3)


def test_heads_beyond_the_room_of_one_file_run_alone(
    pool: list[LoadedHead], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacked, "_MAX_BYTES", 200)
    answers = StackedHeads(pool).outputs(ROWS, pool[0].card.space_id)
    for head, answer in zip(pool, answers, strict=True):
        np.testing.assert_allclose(
            answer.outputs, head.outputs(ROWS, head.card.space_id), rtol=1e-4, atol=1e-5
        )


def test_many_threads_share_one_stack(pool: list[LoadedHead]) -> None:
    shared = StackedHeads(pool)
    space = pool[0].card.space_id
    expected = [answer.outputs for answer in StackedHeads(pool).outputs(ROWS, space)]
    wrong: list[int] = []

    def ask() -> None:
        for _ in range(20):
            answers = shared.outputs(ROWS, space)
            wrong.extend(
                i for i, answer in enumerate(answers) if not np.array_equal(answer.outputs, expected[i])
            )

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_cannot_be_stacked(
    pool: list[LoadedHead], make_network: MakeNetwork, make_head: MakeHead
) -> None:
    with pytest.raises(InvalidArgument, match="no head is asked for"):
        StackedHeads([])
    other = make_head(make_network(), name="other", space_id="sp1-" + "f" * 32)
    with pytest.raises(SpaceMismatch, match=r"head head0@1 takes .* and head other@1 those of sp1-ffff"):
        StackedHeads([pool[0], other])
    with pytest.raises(SpaceMismatch, match="takes embeddings of space"):
        StackedHeads(pool).outputs(ROWS, "sp1-" + "f" * 32)
    with pytest.raises(InvalidArgument, match=r"of shape \(7, 5\)"):
        StackedHeads(pool).outputs(ROWS[:, :5], pool[0].card.space_id)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_what_is_beyond_float32_is_far(make_network: MakeNetwork, make_head: MakeHead) -> None:
    heads = [make_head(make_network(rank=2, seed=seed), distance_quantiles={"0.99": 1.5}) for seed in (1, 2)]
    heads.append(
        make_head(make_network("distance", activation="none"), "anomaly", distance_quantiles={"0.99": 1.5})
    )
    rows = ROWS[:3].copy()
    rows[0], rows[1, 0] = 1e30, np.nan
    for head, answer in zip(heads, StackedHeads(heads).outputs(rows, heads[0].card.space_id), strict=True):
        for said in (answer, head.answer(rows, head.card.space_id)):
            assert said.distance is not None
            assert said.distance[0] == np.inf
            assert np.isnan(said.distance[1])
            found = UnknownPolicy(max_distance="card").reasons(head.card, said)
            assert found[0] == "far"
            assert 1 not in found
