"""Gathered answers equal lonely ones, and nobody is left waiting."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.index.points import segment, view_of

from trunkline_service.errors import Cancelled
from trunkline_service.index import gathering
from trunkline_service.index.gathering import Ask, Gatherer
from trunkline_service.index.view import Answer, View
from trunkline_service.index.workers import Workers

RNG = np.random.default_rng(0)
VIEW = view_of(
    segment(RNG.standard_normal((200, 4), np.float32)), segment(np.eye(4, dtype=np.float32), first=200)
)


class Gate:
    """A view whose searches are held until they are let go, one by one; each is noted.

    Attributes:
        begun: Released by each search that began.
        go_on: Acquired by each search before it answers.
        sizes: The queries and k of each search.
        raises: What the next searches raise instead of an answer.
    """

    def __init__(self, view: View = VIEW) -> None:
        self.view = view
        self.begun, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        self.sizes: list[tuple[int, int]] = []
        self.raises: list[BaseException] = []

    def search(self, queries: NDArray[np.float32], k: int, allowed: Any, **options: Any) -> Answer:
        self.sizes.append((len(queries), k))
        self.begun.release()
        assert self.go_on.acquire(timeout=30)
        if self.raises:
            raise self.raises.pop(0)
        return self.view.search(queries, k, allowed, **options)

    def ask(self, count: int = 1, k: int = 3, allowed: Any = None, exact_rows: int | None = 10) -> Ask:
        return Ask(cast("View", self), unit(count), k, allowed, exact_rows)


def unit(count: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(count).standard_normal((count, 4), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def gatherer() -> Gatherer:
    return Gatherer(Workers(1), most=10)


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(12) as executor:
        yield executor


def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000_000):
        if condition():
            return
        os.sched_yield()
    raise AssertionError("it never came about")


def queued(pool: ThreadPoolExecutor, gatherer: Gatherer, *asks: Ask) -> list[Future[Answer]]:
    """Asks that wait behind a search that is held, in this order."""
    futures = []
    for ask in asks:
        before = len(gatherer._waiting)
        futures.append(pool.submit(gatherer.ask, ask))
        until(lambda before=before: len(gatherer._waiting) > before)  # type: ignore[misc]
    return futures


def held(pool: ThreadPoolExecutor, gatherer: Gatherer, gate: Gate, ask: Ask | None = None) -> Future[Answer]:
    first = pool.submit(gatherer.ask, ask or gate.ask())
    assert gate.begun.acquire(timeout=30)
    return first


def same(answer: Answer, ask: Ask) -> None:
    alone = VIEW.search(ask.queries, ask.k, ask.allowed, exact_rows=ask.exact_rows, workers=Workers(1))
    assert answer.scores.shape == answer.slots.shape == (len(ask.queries), ask.k)
    assert (answer.slots == alone.slots).all()
    assert (answer.scores == alone.scores).all()
    assert answer.exact == alone.exact


def test_who_comes_alone_searches_at_once(gatherer: Gatherer) -> None:
    for k in (1, 5, 300):
        ask = Ask(VIEW, unit(2), k, None, None)
        same(gatherer.ask(ask), ask)


def test_who_comes_during_a_search_is_answered_by_the_next_one_with_all_who_can_be(
    gatherer: Gatherer, pool: ThreadPoolExecutor
) -> None:
    gate = Gate()
    mask = (RNG.random(200) < 0.5, np.array([True, False, True, False]))
    first = held(pool, gatherer, gate)
    asks = [gate.ask(1, 3), gate.ask(2, 4), gate.ask(1, 3, mask), gate.ask(3, 3), gate.ask(1, 3, None, None)]
    asks += [gate.ask(2, 4, mask), gate.ask(1, 100)]
    futures = queued(pool, gatherer, *asks)
    gate.go_on.release(20)
    for future, ask in zip([first, *futures], [gate.ask(), *asks], strict=True):
        same(future.result(30), ask)
    assert gate.sizes == [(1, 3), (6, 4), (3, 4), (1, 3), (1, 100)]


def test_a_search_has_no_more_queries_than_it_may_unless_one_caller_asks_so_many(
    gatherer: Gatherer, pool: ThreadPoolExecutor
) -> None:
    gate = Gate()
    first = held(pool, gatherer, gate)
    asks = [gate.ask(6), gate.ask(6), gate.ask(4), gate.ask(25)]
    futures = queued(pool, gatherer, *asks)
    gate.go_on.release(20)
    for future, ask in zip([first, *futures], [gate.ask(), *asks], strict=True):
        same(future.result(30), ask)
    assert [count for count, _ in gate.sizes] == [1, 10, 6, 25]


def test_few_callers_who_want_very_many_rows_are_gathered(
    gatherer: Gatherer, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "_MOST_FOUND", 300)
    gate = Gate()
    held(pool, gatherer, gate)
    futures = queued(pool, gatherer, *(gate.ask(1, 100) for _ in range(4)))
    gate.go_on.release(20)
    assert [future.result(30).slots.shape for future in futures] == [(1, 100)] * 4
    assert gate.sizes == [(1, 3), (3, 100), (1, 100)]


def test_an_error_goes_to_those_who_were_searched_for_and_to_nobody_else(
    gatherer: Gatherer, pool: ThreadPoolExecutor
) -> None:
    gate = Gate()
    first = held(pool, gatherer, gate)
    gate.go_on.release()
    same(first.result(30), gate.ask())
    first = held(pool, gatherer, gate)
    futures = queued(pool, gatherer, gate.ask(1), gate.ask(2), gate.ask(1, 100))
    gate.raises = [MemoryError("no room"), RuntimeError("defect")]
    gate.go_on.release(20)
    with pytest.raises(MemoryError):
        first.result(30)
    for future in futures[:2]:
        with pytest.raises(RuntimeError, match="defect"):
            future.result(30)
    same(futures[2].result(30), gate.ask(1, 100))
    ask = gate.ask(3)
    same(gatherer.ask(ask), ask)


def test_who_leads_and_is_interrupted_takes_nobody_along(
    gatherer: Gatherer, pool: ThreadPoolExecutor
) -> None:
    gate = Gate()
    first = held(pool, gatherer, gate)
    asks = [gate.ask(1), gate.ask(2), gate.ask(3)]
    futures = queued(pool, gatherer, *asks)
    gate.go_on.release()
    first.result(30)
    assert gate.begun.acquire(timeout=30)
    gate.raises = [KeyboardInterrupt()]
    gate.go_on.release(20)
    with pytest.raises(KeyboardInterrupt):
        futures[0].result(30)
    for future, ask in zip(futures[1:], asks[1:], strict=True):
        same(future.result(30), ask)
    assert [count for count, _ in gate.sizes] == [1, 6, 5]


def test_a_caller_whose_queries_break_the_gathering_leaves_the_lead_to_others(
    gatherer: Gatherer, pool: ThreadPoolExecutor
) -> None:
    gate = Gate()
    broken = replace(gate.ask(), queries=cast("NDArray[np.float32]", None))
    first = held(pool, gatherer, gate)
    futures = queued(pool, gatherer, broken, gate.ask(2))
    gate.go_on.release(20)
    same(first.result(30), gate.ask())
    with pytest.raises(TypeError):
        futures[0].result(30)
    with pytest.raises((TypeError, ValueError)):
        gatherer.ask(broken)
    ask = gate.ask(3)
    same(pool.submit(gatherer.ask, ask).result(30), ask)


class Interrupted(threading.Event):
    """Its wait ends by an interruption, as Ctrl-C does it: at another event, or once it is set."""

    def __init__(self, moment: threading.Event | None) -> None:
        super().__init__()
        self.moment = moment

    def wait(self, timeout: float | None = None) -> bool:
        assert super().wait(30) if self.moment is None else self.moment.wait(30)
        raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["waits", "is searched for", "is given the lead"])
def test_a_waiter_who_is_interrupted_leaves_nobody_hanging(
    gatherer: Gatherer, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    gate = Gate()
    moment = None if when == "is given the lead" else threading.Event()
    gone, other, last = gate.ask(1), gate.ask(2), gate.ask(1, 50)
    waiting = gathering._Waiting

    def made(ask: Ask) -> Any:
        return waiting(ask, Interrupted(moment)) if ask is gone else waiting(ask)

    monkeypatch.setattr(gathering, "_Waiting", made)
    first = held(pool, gatherer, gate)
    order = [other, gone, last] if when == "is searched for" else [gone, other, last]
    futures = dict(zip(map(id, order), queued(pool, gatherer, *order), strict=True))
    if when == "waits":
        assert moment is not None
        moment.set()
        assert isinstance(futures[id(gone)].exception(30), KeyboardInterrupt)
    gate.go_on.release()
    if when == "is searched for":
        assert gate.begun.acquire(timeout=30)
        assert moment is not None
        moment.set()
        assert isinstance(futures[id(gone)].exception(30), KeyboardInterrupt)
    gate.go_on.release(20)
    first.result(30)
    assert isinstance(futures[id(gone)].exception(30), KeyboardInterrupt)
    for ask in (other, last):
        same(futures[id(ask)].result(30), ask)
    assert [count for count, _ in gate.sizes] == [1, 3 if when == "is searched for" else 2, 1]
    ask = gate.ask(3)
    same(gatherer.ask(ask), ask)


def test_many_threads_get_their_own_answers(pool: ThreadPoolExecutor) -> None:
    workers = Workers(3)
    gatherer = Gatherer(workers)
    asks = [Ask(VIEW, unit(1 + number % 5), 1 + number % 7, None, None) for number in range(300)]
    for ask, answer in zip(asks, pool.map(gatherer.ask, asks), strict=True):
        same(answer, ask)
    workers.close()


def test_callers_of_two_views_are_never_answered_from_one(
    gatherer: Gatherer, pool: ThreadPoolExecutor
) -> None:
    other = view_of(segment(np.flip(VIEW.parts[0].segment.vectors, axis=1)))
    gate, beside = Gate(), Gate(other)
    first = held(pool, gatherer, gate)
    asks = [gate.ask(1), beside.ask(1)]
    futures = queued(pool, gatherer, *asks)
    for each in (gate, beside):
        each.go_on.release(20)
    first.result(30)
    for future, view in zip(futures, (VIEW, other), strict=True):
        alone = view.search(unit(1), 3, None, exact_rows=10, workers=Workers(1))
        assert (future.result(30).slots == alone.slots).all()
        assert (future.result(30).scores == alone.scores).all()
    assert (gate.sizes, beside.sizes) == ([(1, 3), (1, 3)], [(1, 3)])


def test_who_waits_and_is_called_off_leaves_and_the_others_are_answered(
    gatherer: Gatherer, pool: ThreadPoolExecutor
) -> None:
    gate, called_off = Gate(), threading.Event()
    first = held(pool, gatherer, gate)
    mine = pool.submit(gatherer.ask, gate.ask(2), cancelled=called_off.is_set)
    until(lambda: len(gatherer._waiting) == 1)
    (other,) = queued(pool, gatherer, gate.ask(1))
    called_off.set()
    # The search that is under way goes on.
    with pytest.raises(Cancelled, match="called off"):
        mine.result(30)
    assert not first.done()
    gate.go_on.release(20)
    same(other.result(30), gate.ask(1))
    assert gate.sizes == [(1, 3), (1, 3)]
    with pytest.raises(Cancelled):
        gatherer.ask(gate.ask(), cancelled=called_off.is_set)
    assert len(gate.sizes) == 2


def test_who_is_not_called_off_is_answered_however_long_it_waits(
    gatherer: Gatherer, pool: ThreadPoolExecutor
) -> None:
    gate, asked = Gate(), threading.Semaphore(0)

    def cancelled() -> bool:
        asked.release()
        return False

    first = held(pool, gatherer, gate)
    mine = pool.submit(gatherer.ask, gate.ask(2), cancelled=cancelled)
    for _ in range(3):
        assert asked.acquire(timeout=30)
    gate.go_on.release(20)
    first.result(30)
    same(mine.result(30), gate.ask(2))
