"""A job on Ray Data: one actor a device, one commit a shard. The only place that imports Ray.

The driver plans; each actor opens the same models and data, takes shards of tasks, and commits each by
one upsert. Ray runs a shard again whose actor died; an upsert that was made before is made once more
and changes nothing.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline_service.collections.known import Known
from trunkline_service.errors import InvalidArgument, JobStopped, MissingExtra
from trunkline_service.jobs.local import LocalTarget
from trunkline_service.jobs.options import JobOptions, JobResult, Progress
from trunkline_service.jobs.pipeline import IN_FLIGHT, done_chunks
from trunkline_service.jobs.plan import Listed, Task, plan
from trunkline_service.jobs.sources import Source
from trunkline_service.jobs.stages import STAGES, StageTimes
from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace

# Shards of one pass through Ray: the driver holds no more tasks than these.
_SHARDS_AT_ONCE = 64
_RATE_FROM = 200


@dataclass(frozen=True)
class _Shard:
    """Tasks of one commit. A class of its own, so that Ray takes it as one value."""

    tasks: tuple[Task, ...]


class _Worker:
    """An actor: opens its own workspace once, then does shards."""

    def __init__(self, settings: Settings, into: str, model: str, job: str, replace: bool) -> None:
        self._times = StageTimes(time.monotonic)
        self._workspace = Workspace(settings, observer=self._times)
        self._target = LocalTarget(self._workspace, into, model, in_flight=IN_FLIGHT)
        self._job = job
        self._replace = replace

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Does one shard; gives counts."""
        tasks: Sequence[Task] = row["shard"].tasks
        # What the collection holds of these contents is not looked up: that would be a scan for each shard.
        known = Known([])
        done = list(done_chunks(self._target, tasks, known, self._times, self._job, self._replace))
        rows = [row for chunk in done for row in chunk.rows]
        version = self._target.upsert(rows)
        reasons = Counter(row.error.partition(":")[0] for row in rows if row.error is not None)
        for chunk in done:
            reasons.update(chunk.unread)
        return {
            "done": len(tasks),
            "touched": sum(chunk.touched for chunk in done),
            "duplicates": sum(chunk.duplicates for chunk in done),
            "errors": "\n".join(f"{count} {reason}" for reason, count in reasons.items()),
            "version": version,
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
        stop: Once set, no more shards are begun.
        clock: Monotonic seconds.

    Raises:
        MissingExtra: Ray is not installed.
        InvalidArgument: An option that this engine does not have.
        JobStopped: Too many images failed.
        TrunklineError: See `jobs.run.run`.
    """
    options = options or JobOptions()
    if options.prune:
        raise InvalidArgument("--prune is done by the local engine; run it again there, with --prune")
    target = LocalTarget(workspace, into, model, in_flight=IN_FLIGHT)
    listed = Listed()
    tasks = plan(
        source.items(),
        target.known(),
        listed,
        shard=options.shard,
        retry_failed=options.retry_failed,
        verify=options.verify,
    )
    counts = _Counts(listed, options, progress, clock)
    stop = stop or threading.Event()
    job = uuid.uuid4().hex[:12]
    shards = _shards(tasks, options.commit_rows, stop)
    settings, actors, share = _resources(workspace, workers)
    with _ray(address) as ray:
        make = (settings, into, target.model, job, options.replace)
        while group := list(itertools.islice(shards, _SHARDS_AT_ONCE)):
            data = ray.data.from_items([{"shard": shard} for shard in group], override_num_blocks=len(group))
            # Results come as rows end, not as they began: one at a time, so that a stop loses little.
            mapped = data.map(_Worker, fn_constructor_args=make, concurrency=(1, actors), **share)
            for answer in mapped.iter_rows():
                counts.add(answer)
    target.tidy()
    return counts.result(target, source, job)


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
        self._done = self._touched = self._duplicates = 0

    def add(self, answer: dict[str, Any]) -> None:
        """Adds a shard's.

        Raises:
            JobStopped: Too many images failed by now.
        """
        self._done += int(answer["done"])
        self._touched += int(answer["touched"])
        self._duplicates += int(answer["duplicates"])
        for line in str(answer["errors"]).splitlines():
            count, _, reason = line.partition(" ")
            self._errors[reason] += int(count)
        failed = self._errors.total()
        if self._done >= _RATE_FROM and failed > self._options.max_error_rate * self._done:
            raise JobStopped(
                f"the job stopped: {failed} of {self._done} images failed ({dict(self._errors)}), and "
                f"--max-error-rate is {self._options.max_error_rate:g}. What was stored stays"
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

    def result(self, target: LocalTarget, source: Source, job: str) -> JobResult:
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
            problems=source.problems() if self._listed.complete else (),
            stopped=not self._listed.complete,
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


class _ray:  # noqa: N801  reads as a function
    """Ray, connected; a cluster that was started here is ended."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._mine = False

    def __enter__(self) -> Any:
        try:
            import ray
            import ray.data
        except ModuleNotFoundError as exc:
            raise MissingExtra("--engine ray needs Ray: pip install 'trunkline[server,ray]'") from exc
        if not ray.is_initialized():
            self._mine = True
            ray.init(
                address=self._address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        ray.data.DataContext.get_current().enable_progress_bars = False
        return ray

    def __exit__(self, *_failure: object) -> None:
        import ray

        if self._mine:
            ray.shutdown()
