"""A candidate beside the version that serves: counted where it differs, harmless where it fails."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future

import numpy as np
import pytest

from trunkline_service.errors import FailedPrecondition
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.network import Linear, Network
from trunkline_service.workspace.agreement import agree
from trunkline_service.workspace.shadow import Shadows


def waited(workspace) -> None:
    """Until the comparisons so far are done."""
    workspace._beside.submit(lambda: None).result()


def test_disagreements_are_counted_on_the_same_embeddings(workspace, constant, told, image):
    workspace.heads.save(constant("dark"), "h")
    workspace.heads.save(constant("light"), "h", promote=False)
    workspace.predict("h", [image(1)])
    workspace.heads.set_shadow("h", 2)
    found = workspace.predict("h", [image(1), image(2), image(3)])
    assert found.head.version == 1
    waited(workspace)
    assert told.shadows == [("h", 1, 2, 3, 3)]
    workspace.heads.save(constant("dark"), "h", promote=False)
    workspace.heads.set_shadow("h", 3)
    workspace.predict_vectors("h", np.zeros((2, 48), np.float32), found.head.space_id)
    waited(workspace)
    assert told.shadows[1:] == [("h", 1, 3, 2, 0)]
    assert told.failed == []


def test_the_shadow_follows_the_version_that_serves_however_it_is_named(workspace, constant, told, image):
    workspace.heads.save(constant("dark"), "h")
    workspace.heads.save(constant("light"), "h", promote=False)
    workspace.heads.set_shadow("h", 2)
    workspace.heads.set_alias("h", "prod", 1)
    workspace.predict(["h@1", "h@prod"], [image(1)])
    workspace.predict("h@1", [image(1), image(2)])
    workspace.predict("h@2", [image(1)])
    waited(workspace)
    assert told.shadows == [("h", 1, 2, 1, 1), ("h", 1, 2, 2, 2)]


def test_failed_items_are_not_compared(workspace, constant, told, image):
    workspace.heads.save(constant("dark"), "h")
    workspace.heads.save(constant("light"), "h", promote=False)
    workspace.heads.set_shadow("h", 2)
    vectors = np.zeros((3, 48), np.float32)
    vectors[1] = np.nan
    workspace.predict_vectors("h", vectors, workspace.heads.card("h").space_id)
    waited(workspace)
    assert told.shadows == [("h", 1, 2, 2, 2)]


def test_a_shadow_that_fails_harms_nobody(workspace, constant, told, image, tmp_path, caplog):
    workspace.heads.save(constant("dark"), "h")
    workspace.heads.save(constant("light"), "h", promote=False)
    workspace.heads.set_shadow("h", 2)
    broken = tmp_path / "data" / "heads" / "h" / "2"
    (broken / "head.onnx").write_bytes(b"junk")
    # Another stamp: it was loaded to become the shadow.
    (broken / "card.json").write_bytes((broken / "card.json").read_bytes() + b" ")
    for _ in range(3):
        assert workspace.predict("h", [image(1)]).head.version == 1
    waited(workspace)
    assert told.failed == ["h"] * 3
    assert told.shadows == []
    assert caplog.text.count("the shadow of head h can't be asked") == 1


class Never(Executor):
    """Takes work and does none."""

    def __init__(self) -> None:
        self.taken = 0

    def submit(self, *_given, **_named):
        self.taken += 1
        return Future()


class Closed(Executor):
    def submit(self, *_given, **_named):
        raise RuntimeError("cannot schedule new futures after shutdown")


@pytest.fixture
def shadowed(workspace, constant):
    workspace.heads.save(constant("dark"), "h")
    workspace.heads.save(constant("light"), "h", promote=False)
    workspace.heads.set_shadow("h", 2)
    vectors = np.zeros((1, 48), np.float32)
    found = workspace.predict_vectors("h", vectors, workspace.heads.card("h").space_id)
    return workspace.heads, found.predictions, vectors


def test_a_slow_shadow_is_left_out_rather_than_waited_for(shadowed, told):
    heads, predictions, vectors = shadowed
    slow = Never()
    shadows = Shadows(heads, told, slow)
    for _ in range(200):
        shadows.follow(predictions, vectors)
    assert slow.taken == 64


def test_a_workspace_that_closes_drops_them(shadowed, told):
    heads, predictions, vectors = shadowed
    for _ in range(200):
        Shadows(heads, told, Closed()).follow(predictions, vectors)
    assert told.failed == []


def test_without_an_observer_nothing_is_asked(shadowed):
    heads, predictions, vectors = shadowed
    idle = Never()
    Shadows(heads, None, idle).follow(predictions, vectors)
    assert idle.taken == 0


def test_the_thread_starts_with_the_first_candidate(workspace, constant, image):
    workspace.heads.save(constant("dark"), "h")
    workspace.predict("h", [image(1)])
    assert not any(thread.name.startswith("shadow") for thread in threading.enumerate())


# Agreement ---------------------------------------------------------------------------------------------


@pytest.fixture
def card(workspace, constant):
    def make(**changes) -> HeadCard:
        head = constant(**changes)
        return workspace.heads.save(head, "c")

    return make


def rows(*values):
    return np.array(values, np.float32)


def test_single_label_heads_agree_by_name(card):
    one, other = card(), card(classes=("light", "dark"))
    ours, theirs = rows([0.9, 0.1], [0.4, 0.6]), rows([0.1, 0.9], [0.1, 0.9])
    assert agree(one, ours, other, theirs).tolist() == [True, False]


def test_multi_label_heads_agree_on_the_set(card):
    one = card(task="multi-label", network=Network(Linear(np.zeros((2, 48), np.float32), np.zeros(2, np.float32)), "sigmoid"))  # fmt: skip
    wide = Network(Linear(np.zeros((3, 48), np.float32), np.zeros(3, np.float32)), "sigmoid")
    other = card(task="multi-label", network=wide, classes=("light", "dark", "grey"))
    ours = rows([0.9, 0.6], [0.9, 0.1], [0.1, 0.1], [0.1, 0.1])
    theirs = rows([0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [0.1, 0.1, 0.1], [0.1, 0.1, 0.9])
    assert agree(one, ours, other, theirs).tolist() == [True, False, True, False]


def test_anomaly_heads_agree_on_what_is_far(card):
    network = Network(Linear(np.zeros((1, 48), np.float32), np.zeros(1, np.float32)), "none")
    kept = {"task": "anomaly", "network": network, "classes": ()}
    one, other = (
        card(**kept, distance_quantiles={"0.99": 2.0}),
        card(**kept, distance_quantiles={"0.99": 5.0}),
    )
    assert agree(one, rows([1.0], [3.0], [3.0]), other, rows([4.0], [4.0], [6.0])).tolist() == [
        True,
        False,
        True,
    ]


def test_heads_of_two_tasks_cannot_be_compared(card):
    network = Network(Linear(np.zeros((1, 48), np.float32), np.zeros(1, np.float32)), "none")
    values = {"task": "regression", "network": network}
    one, other, third = card(), card(**values, classes=("a",)), card(**values, classes=("b",))
    with pytest.raises(FailedPrecondition, match="is single-label and c@2 is regression"):
        agree(one, rows([1, 0]), other, rows([1]))
    with pytest.raises(FailedPrecondition, match="gives a and c@3 gives b"):
        agree(other, rows([1]), third, rows([1]))


def test_regressions_agree_within_the_error_that_is_known(workspace, store_rows):
    store_rows("shades")
    card = workspace.fit_head("shades", "price", "ridge", target="price")
    error = card.metrics.per_target[0].mae
    ours = rows([0.0], [0.0])
    assert agree(card, ours, card, rows([0.9 * error], [1.1 * error])).tolist() == [True, False]
