from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.index.card import Recall
from trunkline_service.index.choosing.measuring import Measured
from trunkline_service.index.choosing.tuning import tune


def measuring(recall: Callable[[int], float], rate: Callable[[int], float] = lambda effort: 1e6 / effort):  # type: ignore[no-untyped-def]
    asked: list[int] = []

    def measure(effort: int) -> Measured:
        asked.append(effort)
        return Measured(Recall(10, recall(effort), recall(effort), 100, 1, 1000), rate(effort))

    return measure, asked


def reaches(one: Measured) -> bool:
    return one.recall.low >= 0.99


@settings(deadline=None)
@given(needed=st.integers(1, 5000), first=st.integers(1, 10), most=st.integers(1, 5000))
def test_the_least_effort_is_found_within_a_sixteenth(needed: int, first: int, most: int) -> None:
    measure, asked = measuring(lambda effort: 1.0 if effort >= needed else 0.9 * effort / needed)

    tuned = tune(measure, reaches, first=first, most=most)

    assert len(asked) == len(set(asked))
    assert max(asked) <= most
    assert [setting.effort for setting in tuned.settings] == sorted(asked)
    if needed > most:
        assert tuned.effort is None
        assert tuned.best.recall.measured == max(setting.recall for setting in tuned.settings)
    else:
        least = min(max(needed, first), most)
        assert tuned.effort is not None
        assert least <= tuned.effort <= least + max(0, least // 16)
        assert tuned.best.recall.low >= 0.99


def test_settings_hold_what_was_measured() -> None:
    measure, _ = measuring(lambda effort: 0.98 + effort / 100)

    tuned = tune(measure, reaches, first=1, most=64)

    assert tuned.effort == 1
    assert [(one.effort, one.recall, one.queries_per_s) for one in tuned.settings] == [(1, 0.99, 1e6)]


def test_what_is_as_slow_as_exact_search_is_given_up() -> None:
    measure, asked = measuring(lambda effort: effort / 1000)

    tuned = tune(measure, reaches, first=1, most=1000, slowest=1e6 / 32)

    assert tuned.effort is None
    assert asked == [1, 2, 4, 8, 16, 32]
    assert tuned.best.recall.measured == pytest.approx(0.032)


def test_a_recall_that_is_reached_too_slowly_does_not_count() -> None:
    measure, _ = measuring(lambda effort: 1.0, lambda effort: 10.0)

    assert tune(measure, reaches, first=1, most=100, slowest=10.0).effort is None
    assert tune(measure, reaches, first=1, most=100, slowest=9.9).effort == 1


def test_more_effort_that_finds_nothing_more_ends_it() -> None:
    measure, asked = measuring(lambda effort: min(0.9, effort / 10))

    tuned = tune(measure, reaches, first=1, most=1_000_000)

    assert tuned.effort is None
    assert asked == [1, 2, 4, 8, 16, 32, 64]
