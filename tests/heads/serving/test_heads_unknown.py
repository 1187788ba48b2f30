from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.network import Network
from trunkline_service.heads.serving.loaded import Answer, LoadedHead
from trunkline_service.heads.serving.unknown import UnknownPolicy

MakeNetwork = Callable[..., Network]
MakeHead = Callable[..., LoadedHead]
NAN = float("nan")


def answer(outputs: list[list[float]], distance: list[float] | None = None) -> Answer:
    return Answer(np.array(outputs, np.float32), None if distance is None else np.array(distance, np.float32))


@pytest.fixture(scope="module")
def card(make_network: MakeNetwork, make_head: MakeHead) -> Any:
    return make_head(make_network(rank=1), distance_quantiles={"0.5": 1.0, "0.99": 1.5}).card


ANSWER = answer([[0.9, 0.1], [0.6, 0.4], [0.55, 0.45], [NAN, NAN], [0.8, 0.2]], [1, 2, 1.2, NAN, 1.6])


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (UnknownPolicy(), {}),
        (UnknownPolicy(min_probability=0.7), {1: "low_probability", 2: "low_probability"}),
        (UnknownPolicy(min_probability=0), {}),
        (UnknownPolicy(max_distance=1.9), {1: "far"}),
        (UnknownPolicy(max_distance="card"), {1: "far", 4: "far"}),
        (UnknownPolicy(0.7, 1.9), {1: "far", 2: "low_probability"}),
    ],
)
def test_reasons(card: Any, policy: UnknownPolicy, expected: dict[int, str]) -> None:
    found = policy.reasons(card, ANSWER)
    assert found == expected
    assert list(found) == sorted(found)


def test_a_bound_itself_is_within(card: Any) -> None:
    exact = answer([[0.75, 0.25]], [1.5])
    assert UnknownPolicy(0.75, 1.5).reasons(card, exact) == {}


def test_of_several_labels_the_most_probable_counts(make_network: MakeNetwork, make_head: MakeHead) -> None:
    card = make_head(make_network(activation="sigmoid"), "multi-label").card
    found = UnknownPolicy(min_probability=0.5).reasons(card, answer([[0.1, 0.6, 0.0], [0.4, 0.4, 0.4]]))
    assert found == {1: "low_probability"}


def test_an_anomaly_head_is_bound_by_its_score(make_network: MakeNetwork, make_head: MakeHead) -> None:
    head = make_head(make_network("distance", activation="none"), "anomaly", distance_quantiles={"0.99": 1.5})
    rows = np.array([[0] * 6, [100] * 6], np.float32)
    given = head.answer(rows, head.card.space_id)
    assert UnknownPolicy(max_distance="card").reasons(head.card, given).get(1) == "far"
    with pytest.raises(InvalidArgument, match="is for anomaly and gives no probabilities"):
        UnknownPolicy(min_probability=0.5).reasons(head.card, given)


def test_a_head_that_cannot_tell(make_network: MakeNetwork, make_head: MakeHead, card: Any) -> None:
    plain = make_head(make_network()).card
    with pytest.raises(
        InvalidArgument, match=r"flowers@1 measures no distance .*; fit it again, or ask without a bound"
    ):
        UnknownPolicy(max_distance=2.0).reasons(plain, answer([[0.5, 0.5]]))
    with pytest.raises(InvalidArgument, match=r"the card of head flowers@1 knows no distance"):
        UnknownPolicy(max_distance="card").reasons(plain, ANSWER)
    assert UnknownPolicy(max_distance="card").bound(card) == 1.5
    assert UnknownPolicy().bound(plain) == float("inf")


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_probability": -0.1},
        {"min_probability": 1.1},
        {"min_probability": NAN},
        {"max_distance": 0.0},
        {"max_distance": NAN},
        {"max_distance": float("inf")},
        {"max_distance": "far"},
    ],
)
def test_bounds_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=f"{next(iter(wrong))} is "):
        UnknownPolicy(**wrong)
