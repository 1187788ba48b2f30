"""A model opened with the plan that runs it fastest here: told, recorded, or measured."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trunkline_service.errors import ModelNotFound, TrunklineError
from trunkline_service.models.choosing import candidates, choose
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.plan_record import PlanRecords, key_of
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.models.trial import Clock, InferenceRate, Trial
from trunkline_service.settings import PlanSettings, Settings, cache_folder, plan_header

# Two models that are measured at once measure each other.
_one_at_a_time = threading.Lock()
# Times the cores. Somewhat more threads than cores do little harm.
_FAR_ABOVE = 2
# What was warned of: every model that is loaded reads the same plans.
_warned: set[str] = set()
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
    repository = ModelRepository(Path(settings.models))
    # On a GPU only the batch of a plan counts.
    cores = os.cpu_count() if device.kind == "cpu" else None
    for doubt in doubts(settings, lambda name: _is_known(repository, name), cores):
        if doubt not in _warned:
            _warned.add(doubt)
            _log.warning("%s", doubt)
    plan = plan_for(folder, device, settings, clock, records)
    session = ModelSession(folder, device, plan)
    session.warm(settings.queue.buckets)
    return session


def doubts(settings: Settings, is_known: Callable[[str], bool], cores: int | None) -> list[str]:
    """What in ``plans`` can hardly have been meant, a sentence each that names the key.

    Args:
        settings: ``plans``, and ``queue.max_batch``, which bounds their batches.
        is_known: Whether there is a model of a name.
        cores: Of this machine; None where they do not matter.
    """
    found: list[str] = []
    for name, told in settings.plans.items():
        if is_known(name):
            found += _doubts_of(plan_header(name), told, settings.queue.max_batch, cores)
        else:
            found.append(
                f"{plan_header(name)} names no model in {settings.models!r} and changes nothing; "
                "'trunkline models list' shows the names"
            )
    return found


def _doubts_of(header: str, told: PlanSettings, most: int, cores: int | None) -> list[str]:
    found: list[str] = []
    if told.batch > most:
        found.append(f"{header} batch is {told.batch}, above queue_max_batch: it runs with {most}")
    if cores is not None and told.runs * told.threads > _FAR_ABOVE * cores:
        found.append(
            f"{header} runs x threads is {told.runs * told.threads} and this machine has {cores} cores: they will "
            "wait for each other; 'trunkline autotune' finds a plan"
        )
    return found


def _is_known(repository: ModelRepository, name: str) -> bool:
    try:
        repository.resolve(name)
    except ModelNotFound:
        return False
    except TrunklineError:
        # There is one, and what is wrong with it is told when it is loaded.
        return True
    return True


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
