"""What was done into commits: by number or by time, one under way while the next gathers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from trunkline_service.collections.partial import Touched
from trunkline_service.collections.rows import Row
from trunkline_service.jobs.chunk import Done
from trunkline_service.jobs.stages import StageTimes
from trunkline_service.jobs.target import Target

# Fragments of many small commits make every later one slower.
_COMMITS_BETWEEN_TIDYING = 200


@dataclass
class Gathered:
    """What the next commit holds."""

    new: list[Row] = field(default_factory=list)
    refreshed: list[Row] = field(default_factory=list)
    touched: list[Touched] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.new) + len(self.refreshed) + len(self.touched)

    def add(self, done: Done) -> None:
        """Takes a chunk's."""
        self.new += done.new
        self.refreshed += done.refreshed
        self.touched += done.touched

    def store(self, target: Target) -> None:
        """One commit for each kind that there is."""
        if self.new:
            target.upsert(self.new)
        if self.refreshed:
            target.refresh(self.refreshed)
        if self.touched:
            target.touch(self.touched)


class Commits:
    """Gathers what chunks did and commits it in a thread of its own. That is the only record (contract 7).

    Args:
        target: Stores.
        times: Told how long it took.
        most_rows: Of one commit.
        most_s: Seconds after which fewer are committed.
        clock: Monotonic seconds.
        committed: Called with what each commit held, from the thread that commits.
    """

    def __init__(
        self,
        target: Target,
        times: StageTimes,
        most_rows: int,
        most_s: float,
        clock: Callable[[], float],
        committed: Callable[[Gathered], None],
    ) -> None:
        self._target = target
        self._times = times
        self._most_rows = most_rows
        self._most_s = most_s
        self._clock = clock
        self._committed = committed
        self._next = Gathered()
        self._since = clock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._under_way: Future[None] | None = None
        self._count = 0

    def add(self, done: Done) -> None:
        """Takes a chunk's; waits where the commit before is still under way and the next is full.

        Raises:
            TrunklineError: An earlier commit failed.
        """
        self._next.add(done)
        full = len(self._next) >= self._most_rows
        due = self._clock() - self._since >= self._most_s and not self._busy()
        if len(self._next) and (full or due):
            self._begin()

    def finish(self) -> None:
        """Commits what has gathered and waits for it.

        Raises:
            TrunklineError: A commit failed.
        """
        if len(self._next):
            self._begin()
        if self._under_way is not None:
            self._under_way.result()
        if self._count > 1:
            with self._times.busy("write"):
                self._target.tidy()

    def close(self) -> None:
        """Waits for the commit under way and ends the thread."""
        self._thread.shutdown(wait=True)

    def _busy(self) -> bool:
        return self._under_way is not None and not self._under_way.done()

    def _begin(self) -> None:
        if self._under_way is not None:
            self._under_way.result()
        gathered, self._next = self._next, Gathered()
        self._since = self._clock()
        self._under_way = self._thread.submit(self._commit, gathered)

    def _commit(self, gathered: Gathered) -> None:
        with self._times.busy("write"):
            gathered.store(self._target)
            self._count += 1
            if self._count % _COMMITS_BETWEEN_TIDYING == 0:
                self._target.tidy()
        self._committed(gathered)
