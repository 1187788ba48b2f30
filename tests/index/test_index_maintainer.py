"""The maintainer's rounds, over indexes that only remember what they were asked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from trunkline_service.errors import Cancelled, CollectionNotFound, FailedPrecondition, StorageError
from trunkline_service.index.maintainer import IndexMaintainer


class Remembering:
    """Indexes of one collection; ``failure`` is raised where a build is allowed, or always if ``always``."""

    def __init__(self, failure: Exception | None = None, *, always: bool = False) -> None:
        self.failure = failure
        self.always = always
        self.collections = [SimpleNamespace(key="a", name="a")]
        self.builds: list[bool] = []

    def searched(self) -> list[Any]:
        return self.collections

    def keep_up(self, collection: Any, cancelled: Callable[[], bool], build: bool = True) -> None:
        self.builds.append(build)
        if self.failure is not None and (build or self.always):
            raise self.failure


def rounds(indexes: Any, count: int, *, build: bool = True) -> IndexMaintainer:
    maintainer = IndexMaintainer(indexes, build=build)
    for _ in range(count):
        maintainer.look()
    return maintainer


def test_while_somebody_else_builds_it_asks_in_every_round(caplog: pytest.LogCaptureFixture) -> None:
    indexes = Remembering(FailedPrecondition("somebody else builds it"))
    with caplog.at_level(logging.INFO):
        maintainer = rounds(indexes, 20)
    assert indexes.builds == [True] * 20
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    indexes.failure = None
    maintainer.look()
    assert indexes.builds == [True] * 21


@pytest.mark.parametrize("failure", [StorageError("the disk is full"), KeyError("a defect")])
def test_after_a_failure_only_building_pauses_for_longer_each_time(failure: Exception) -> None:
    indexes = Remembering(failure)
    rounds(indexes, 1 + 12 + 1 + 24 + 1)
    assert indexes.builds == [True, *[False] * 12, True, *[False] * 24, True]


def test_a_failure_to_take_over_makes_no_pause_longer() -> None:
    indexes = Remembering(StorageError("the disk does not answer"), always=True)
    rounds(indexes, 14)
    assert indexes.builds == [True, *[False] * 12, True]


def test_a_build_that_succeeds_ends_the_pauses_and_so_does_a_collection_that_went() -> None:
    indexes = Remembering(StorageError("the disk is full"))
    maintainer = rounds(indexes, 13)
    indexes.failure = None
    maintainer.look()
    maintainer.look()
    assert indexes.builds[-2:] == [True, True]
    indexes.failure = StorageError("the disk is full")
    maintainer.look()
    there, indexes.collections = indexes.collections, []
    maintainer.look()
    indexes.collections = there
    maintainer.look()
    assert indexes.builds[-2:] == [True, True]


@pytest.mark.parametrize("failure", [Cancelled("called off"), CollectionNotFound("it is gone")])
def test_what_is_no_failure_makes_no_pause(failure: Exception) -> None:
    indexes = Remembering(failure)
    rounds(indexes, 3)
    assert indexes.builds == [True] * 3


def test_one_that_does_not_build_takes_over_in_every_round() -> None:
    indexes = Remembering(StorageError("the disk does not answer"), always=True)
    rounds(indexes, 3, build=False)
    assert indexes.builds == [False] * 3


def test_asking_it_to_stop_waits_for_nothing_and_stopping_waits_for_its_end() -> None:
    began, may_end, heard = threading.Event(), threading.Event(), []

    class Slow(Remembering):
        def keep_up(self, collection: Any, cancelled: Callable[[], bool], build: bool = True) -> None:
            began.set()
            assert may_end.wait(30)
            heard.append(cancelled())

    maintainer = IndexMaintainer(Slow(), lambda _: False)  # type: ignore[arg-type]
    maintainer.start()
    assert began.wait(30)
    maintainer.ask_to_stop()
    assert heard == []
    may_end.set()
    maintainer.stop()
    assert heard == [True]
    assert not maintainer._beside.is_alive()
    # One that never began can be stopped.
    IndexMaintainer(Slow()).stop()  # type: ignore[arg-type]


class Building(Remembering):
    """Indexes of two collections; building the first takes until it is called off."""

    def __init__(self) -> None:
        super().__init__()
        self.collections = [SimpleNamespace(key=key, name=key) for key in "ab"]
        self.began = threading.Event()
        self.beside = threading.Event()
        self.asked: list[tuple[str, bool]] = []

    def keep_up(self, collection: Any, cancelled: Callable[[], bool], build: bool = True) -> None:
        self.asked.append((collection.key, build))
        if not build:
            self.beside.set()
            return
        self.began.set()
        while not cancelled():
            assert self.beside.wait(30)
        raise Cancelled("called off")


def test_while_one_is_built_the_others_are_looked_after() -> None:
    indexes = Building()
    maintainer = IndexMaintainer(indexes, lambda _: False)  # type: ignore[arg-type]
    builder = threading.Thread(target=maintainer.look)
    builder.start()
    assert indexes.began.wait(30)
    # What is being built is in hand, and is not touched.
    maintainer.look_beside()
    assert indexes.asked == [("a", True), ("b", False)]
    maintainer.ask_to_stop()
    builder.join(30)
    assert not builder.is_alive()
    maintainer.look_beside()
    assert len(indexes.asked) == 2


def test_a_second_thread_looks_while_a_round_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_service.index.maintainer._EVERY_S", 0.001)
    indexes = Building()
    maintainer = IndexMaintainer(indexes, lambda _: False)  # type: ignore[arg-type]
    maintainer.start()
    assert indexes.beside.wait(30)
    maintainer.stop()
    assert indexes.asked[0] == ("a", True)
    assert set(indexes.asked[1:]) == {("b", False)}


def test_what_is_done_at_the_start_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise StorageError("the store does not answer")

    indexes = Remembering()
    once = iter([False])
    maintainer = IndexMaintainer(indexes, lambda _: next(once, True), at_start=fail)  # type: ignore[arg-type]
    maintainer.start()
    maintainer._thread.join(30)
    assert "the store does not answer" in caplog.text
    assert indexes.builds == [True]
    maintainer.stop()
