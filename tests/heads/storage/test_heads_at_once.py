"""Registries that save, move and delete at once lose nothing, and see each other."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.heads.storage.conftest import Opening, Saying, answer

from trunkline_service.errors import FailedPrecondition, HeadNotFound, ModelFileError
from trunkline_service.heads.storage.registry import HeadRegistry


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_movers_at_once_lose_nothing(three: HeadRegistry, opening: Opening) -> None:
    """Eight registries, as eight processes would: each alias is there, each promote is in the history."""

    def move(number: int) -> None:
        registry = opening()
        registry.set_alias("flowers", f"a{number}", 1 + number % 3)
        registry.promote("flowers", 1 + number % 2)

    in_threads(8, move)
    pointer = opening().pointer("flowers")
    assert pointer.aliases == {f"a{number}": 1 + number % 3 for number in range(8)}
    # Each promote of another version than the serving one left that one behind.
    chain = [*pointer.history, pointer.serving]
    assert chain[:3] == [1, 2, 3]
    assert set(chain[3:]) == {1, 2}
    assert all(one != next_one for one, next_one in itertools.pairwise(chain))


def test_savers_at_once_get_versions_of_their_own(opening: Opening, saying: Saying) -> None:
    savers = 6
    found = in_threads(savers, lambda number: opening().save(saying(number), "flowers").version)
    assert sorted(found) == list(range(1, savers + 1))
    registry = opening()
    assert {number: answer(registry, f"flowers@{version}") for number, version in enumerate(found)} == {
        number: f"c{number}" for number in range(savers)
    }
    pointer = registry.pointer("flowers")
    assert (pointer.serving, sorted(pointer.history)) == (savers, list(range(1, savers)))


def test_deleting_and_promoting_at_once_never_leaves_a_head_that_serves_nothing(
    opening: Opening, saying: Saying
) -> None:
    registry = opening()
    for number in range(4):
        registry.save(saying(number), "flowers")

    def move(number: int) -> bool:
        try:
            if number % 2:
                opening().promote("flowers", 2)
            else:
                opening().delete("flowers@2")
        except (HeadNotFound, FailedPrecondition, ModelFileError):
            return False
        return True

    done = in_threads(4, move)
    fresh = opening()
    deleted, promoted = any(done[0::2]), any(done[1::2])
    assert deleted != promoted
    assert answer(fresh, "flowers") == ("c1" if promoted else "c3")
    assert (2 in fresh.versions("flowers")) == promoted


def test_what_another_registry_moves_is_seen(opening: Opening, saying: Saying) -> None:
    now = [0.0]
    reader, writer = opening(monotonic=lambda: now[0]), opening()
    writer.save(saying(1), "flowers")
    assert answer(reader, "flowers") == "c1"
    writer.save(saying(2), "flowers")
    now[0] += 1.0
    assert answer(reader, "flowers") == "c2"
    writer.rollback("flowers")
    now[0] += 1.0
    assert answer(reader, "flowers") == "c1"
    writer.delete("flowers")
    writer.save(saying(3), "flowers")
    now[0] += 1.0
    assert answer(reader, "flowers") == "c3"
