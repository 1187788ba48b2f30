"""A model opened with the plan that runs it fastest here: told, recorded, or measured."""

from __future__ import annotations

import logging
import threading
import time

from trunkline_service.models.choosing import candidates, choose
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.plan_record import PlanRecords, key_of
from trunkline_service.models.repository import ModelFolder
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.models.trial import Clock, InferenceRate, Trial
from trunkline_service.settings import Settings, cache_folder

# Two models that are measured at once measure each other.
_one_at_a_time = threading.Lock()
_log = logging.getLogger(__name__)


def open_session(
    folder: ModelFolder,
    device: Device,
    settings: Settings,
    clock: Clock = time.perf_counter,
    records: PlanRecords | None = None,
) -> ModelSession:
    """Loads a model with its plan, and warms every batch size of it.

    Args:
        folder: The model.
        device: Where to run.
        settings: ``threads`` bounds the cores, ``queue.max_batch`` the batch, ``plans`` names plans.
        clock: Monotonic seconds.
        records: Where measured plans are kept, instead of the user's cache.

    Raises:
        ModelFileError, SettingsError: See ``ModelSession``.
    """
    plan = plan_for(folder, device, settings, clock, records)
    session = ModelSession(folder, device, plan)
    session.warm(settings.queue.buckets)
    return session


def plan_for(
    folder: ModelFolder,
    device: Device,
    settings: Settings,
    clock: Clock = time.perf_counter,
    records: PlanRecords | None = None,
) -> ExecutionPlan:
    """The plan of a model on a device; see `open_session`.

    On a GPU one run at a time of up to ``queue.max_batch`` images. On a CPU what ``[plans.NAME]`` says, or
    else what was recorded, or else what a short measurement finds, which is recorded then.
    """
    card, most = folder.card, settings.queue.max_batch
    told = settings.plans.get(card.name)
    if device.kind != "cpu":
        return ExecutionPlan(1, 1, min(told.batch, most) if told else most)
    if told:
        return ExecutionPlan(told.threads, told.runs, min(told.batch, most))
    records = PlanRecords(cache_folder()) if records is None else records
    key = key_of(card.artifact.artifact_id, settings.worker_threads, most)
    with _one_at_a_time:
        recorded = records.get(key)
        if recorded is not None:
            return recorded
        started = clock()
        choice = choose(
            candidates(settings.worker_threads, most), InferenceRate(Trial(folder, device), clock)
        )
        _log.info(
            "model %s: %d plans measured in %.1f s; runs with %s",
            card.reference,
            len(choice.rates),
            clock() - started,
            choice.plan,
        )
        # What could not be measured now may be measured at the next start.
        if choice.rates:
            records.put(key, choice)
    return choice.plan
