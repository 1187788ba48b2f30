"""The raw ceiling: which ways are tried, which is taken, and that the loop really runs the model."""

from __future__ import annotations

import dataclasses
import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.bench import raw
from trunkline_service.bench.dialect import Served
from trunkline_service.bench.raw import RawLoop, ceiling, folder_of, ways
from trunkline_service.errors import InvalidArgument, ModelNotFound
from trunkline_service.images.inputs import EncodedImage, PixelTensor
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.session import Device
from trunkline_service.settings import ImageLimits

CPU = Device("cpu")


@given(st.integers(1, 64), st.integers(1, 256))
def test_ways_use_every_core_and_no_more_and_no_batch_beyond_the_largest(cores, max_batch):
    plans = ways(CPU, cores, max_batch)
    assert len(set(plans)) == len(plans)
    assert all(plan.threads * plan.runs == cores and plan.batch <= max_batch for plan in plans)
    assert {plan.batch for plan in plans} == {1, min(4, max_batch), min(16, max_batch)}


def test_a_gpu_is_tried_by_batch_size_alone():
    assert [plan.batch for plan in ways(Device("cuda"), 8, 64)] == [1, 4, 16, 64]


@given(st.lists(st.floats(1, 1e5), min_size=1, max_size=8, unique=True))
def test_the_fastest_way_is_taken_and_was_measured_for_the_whole_time(rates):
    plans = [ExecutionPlan(1, 1, batch) for batch in range(1, len(rates) + 1)]
    asked = []

    def measure(plan, seconds):
        asked.append((plan, seconds))
        return rates[plan.batch - 1]

    found = ceiling(plans, measure, 5.0)
    assert found.best.images_per_second == max(rates)
    assert (found.best.plan, 5.0) in asked
    assert [tried.plan for tried in found.tried] == plans
    assert sum(seconds for _, seconds in asked) <= len(plans) + 2 * 5.0


def test_a_way_that_was_lucky_once_is_judged_by_its_whole_time():
    plans = [ExecutionPlan(1, 1, 1), ExecutionPlan(1, 1, 4)]
    rates = {(1, 1.0): 100.0, (1, 5.0): 100.0, (4, 1.0): 150.0, (4, 5.0): 90.0}
    found = ceiling(plans, lambda plan, seconds: rates[plan.batch, seconds], 5.0)
    assert found.best == raw.Tried(plans[0], 100.0)


class Ticking:
    """A clock that every look moves on by a second."""

    def __init__(self):
        self._ticks = itertools.count()
        self._lock = threading.Lock()

    def __call__(self):
        with self._lock:
            return float(next(self._ticks))


@pytest.fixture
def folder(tmp_path, publish_tiny):
    return publish_tiny(tmp_path)


@pytest.mark.parametrize("plan", [ExecutionPlan(1, 2, 1), ExecutionPlan(2, 1, 4)])
def test_the_loop_embeds_what_it_decoded_with_no_more_runs_at_once_than_the_plan_has(
    folder, png, monkeypatch, plan
):
    images = [png(np.full((40, 40, 3), value, np.uint8)) for value in (10, 20, 30)]
    batches, running, most = [], [], []
    real = raw.ModelSession.run

    def run(session, batch):
        running.append(None)
        most.append(len(running))
        vectors = real(session, batch)
        running.pop()
        batches.append((batch.shape, set(vectors[:, 0].tolist())))
        return vectors

    monkeypatch.setattr(raw.ModelSession, "run", run)
    sent = [
        *map(EncodedImage, images),
        EncodedImage(b"broken"),
        PixelTensor(bytes(32 * 32 * 3), "uint8", (32, 32, 3)),
    ]
    loop = RawLoop(folder, sent, CPU, "exact", ImageLimits(), 2, Ticking())
    rate = loop(plan, 9.0)
    assert rate > 0
    assert {shape for shape, _ in batches} == {(plan.batch, 32, 32, 3)}
    # Those that can be decoded, all of them, in turn.
    assert set().union(*(values for _, values in batches)) == {0, 10, 20, 30}
    assert max(most) <= plan.runs


def test_one_thread_goes_at_the_rate_that_the_clock_says(folder, png):
    image = EncodedImage(png(np.zeros((32, 32, 3), np.uint8)))
    loop = RawLoop(folder, [image], CPU, "exact", ImageLimits(), 1, Ticking())
    # The clock is looked at once a turn: a turn a second, four images a turn.
    assert loop(ExecutionPlan(1, 1, 4), 5.0) == 4.0


def test_nothing_that_can_be_decoded_is_refused(folder):
    with pytest.raises(InvalidArgument, match="--images"):
        RawLoop(folder, [EncodedImage(b"broken")], CPU, "exact", ImageLimits(), 1, Ticking())


def test_raw_runs_what_the_server_serves_or_nothing(folder, tmp_path):
    served = Served("tiny@1", folder.card.artifact.artifact_id)
    assert folder_of(tmp_path, served).card == folder.card
    # Not every server tells.
    assert folder_of(tmp_path, Served("tiny")).card == folder.card
    with pytest.raises(InvalidArgument, match=r"ar1-other.*--models"):
        folder_of(tmp_path, dataclasses.replace(served, artifact_id="ar1-other"))
    with pytest.raises(ModelNotFound, match="large"):
        folder_of(tmp_path, Served("large@1"))
