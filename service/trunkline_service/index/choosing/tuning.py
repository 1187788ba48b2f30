"""The least effort that reaches a recall; pure but for what it measures with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trunkline_service.index.card import Setting
from trunkline_service.index.choosing.measuring import Measured

# Efforts are told apart no finer than this share of them.
_FINEST = 16
# Where twice the effort, and twice that, find less than this more, nothing will.
_NOTHING_MORE = 1e-4


@dataclass(frozen=True)
class Tuned:
    """What came of tuning.

    Attributes:
        effort: The least that reaches the target; None where none does.
        best: What it gives, or else the best that was measured.
        settings: All that were measured, by effort.
    """

    effort: int | None
    best: Measured
    settings: tuple[Setting, ...]


def tune(
    measure: Callable[[int], Measured],
    reaches: Callable[[Measured], bool],
    *,
    first: int,
    most: int,
    slowest: float = 0.0,
) -> Tuned:
    """Doubles the effort until it reaches the target, then halves the gap to the one before.

    Args:
        measure: Measures an effort.
        reaches: Says whether that is good enough; true of every larger effort too.
        first: The least effort.
        most: The largest, which leaves nothing out.
        slowest: Queries a second; what is no faster than that is not looked at further.
    """
    seen: dict[int, Measured] = {}
    failed, effort = first - 1, min(first, most)
    while True:
        now = seen[effort] = measure(effort)
        slow = now.queries_per_s <= slowest
        if slow or reaches(now):
            break
        if effort == most or _stuck(seen):
            slow = True
            break
        failed, effort = effort, min(2 * effort, most)
    if slow:
        best = max(seen.values(), key=lambda one: one.recall.measured)
        return Tuned(None, best, _settings(seen))
    while effort - failed > max(1, failed // _FINEST):
        middle = (failed + effort) // 2
        seen[middle] = measure(middle)
        if reaches(seen[middle]):
            effort = middle
        else:
            failed = middle
    return Tuned(effort, seen[effort], _settings(seen))


def _stuck(seen: dict[int, Measured]) -> bool:
    # Where the one has reached 1, the other may still grow.
    recalls = [one.recall.measured + one.between for one in seen.values()]
    return len(recalls) > 2 and recalls[-1] - recalls[-3] < _NOTHING_MORE


def _settings(seen: dict[int, Measured]) -> tuple[Setting, ...]:
    return tuple(
        Setting(effort, one.recall.measured, one.queries_per_s) for effort, one in sorted(seen.items())
    )
