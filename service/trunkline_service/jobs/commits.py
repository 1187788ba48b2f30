"""Rows into commits: by number or by time, one under way while the next gathers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from trunkline_service.collections.rows import Row
from trunkline_service.jobs.stages import StageTimes
from trunkline_service.jobs.target import Target

# Fragments of many small commits make every later one slower.
_COMMITS_BETWEEN_TIDYING = 200


class Commits:
    """Gathers rows and commits them in a thread of its own. The upsert is the only commit (contract 7).

    Args:
        target: Stores.
        times: Told how long it took.
        most_rows: Of one commit.
        most_s: Seconds after which fewer are committed.
        clock: Monotonic seconds.
        committed: Called with the rows of each commit, from the thread that commits.
    """

    def __init__(
        self,
        target: Target,
        times: StageTimes,
        most_rows: int,
        most_s: float,
        clock: Callable[[], float],
        committed: Callable[[list[Row]], None],
    ) -> None:
        self._target = target
        self._times = times
        self._most_rows = most_rows
        self._most_s = most_s
        self._clock = clock
        self._committed = committed
        self._rows: list[Row] = []
        self._since = clock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._under_way: Future[None] | None = None
        self._count = 0

    def add(self, rows: list[Row]) -> None:
        """Takes rows; waits where the commit before is still under way and the next is full.

        Raises:
            TrunklineError: An earlier commit failed.
        """
        self._rows += rows
        full = len(self._rows) >= self._most_rows
        due = self._clock() - self._since >= self._most_s and not self._busy()
        if self._rows and (full or due):
            self._begin()

    def finish(self) -> None:
        """Commits what has gathered and waits for it.

        Raises:
            TrunklineError: A commit failed.
        """
        if self._rows:
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
        rows, self._rows = self._rows, []
        self._since = self._clock()
        self._under_way = self._thread.submit(self._commit, rows)

    def _commit(self, rows: list[Row]) -> None:
        with self._times.busy("write"):
            self._target.upsert(rows)
            self._count += 1
            if self._count % _COMMITS_BETWEEN_TIDYING == 0:
                self._target.tidy()
        self._committed(rows)
