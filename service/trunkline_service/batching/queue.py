"""The order of waiting slots: lanes, aging, expiry. Pure: no threads, no clock of its own."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from trunkline_service.batching.request import Slot
from trunkline_service.errors import TrunklineError

_INTERACTIVE_PER_AGED_BULK = 8


@dataclass(frozen=True)
class Taken:
    """What left the queue.

    Attributes:
        slots: To be worked on, in order.
        dropped: Expired or cancelled, with the reason; nothing is to be spent on them.
    """

    slots: list[Slot]
    dropped: list[tuple[Slot, TrunklineError]]


class LaneQueue:
    """Two lanes, each first in, first out.

    Interactive slots go first. While they wait, one place in nine at most goes to a bulk slot that has
    waited ``aging_s``: a busy server slows bulk work down and never stops it, and a standing backlog of
    bulk work does not stand before interactive callers.
    """

    def __init__(self, aging_s: float = 2.0) -> None:
        self._interactive_in_a_row = 0
        self._lanes: dict[str, deque[Slot]] = {"interactive": deque(), "bulk": deque()}
        self._aging_s = aging_s

    def __len__(self) -> int:
        return len(self._lanes["interactive"]) + len(self._lanes["bulk"])

    def put(self, slot: Slot, now: float) -> None:
        """Adds a slot at the end of its lane."""
        slot.enqueued = now
        self._lanes[slot.lane].append(slot)

    def take(self, most: int, now: float) -> Taken:
        """Removes up to ``most`` slots worth working on, and every dead one met on the way."""
        taken = Taken([], [])
        while len(taken.slots) < most and len(self):
            slot = self._next_lane(now).popleft()
            # Only what goes while both wait is a turn of the one at the other's cost.
            contested = bool(self._lanes["bulk"]) and slot.lane == "interactive"
            self._interactive_in_a_row = self._interactive_in_a_row + 1 if contested else 0
            slot.queue_s += now - slot.enqueued
            verdict = slot.request.verdict(now)
            if verdict is None:
                taken.slots.append(slot)
            else:
                taken.dropped.append((slot, verdict))
        return taken

    def drain(self) -> list[Slot]:
        """Removes everything."""
        slots = [slot for lane in self._lanes.values() for slot in lane]
        for lane in self._lanes.values():
            lane.clear()
        return slots

    def _next_lane(self, now: float) -> deque[Slot]:
        interactive, bulk = self._lanes["interactive"], self._lanes["bulk"]
        due = self._interactive_in_a_row >= _INTERACTIVE_PER_AGED_BULK
        aged = bool(bulk) and due and now - bulk[0].enqueued >= self._aging_s
        return bulk if aged or not interactive else interactive
