"""Callers that search at the same time are gathered into one search.

Sixteen queries together take about as long as two alone: what they cost is reading the vectors. No timer and
no thread: whoever finds nobody searching searches at once, for itself and for all who waited; who comes
meanwhile waits for the next round.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.calling_off import check_wanted, never
from trunkline_service.index.view import Answer, Mask, View
from trunkline_service.index.workers import Workers

_MOST_QUERIES = 1024
# Rows found by one search, of all its queries: their scores and places take some hundred megabytes.
_MOST_FOUND = 1 << 21
# How long who waits does not ask whether it is still wanted, in seconds.
_UNASKED_S = 0.05


@dataclass(frozen=True, eq=False)
class Ask:
    """One caller's queries of one view.

    Attributes:
        view: Where.
        queries: float32 (Q, dim), prepared.
        k: At least 1.
        allowed: See `View.search`.
        exact_rows: See `View.search`.
    """

    view: View
    queries: NDArray[np.float32]
    k: int
    allowed: tuple[Mask, ...] | None
    exact_rows: int | None

    @property
    def together(self) -> Hashable:
        """The same for callers whose queries can be answered in one search.

        The effort depends on k, so only those of about the same k are: nobody's recall is another's, and
        nobody waits for a much larger one.
        """
        return id(self.view), id(self.allowed), self.exact_rows, (self.k - 1).bit_length()


@dataclass(eq=False)
class _Waiting:
    """A caller.

    Attributes:
        ask: What it asks.
        turn: Set once it is answered, or is to lead.
        answer: Its answer.
        error: What is raised instead.
        gone: It was interrupted, or has its answer.
    """

    ask: Ask
    turn: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None
    error: Exception | None = None
    gone: bool = False

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None


class Gatherer:
    """Answers asks, of one collection, one search at a time; safe to share among threads.

    Args:
        workers: Threads of a search.
        most: The most queries of one search that gathers several callers.
    """

    def __init__(self, workers: Workers, most: int = _MOST_QUERIES) -> None:
        self._workers = workers
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._leader: _Waiting | None = None

    def ask(self, ask: Ask, *, cancelled: Callable[[], bool] = never) -> Answer:
        """The answer; where search is exact, the same as if it were asked alone.

        Args:
            ask: What is asked.
            cancelled: Asked before the search, and while it waits for others'.

        Raises:
            Cancelled: ``cancelled`` said so. Those who would be answered with it are answered all the same.
        """
        check_wanted(cancelled)
        mine = _Waiting(ask)
        try:
            with self._lock:
                self._waiting.append(mine)
                if self._leader is None:
                    self._pass_on()
            _wait(mine.turn, cancelled)
            if not mine.done:
                self._lead(mine)
        finally:
            # Also of who is interrupted: with the lead in its hands, all others would wait for ever.
            self._leave(mine)
        if mine.error is not None:
            raise mine.error
        assert mine.answer is not None
        return mine.answer

    def _leave(self, mine: _Waiting) -> None:
        with self._lock:
            mine.gone = True
            self._waiting = [waiting for waiting in self._waiting if waiting is not mine]
            if self._leader is mine:
                self._pass_on()

    def _pass_on(self) -> None:
        """Gives the lead to who waits longest; the lock is held."""
        self._leader = self._waiting[0] if self._waiting else None
        if self._leader is not None:
            self._leader.turn.set()

    def _lead(self, mine: _Waiting) -> None:
        """Searches for oneself and for those who can be answered with it."""
        together = self._take(mine)
        try:
            _answer(together, self._workers)
        except Exception as exc:  # noqa: BLE001 - raised in the threads of those who asked
            for waiting in together:
                waiting.error = exc
        finally:
            with self._lock:
                # Interrupted: that is nobody else's fault, and they wait on.
                again = [waiting for waiting in together if not waiting.done and not waiting.gone]
                self._waiting = again + self._waiting
            for waiting in together:
                if waiting.done:
                    waiting.turn.set()

    def _take(self, mine: _Waiting) -> list[_Waiting]:
        most = min(self._most, _MOST_FOUND // mine.ask.k)
        taken, count = [mine], len(mine.ask.queries)
        with self._lock:
            for waiting in self._waiting:
                if waiting is mine or waiting.ask.together != mine.ask.together:
                    continue
                if count + len(waiting.ask.queries) <= most:
                    taken.append(waiting)
                    count += len(waiting.ask.queries)
            self._waiting = [waiting for waiting in self._waiting if waiting not in taken]
        return taken


def _wait(turn: threading.Event, cancelled: Callable[[], bool]) -> None:
    # Nobody wakes the thread of a call that its caller cancelled.
    while not turn.wait(None if cancelled is never else _UNASKED_S):
        check_wanted(cancelled)


def _answer(together: list[_Waiting], workers: Workers) -> None:
    asks = [waiting.ask for waiting in together]
    first = asks[0]
    queries = first.queries if len(asks) == 1 else np.concatenate([ask.queries for ask in asks])
    k = max(ask.k for ask in asks)
    answer = first.view.search(queries, k, first.allowed, exact_rows=first.exact_rows, workers=workers)
    end = 0
    for waiting in together:
        start, end = end, end + len(waiting.ask.queries)
        rows, columns = slice(start, end), slice(0, waiting.ask.k)
        waiting.answer = Answer(answer.scores[rows, columns], answer.slots[rows, columns], answer.exact)
