"""A job on Ray Data: one actor a device, one commit a shard. The only place that imports Ray.

The driver plans; each actor opens the same models and data, takes shards of tasks, and commits each by
one upsert. Ray runs a shard again whose actor died; an upsert that was made before is made once more
and changes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import sys
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline_service import errors
from trunkline_service.collections.known import Known
from trunkline_service.errors import InternalError, InvalidArgument, JobStopped, MissingExtra, TrunklineError
from trunkline_service.jobs.commits import Gathered
from trunkline_service.jobs.lately import Lately
from trunkline_service.jobs.local import LocalTarget
from trunkline_service.jobs.options import JobOptions, JobResult, Progress
from trunkline_service.jobs.pipeline import IN_FLIGHT, done_chunks
from trunkline_service.jobs.plan import Listed, Task, plan
from trunkline_service.jobs.sources import Source
from trunkline_service.jobs.stages import STAGES, StageTimes
from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace

_log = logging.getLogger(__name__)

# Shards of one pass through Ray for each worker: the driver holds no more tasks than these, and what is to
# end early ends within them.
_SHARDS_A_WORKER = 4


@dataclass(frozen=True)
class _Shard:
    """Tasks of one commit. A class of its own, so that Ray takes it as one value."""

    tasks: tuple[Task, ...]


class _Worker:
    """An actor: opens its own workspace with the first shard, then does shards."""

    def __init__(self, settings: Settings, into: str, model: str, job: str, replace: bool) -> None:
        self._times = StageTimes(time.monotonic)
        self._settings = settings
        self._into = into
        self._model = model
        self._job = job
        self._replace = replace

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Does one shard; gives counts, or what was raised: Ray would make a traceback of it."""
        nothing = {"done": 0, "touched": 0, "duplicates": 0, "errors": "", "failed": "", "message": ""}
        try:
            return nothing | self._do(row)
        except TrunklineError as exc:
            return nothing | {"failed": type(exc).__name__, "message": exc.message}

    @functools.cached_property
    def _target(self) -> LocalTarget:
        # Not when it is made: Ray would begin an actor anew, for ever, that raises there.
        workspace = Workspace(self._settings, observer=self._times)
        return LocalTarget(workspace, self._into, self._model, in_flight=IN_FLIGHT)

    def _do(self, row: dict[str, Any]) -> dict[str, Any]:
        tasks: Sequence[Task] = row["shard"].tasks
        # Of the collection only the rows that may have changed: all of it would be a scan for each shard.
        known = Known.of(self._target.find([task.item.id for task in tasks if task.compare]).values())
        gathered = Gathered()
        reasons: Counter[str] = Counter()
        duplicates = 0
        for done in done_chunks(self._target, tasks, known, self._times, self._job, self._replace):
            gathered.add(done)
            reasons.update(done.reasons)
            duplicates += done.duplicates
        gathered.store(self._target)
        return {
            "done": len(tasks),
            "touched": len(gathered.touched),
            "duplicates": duplicates,
            "errors": "\n".join(f"{count} {reason}" for reason, count in reasons.items()),
        }


def run_on_ray(
    workspace: Workspace,
    source: Source,
    into: str,
    model: str = "",
    options: JobOptions | None = None,
    *,
    address: str | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> JobResult:
    """Embeds a source on a Ray cluster; the rows are those of `jobs.run.run`.

    Every worker must reach the models, the data and the source under the same names.

    Args:
        workspace: Models and data; the driver plans with it.
        source: The images.
        into: The collection; made if it does not exist.
        model: Which model; empty for the collection's own, or the default for a new one.
        options: How.
        address: Of the cluster; None for one of this machine, which is ended with the job.
        workers: Actors; None for one a device (a machine without one runs a single actor).
        progress: Called after each shard.
        stop: Once set, the job ends without waiting for the shards under way: each is stored or not begun.
        clock: Monotonic seconds.

    Raises:
        MissingExtra: Ray is not installed.
        InvalidArgument: An option that this engine does not have.
        JobStopped: Too many images failed.
        InternalError: A defect of ours, or a worker that died again and again; it is logged.
        TrunklineError: See `jobs.run.run`, also where a worker raised it.
    """
    options = options or JobOptions()
    if options.prune:
        raise InvalidArgument("--prune is done by the local engine; run it again there, with --prune")
    stop = stop or threading.Event()
    target = LocalTarget(workspace, into, model, in_flight=IN_FLIGHT, multi_label=source.multi_label)
    listed = Listed()
    tasks = plan(
        source.items(),
        target.known(),
        listed,
        shard=options.shard,
        retry_failed=options.retry_failed,
        verify=options.verify,
        stop=stop.is_set,
    )
    counts = _Counts(listed, options, progress, clock)
    job = uuid.uuid4().hex[:12]
    shards = _shards(tasks, options.commit_rows, stop)
    settings, actors, share = _resources(workspace, workers)
    cut = False
    with _ray(address) as ray:
        make = (settings, into, target.model, job, options.replace)
        while not cut and (group := list(itertools.islice(shards, _SHARDS_A_WORKER * actors))):
            data = ray.data.from_items([{"shard": shard} for shard in group], override_num_blocks=len(group))
            # Results come as rows end, not as they began: one at a time, so that a stop loses little.
            mapped = data.map(_Worker, fn_constructor_args=make, concurrency=(1, actors), **share)
            for number, answer in enumerate(_answers(mapped), 1):
                counts.add(answer)
                if stop.is_set():
                    cut = number < len(group)
                    break
    target.tidy()
    return counts.result(target, source, job, stopped=cut or not listed.complete)


def _answers(mapped: Any) -> Iterator[dict[str, Any]]:
    """What the workers give, without what Ray wraps around their errors.

    Raises:
        InternalError: Ray's own error, or one that is no `TrunklineError`; it is logged.
        TrunklineError: A worker's.
    """
    from ray.exceptions import RayError

    try:
        for answer in mapped.iter_rows():
            if answer["failed"]:
                raise _as_raised(answer["failed"], answer["message"])
            yield answer
    except RayError as exc:
        _log.error("a worker of Ray failed: %s", exc)
        raise InternalError from None


def _as_raised(kind: str, message: str) -> TrunklineError:
    found: type[TrunklineError] = getattr(errors, kind)
    error = found.__new__(found)
    error.args = (message,)
    return error


class _Counts:
    """What the shards did, added up."""

    def __init__(
        self,
        listed: Listed,
        options: JobOptions,
        progress: Callable[[Progress], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._listed = listed
        self._options = options
        self._progress = progress
        self._clock = clock
        self._started = clock()
        self._errors: Counter[str] = Counter()
        self._lately = Lately()
        self._done = self._touched = self._duplicates = 0

    def add(self, answer: dict[str, Any]) -> None:
        """Adds a shard's.

        Raises:
            JobStopped: Too many images failed lately.
        """
        before = self._errors.total()
        self._done += int(answer["done"])
        self._touched += int(answer["touched"])
        self._duplicates += int(answer["duplicates"])
        for line in str(answer["errors"]).splitlines():
            count, _, reason = line.partition(" ")
            self._errors[reason] += int(count)
        failed = self._errors.total()
        self._lately.add(int(answer["done"]), failed - before)
        if self._lately.rate > self._options.max_error_rate:
            said = ", ".join(f"{reason} {count}" for reason, count in self._errors.most_common(3))
            raise JobStopped(
                f"the job stopped: {self._lately.failed} of the last {self._lately.images} images failed ({said} in "
                f"all), and --max-error-rate is {self._options.max_error_rate:g}. What was stored stays"
            )
        if self._progress is not None:
            self._progress(
                Progress(
                    done=self._done,
                    total=self._listed.tasks if self._listed.complete else None,
                    listed=self._listed.items,
                    errors=failed,
                    committed=self._done,
                    seconds=self._clock() - self._started,
                    shares=dict.fromkeys(STAGES, 0.0),
                )
            )

    def result(self, target: LocalTarget, source: Source, job: str, *, stopped: bool) -> JobResult:
        """The whole."""
        return JobResult(
            job=job,
            collection=target.name,
            model=target.model,
            space_id=target.spec.space_id,
            embedded=self._done - self._errors.total() - self._touched,
            duplicates=self._duplicates,
            touched=self._touched,
            unchanged=self._listed.unchanged,
            failed_before=self._listed.failed_before,
            errors=dict(self._errors.most_common()),
            vanished=None,
            pruned=0,
            not_pruned="",
            problems=source.problems() if self._listed.complete else (),
            stopped=stopped,
            seconds=self._clock() - self._started,
            shares=dict.fromkeys(STAGES, 0.0),
            version=target.version(),
        )


def _shards(tasks: Iterator[Task], rows: int, stop: threading.Event) -> Iterator[_Shard]:
    while not stop.is_set() and (part := tuple(itertools.islice(tasks, rows))):
        yield _Shard(part)


def _resources(workspace: Workspace, workers: int | None) -> tuple[Settings, int, dict[str, Any]]:
    """Settings of a worker, the number of workers, and what Ray sets aside for each."""
    import dataclasses

    settings = workspace.settings
    if workspace.device.kind != "cpu":
        return settings, workers or 1, {"num_gpus": 1}
    actors = workers or 1
    threads = max(1, settings.worker_threads // actors)
    return dataclasses.replace(settings, threads=threads), actors, {"num_cpus": threads}


def _quiet(context: Any) -> None:
    """Nothing of Ray Data's on standard error: what a worker raises is raised here, once."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Set, or it warns that a shard is no Arrow value.
    context.enable_fallback_to_arrow_object_ext_type = True
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Nothing on standard error, not even from C++: Ray's core announces there that it will be quiet."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _ray:  # noqa: N801  reads as a function
    """Ray, connected; a cluster that was started here is ended."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._mine = False

    def __enter__(self) -> Any:
        # Read when Ray's core is loaded: it writes its warnings to standard error by itself.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            import ray
            import ray.data
        except ModuleNotFoundError as exc:
            raise MissingExtra("--engine ray needs Ray: pip install 'trunkline[server,ray]'") from exc
        if not ray.is_initialized():
            self._mine = True
            with warnings.catch_warnings(), _muted():
                # The processes that Ray forks here become other programs at once.
                warnings.filterwarnings("ignore", message="lance is not fork-safe")
                ray.init(
                    address=self._address,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
        _quiet(ray.data.DataContext.get_current())
        return ray

    def __exit__(self, *_failure: object) -> None:
        import ray

        if self._mine:
            ray.shutdown()
