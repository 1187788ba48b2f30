"""A model opened with its plan: told, recorded or measured; and measured as a server runs it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from trunkline_service.errors import CorruptImage, ModelFileError, TruncatedImage, UnsupportedImage
from trunkline_service.models import calibration
from trunkline_service.models.calibration import doubts, open_session, plan_for
from trunkline_service.models.choosing import candidates
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.plan_record import PlanRecords
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.models.trial import InferenceRate, Trial
from trunkline_service.models.tuning import tune
from trunkline_service.settings import PlanSettings, QueueLimits, Settings

CPU = Device("cpu")
TWO_CORES = Settings(threads=2)


def ticking(step=0.01):
    """A clock that only asking moves."""
    return itertools.count(0.0, step).__next__


@pytest.fixture
def folder(tmp_path, publish_tiny):
    return publish_tiny(tmp_path / "models")


@pytest.fixture
def records(tmp_path):
    return PlanRecords(tmp_path / "cache")


@pytest.fixture
def opened(monkeypatch):
    """The plans of all sessions that were opened."""
    plans = []
    init = ModelSession.__init__

    def counted(self, folder, device, plan):
        plans.append(plan)
        init(self, folder, device, plan)

    monkeypatch.setattr(ModelSession, "__init__", counted)
    return plans


def test_the_second_start_opens_one_session_and_measures_nothing(folder, records, opened):
    first = open_session(folder, CPU, TWO_CORES, ticking(), records)
    # One session for each number of threads, and the one that serves.
    assert len(opened) == 3
    opened.clear()

    def no_clock():
        raise AssertionError("something was measured")

    second = open_session(folder, CPU, TWO_CORES, no_clock, records)
    assert opened == [second.plan] == [first.plan]
    assert first.plan in candidates(2, 16)


def test_other_threads_or_another_largest_batch_are_measured_anew(folder, records, opened):
    plan_for(folder, CPU, TWO_CORES, ticking(), records)
    for other in (Settings(threads=1), Settings(threads=2, queue=QueueLimits(max_batch=8))):
        opened.clear()
        plan = plan_for(folder, CPU, other, ticking(), records)
        assert opened
        assert plan in candidates(other.worker_threads, other.queue.max_batch)


def test_a_plan_of_the_settings_wins_and_measures_nothing(folder, records, opened):
    told = dataclasses.replace(
        TWO_CORES, plans={"tiny": PlanSettings(3, 2, 64), "other": PlanSettings(1, 1, 1)}
    )
    session = open_session(folder, CPU, told, ticking(), records)
    # The queue's bound holds.
    assert opened == [session.plan] == [ExecutionPlan(3, 2, 16)]


def test_plans_that_can_hardly_have_been_meant_are_named():
    def found(plan, name="tiny", cores=2):
        return doubts(Settings(plans={name: plan}), {"tiny"}.__contains__, cores)

    assert found(PlanSettings(2, 2, 16)) == []
    assert found(PlanSettings(1, 1, 1), "tinny") == [
        "[plans.tinny] names no model in 'models' and changes nothing; 'trunkline models list' shows the names"
    ]
    (batch,) = found(PlanSettings(1, 1, 17))
    assert batch == "[plans.tiny] batch is 17, above queue_max_batch: it runs with 16"
    (threads,) = found(PlanSettings(5, 1, 1))
    assert "runs x threads is 5 and this machine has 2 cores" in threads
    assert found(PlanSettings(5, 1, 1), cores=None) == []


def test_what_was_warned_of_is_not_warned_of_again(folder, records, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(calibration, "_warned", set())
    told = Settings(models=str(tmp_path / "models"), plans={"tiny": PlanSettings(1, 1, 64)})
    for _ in range(2):
        open_session(folder, CPU, told, ticking(), records)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "it runs with 16" in record.message


def test_on_a_gpu_only_the_batch_of_a_plan_counts(folder, records, opened):
    def on_gpu(settings):
        return plan_for(folder, Device("cuda"), settings, ticking(), records)

    assert on_gpu(TWO_CORES) == ExecutionPlan(1, 1, 16)
    assert on_gpu(Settings(plans={"tiny": PlanSettings(4, 4, 8)})) == ExecutionPlan(1, 1, 8)
    assert not opened


def test_the_vectors_are_the_same_with_every_plan(folder):
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    found = [ModelSession(folder, CPU, plan).run(images) for plan in candidates(2, 16)]
    for vectors in found[1:]:
        np.testing.assert_allclose(vectors, found[0], rtol=1e-6)


def test_a_session_is_warmed_up_to_the_batch_of_its_plan(folder, monkeypatch):
    sizes = []
    run = ModelSession.run
    monkeypatch.setattr(
        ModelSession, "run", lambda self, batch: (sizes.append(len(batch)), run(self, batch))[1]
    )
    ModelSession(folder, CPU, ExecutionPlan(1, 1, 6)).warm((1, 2, 4, 8, 16))
    assert sizes == [1, 2, 4, 6]


def test_without_memory_for_a_second_session_only_one_is_tried(folder, opened):
    trial = Trial(folder, CPU, available=lambda: 3 * folder.card.artifact.bytes - 1)
    assert trial.session(ExecutionPlan(1, 2, 1)) is not None
    assert trial.session(ExecutionPlan(2, 1, 1)) is None
    assert trial.session(ExecutionPlan(1, 2, 4)) is not None
    assert opened == [ExecutionPlan(1, 2, 1)]
    opened.clear()
    roomy = Trial(folder, CPU, available=lambda: 3 * folder.card.artifact.bytes)
    assert roomy.session(ExecutionPlan(1, 2, 1)) is not None
    assert roomy.session(ExecutionPlan(2, 1, 1)) is not None


def test_a_model_that_cannot_be_opened_says_so_as_ever(folder, records):
    folder.onnx.write_bytes(b"damaged")
    with pytest.raises(ModelFileError, match="does not match"):
        open_session(folder, CPU, TWO_CORES, ticking(), records)
    with pytest.raises(ModelFileError, match="does not match"):
        tune(Trial(folder, CPU), TWO_CORES, [b""], 0.1, ticking())


def test_long_runs_of_several_images_are_not_measured(folder):
    # One image a second, so that 32 images would take 32 seconds, and 16 would take 16.
    rate = InferenceRate(Trial(folder, CPU), ticking(), ticking(1.0), span_s=0.0, longest_s=20.0)
    assert rate(ExecutionPlan(1, 1, 1)) == pytest.approx(1.0)
    assert rate(ExecutionPlan(1, 2, 16)) is None
    assert rate(ExecutionPlan(1, 1, 16)) is not None
    assert rate(ExecutionPlan(2, 1, 1)) is not None


def test_one_thread_is_charged_with_its_cpu_time_and_several_with_the_clock(folder):
    # The clock is asked thrice (begin, after the first pass, end), a thread's CPU time twice.
    rate = InferenceRate(Trial(folder, CPU), ticking(1.0), ticking(0.25), span_s=0.5, longest_s=9.0)
    assert rate(ExecutionPlan(1, 1, 4)) == pytest.approx(4 / 0.25)
    assert rate(ExecutionPlan(2, 1, 4)) == pytest.approx(4 / 2)


def test_two_loads_at_once_measure_one_after_the_other(folder, records, monkeypatch):
    inside = []

    def choose(plans, measure):
        inside.append(calibration._one_at_a_time.locked())
        return real(plans, measure)

    real = calibration.choose
    monkeypatch.setattr(calibration, "choose", choose)
    plan_for(folder, CPU, TWO_CORES, ticking(), records)
    assert inside == [True]


def test_tuning_measures_every_plan_with_decoding(folder, png):
    images = [png(np.full((40, 40, 3), level, np.uint8)) for level in (0, 200)]
    found = tune(Trial(folder, CPU), TWO_CORES, images, 0.3, ticking(0.001))
    assert [tried.plan for tried in found.tried] == list(candidates(2, 16))
    assert found.plan in candidates(2, 16)
    assert all(tried.images_per_second > 0 and tried.alone_ms > 0 for tried in found.tried)
    assert found.card == folder.card


def test_a_photograph_that_cannot_be_decoded_ends_tuning_with_its_error(folder, png):
    with pytest.raises((CorruptImage, TruncatedImage, UnsupportedImage)):
        tune(Trial(folder, CPU), TWO_CORES, [b"no image"], 0.1, ticking())


def test_a_run_that_fails_ends_tuning_with_its_error(folder, png, monkeypatch):
    image = png(np.zeros((32, 32, 3), np.uint8))
    trial = Trial(folder, CPU)
    for plan in candidates(2, 16):
        trial.session(plan)

    def fails(self, batch):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(ModelSession, "run", fails)
    with pytest.raises(RuntimeError, match="the device is gone"):
        tune(trial, TWO_CORES, [image], 0.1, ticking())
