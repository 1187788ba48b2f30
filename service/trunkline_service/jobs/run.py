"""A job: read -> decode -> infer -> store, overlapped, and resumable at any instant.

The upsert is the only commit: a run that was killed has stored whole commits, and the next run plans
what is missing from what the collection holds (contract 7). There is no other record of progress.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from trunkline_service.collections.known import Known
from trunkline_service.errors import JobStopped
from trunkline_service.jobs.chunk import Done
from trunkline_service.jobs.commits import Commits, Gathered
from trunkline_service.jobs.lately import Lately
from trunkline_service.jobs.options import JobOptions, JobResult, Progress
from trunkline_service.jobs.pipeline import READERS, done_chunks
from trunkline_service.jobs.plan import Listed, Task, plan
from trunkline_service.jobs.sources import Source, SourceItem
from trunkline_service.jobs.stages import StageTimes
from trunkline_service.jobs.target import Target
from trunkline_service.jobs.vanished import survey, too_many

_LISTED_BETWEEN_REPORTS = 8192
# Of the vectors of one commit, which are in memory three times while it is written.
_COMMIT_BYTES = 4 * 1024 * 1024
_FEWEST_ROWS = 256


def run(
    target: Target,
    source: Source,
    options: JobOptions | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    times: StageTimes | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> JobResult:
    """Embeds the images of a source into a collection; run again, it goes on where it ended.

    Args:
        target: The collection, and what embeds for it.
        source: The images.
        options: How.
        progress: Called after each chunk.
        stop: Once set, what has begun is finished and stored, and the job ends.
        times: Of the stages; given where the engine reports to it, too.
        clock: Monotonic seconds.
        now: The time of day, with its zone.

    Raises:
        SpaceMismatch: The collection holds vectors of another space.
        JobStopped: Too many images failed, or ids of two sources collide; what was committed stays.
        StorageError: The disk is full, say; what was committed stays.
    """
    return _Job(
        target, source, options or JobOptions(), progress, stop or threading.Event(), times, clock, now()
    ).run()


class _Job:
    """One run. The thread that calls `run` plans and gathers; others read, embed and commit."""

    def __init__(
        self,
        target: Target,
        source: Source,
        options: JobOptions,
        progress: Callable[[Progress], None] | None,
        stop: threading.Event,
        times: StageTimes | None,
        clock: Callable[[], float],
        began: datetime,
    ) -> None:
        self._target = target
        self._source = source
        self._options = options
        self._progress = progress
        self._stop = stop
        self._times = times or StageTimes(clock, {"read": READERS})
        self._clock = clock
        self._started = clock()
        self._began = began
        self._job = uuid.uuid4().hex[:12]
        self._listed = Listed()
        self._errors: Counter[str] = Counter()
        self._lately = Lately()
        self._done = self._embedded = self._touched = self._duplicates = self._committed = 0

    def run(self) -> JobResult:
        known = self._target.known()

        def committed(gathered: Gathered) -> None:
            self._committed += len(gathered)
            rows = (*gathered.new, *gathered.refreshed)
            known.note_contents([row.content_hash for row in rows if row.status == "ok"])

        options = self._options
        rows = max(_FEWEST_ROWS, _COMMIT_BYTES // (4 * self._target.spec.dim))
        rows = min(rows, options.commit_rows)
        commits = Commits(self._target, self._times, rows, options.commit_s, self._clock, committed)
        try:
            for done in done_chunks(
                self._target, self._tasks(known), known, self._times, self._job, self._options.replace
            ):
                self._count(done)
                commits.add(done)
                self._report()
            commits.finish()
        except JobStopped:
            # What was gathered before is worth keeping.
            commits.finish()
            raise
        finally:
            commits.close()
        return self._result(known)

    def _tasks(self, known: Known) -> Iterator[Task]:
        options = self._options
        return plan(
            self._watched(self._source.items()),
            known,
            self._listed,
            shard=options.shard,
            retry_failed=options.retry_failed,
            verify=options.verify,
            stop=self._stop.is_set,
        )

    def _watched(self, items: Iterator[SourceItem]) -> Iterator[SourceItem]:
        """Reports now and then, also where there is nothing to do for long."""
        for number, item in enumerate(items, 1):
            yield item
            if number % _LISTED_BETWEEN_REPORTS == 0:
                self._report()

    def _count(self, done: Done) -> None:
        """Adds a chunk up.

        Raises:
            JobStopped: Too many images failed lately. The rows of this chunk that say so are not stored: a
                disk that is not there must not become ten million of them.
        """
        reasons = done.reasons
        self._errors.update(reasons)
        self._done += done.images
        self._touched += len(done.touched)
        self._duplicates += done.duplicates
        self._embedded += done.images - len(reasons) - len(done.touched)
        self._lately.add(done.images, len(reasons))
        if self._lately.rate > self._options.max_error_rate:
            said = ", ".join(f"{reason} {count}" for reason, count in self._errors.most_common(3))
            raise JobStopped(
                f"the job stopped: {self._lately.failed} of the last {self._lately.images} images failed ({said} in "
                f"all), and --max-error-rate is {self._options.max_error_rate:g}. Is the source there, and are these "
                "images? What was stored stays"
            )

    def _report(self) -> None:
        if self._progress is None:
            return
        seconds = self._clock() - self._started
        self._progress(
            Progress(
                done=self._done,
                total=self._listed.tasks if self._listed.complete else None,
                listed=self._listed.items,
                errors=self._errors.total(),
                committed=self._committed,
                seconds=seconds,
                shares=self._times.shares(seconds),
            )
        )

    def _result(self, known: Known) -> JobResult:
        problems = self._source.problems() if self._listed.complete else ()
        vanished, pruned, not_pruned = self._vanished(known, problems)
        seconds = self._clock() - self._started
        return JobResult(
            job=self._job,
            collection=self._target.name,
            model=self._target.model,
            space_id=self._target.spec.space_id,
            embedded=self._embedded,
            duplicates=self._duplicates,
            touched=self._touched,
            unchanged=self._listed.unchanged,
            failed_before=self._listed.failed_before,
            errors=dict(self._errors.most_common()),
            vanished=vanished,
            pruned=pruned,
            not_pruned=not_pruned,
            problems=problems,
            stopped=not self._listed.complete,
            seconds=seconds,
            shares=self._times.shares(seconds),
            version=self._target.version(),
        )

    def _vanished(self, known: Known, problems: tuple[str, ...]) -> tuple[int | None, int, str]:
        """How many rows have lost their source, how many were deleted, and why not those that should be."""
        if not self._listed.complete:
            return None, 0, "the job was stopped" if self._options.prune else ""
        if problems:
            return None, 0, f"the source was not listed in full: {problems[0]}" if self._options.prune else ""
        found = survey(self._target, self._source, known, self._options.shard)
        if not self._options.prune:
            return found.count, 0, ""
        if too_many(found.count, found.covered):
            return (
                found.count,
                0,
                f"{found.count:,} of {found.covered:,} rows would go; is all of the source there? Delete them with "
                "'trunkline collections delete' if they shall",
            )
        pruned = sum(self._target.delete(ids) for ids in found.ids(self._began))
        return found.count, pruned, ""
