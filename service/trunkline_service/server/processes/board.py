"""What the supervisor knows of its parts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trunkline_service.errors import TrunklineError, Unavailable
from trunkline_service.server.processes.keeper import Part
from trunkline_service.server.started import Started

STARTING = "it is starting"
# Children say how they are every second.
_SILENCE_S = 10.0
# Who is not heard of for so long hangs, and is not waited for any more.
_HUNG_S = 20.0
# Somebody looks every second. One who looks so late did not run himself, and nor did the others.
_LATE_S = 5.0
# What the answers of a front depend on.
_NEEDED = frozenset({"device", "data"})


@dataclass
class _State:
    pid: int | None = None
    ready: bool = False
    trouble: str | None = STARTING
    starts: int = 0
    heard: float = 0.0
    serves: Started | None = None


class Board:
    """Which parts are up, and why others are not.

    Args:
        parts: All of them.
        clock: Monotonic seconds.
    """

    def __init__(self, parts: Iterable[Part], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states = {part: _State() for part in parts}
        self._guard = threading.Lock()
        self._looked = clock()
        self._settled = threading.Event()
        self._failure: TrunklineError | None = None
        self._first = True

    def born(self, part: Part, pid: int) -> None:
        """A process was started."""
        with self._guard:
            state = self._states[part]
            state.pid, state.starts = pid, state.starts + 1

    def ready(self, part: Part, serves: Started | None) -> None:
        """It has started, and will say how it is."""
        with self._guard:
            state = self._states[part]
            state.ready, state.serves, state.heard = True, serves, self._clock()

    def health(self, part: Part, trouble: str | None) -> bool:
        """How it is; returns whether that is news."""
        with self._guard:
            state = self._states[part]
            news = state.trouble != trouble
            state.trouble, state.heard = trouble, self._clock()
            self._settle()
            return news

    def look(self) -> None:
        """Called every second, before `silent` and `hung`: nobody is blamed for a time in which nobody looked."""
        with self._guard:
            now = self._clock()
            late = now - self._looked
            self._looked = now
            if late > _LATE_S:
                for state in self._states.values():
                    state.heard = min(now, state.heard + late)

    def hung(self) -> dict[Part, int]:
        """Parts that have said nothing for so long that they are to be ended, and their processes.

        One that is still there is named again after the same time.
        """
        with self._guard:
            now = self._clock()
            found = {}
            for part, state in self._states.items():
                if state.ready and state.pid is not None and now - state.heard > _HUNG_S:
                    found[part] = state.pid
                    state.heard = now
            return found

    def silent(self) -> list[Part]:
        """Parts that were well, and have not said so for too long: now they are in trouble."""
        with self._guard:
            found = [
                part
                for part, state in self._states.items()
                if state.ready and state.trouble is None and self._clock() - state.heard > _SILENCE_S
            ]
            for part in found:
                self._states[part].trouble = f"it has said nothing for {_SILENCE_S:.0f} s"
            return found

    def ended(self, part: Part, how: str, *, expected: bool) -> bool:
        """It is gone; returns whether that fails the whole: in the first start of all, unless it is expected."""
        with self._guard:
            state = self._states[part]
            state.pid, state.ready, state.trouble = None, False, f"it {how}"
            fails = self._first and not expected
            if fails:
                self._fail(Unavailable(f"the {part.name} process {how} while it started; see what it logged"))
            return fails

    def fail(self, error: TrunklineError) -> bool:
        """A part could not start; returns whether that fails the whole: in the first start of all."""
        with self._guard:
            if self._first:
                self._fail(error)
            return self._first

    def wait(self) -> TrunklineError | None:
        """Waits until all parts are up, or one has failed, or `give_up`; returns the failure."""
        self._settled.wait()
        with self._guard:
            return self._failure

    def give_up(self) -> None:
        """Ends `wait`; safe in a signal handler."""
        self._settled.set()

    def troubles(self) -> dict[str, str]:
        """Why parts that the fronts need are not up, by name."""
        with self._guard:
            return {
                part.name: state.trouble
                for part, state in self._states.items()
                if part.role in _NEEDED and state.trouble is not None
            }

    def started(self) -> Started:
        """What is served, as the device's process said."""
        with self._guard:
            said = [state.serves for part, state in self._states.items() if part.role == "device"]
            return next((serves for serves in said if serves is not None), Started({}, ""))

    def pids(self) -> dict[str, int]:
        """The processes, by the names of their parts."""
        with self._guard:
            return {part.name: state.pid for part, state in self._states.items() if state.pid is not None}

    def up(self) -> dict[str, int]:
        """How many parts of each role are well."""
        with self._guard:
            counts = dict.fromkeys((part.role for part in self._states), 0)
            for part, state in self._states.items():
                counts[part.role] += state.ready and state.trouble is None
            return counts

    def restarts(self) -> dict[str, int]:
        """How often parts of each role were started anew."""
        with self._guard:
            counts = dict.fromkeys((part.role for part in self._states), 0)
            for part, state in self._states.items():
                counts[part.role] += max(0, state.starts - 1)
            return counts

    def _settle(self) -> None:
        if all(state.ready and state.trouble is None for state in self._states.values()):
            self._first = False
            self._settled.set()

    def _fail(self, error: TrunklineError) -> None:
        # The first one is the cause of what comes after it.
        self._failure = self._failure or error
        self._settled.set()
