"""Keeps one part of the server alive: starts its process, listens to it, starts it anew when it dies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trunkline_service.server.processes.child_process import ChildProcess, described
from trunkline_service.server.processes.messages import Message, Stop

_log = logging.getLogger(__name__)
_STEADY_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


@dataclass(frozen=True)
class Part:
    """One place of a process in the server.

    Attributes:
        role: ``device``, ``data``, ``front``.
        number: Among those of its role, from 0.
    """

    role: str
    number: int = 0

    @property
    def name(self) -> str:
        """``device``, ``data``, ``front-0``."""
        return f"{self.role}-{self.number}" if self.role == "front" else self.role


class Listener(Protocol):
    """Told what becomes of a part; in the part's own thread."""

    def born(self, part: Part, pid: int) -> None:
        """A process was started."""

    def told(self, part: Part, message: Message) -> None:
        """It said something."""

    def ended(self, part: Part, how: str) -> None:
        """It is gone, and reaped."""


class Pauses:
    """How long to wait before a process is started anew. Pure but for its memory.

    The first time at once; if it dies again within seconds, longer each time.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def after(self, lived_s: float) -> float:
        """Seconds to wait, after a process that lived so long."""
        pause = 0.0 if lived_s >= _STEADY_S else self._next
        self._next = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, 2 * pause))
        return pause


class Keeper:
    """Keeps a part alive until it is told to let it end.

    Args:
        part: Which.
        spawn: Starts a process of it.
        listener: Told what becomes of it.
        stopping: Set where nothing is to be started any more.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        part: Part,
        spawn: Callable[[Part], ChildProcess],
        listener: Listener,
        stopping: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.part = part
        self._spawn = spawn
        self._listener = listener
        self._stopping = stopping
        self._clock = clock
        self._guard = threading.Lock()
        self._child: ChildProcess | None = None
        self._thread = threading.Thread(target=self._run, name=f"keep {part.name}", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def send(self, message: Message) -> bool:
        """Tells the process something; False where there is none."""
        with self._guard:
            return self._child is not None and self._child.send(message)

    def let_end(self, drain_s: float) -> None:
        """Asks the process to end; nothing may be started any more."""
        self.send(Stop(drain_s))

    def join(self, timeout_s: float) -> None:
        """Waits until the process has ended, and kills it where that takes too long."""
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            _log.error("%s did not end in %.0f s and is killed", self.part.name, timeout_s)
            self.kill()
            self._thread.join()

    def kill(self, pid: int | None = None) -> None:
        """Ends the process without a word; nothing where another one than ``pid`` is there by now."""
        with self._guard:
            if self._child is not None and pid in (None, self._child.pid):
                self._child.kill()

    def _run(self) -> None:
        pauses = Pauses()
        pause = 0.0
        while not self._stopping.wait(pause):
            began = self._clock()
            how = self._live()
            pause = pauses.after(self._clock() - began)
            if not self._stopping.is_set():
                _log.error(
                    "%s %s; it is started anew%s",
                    self.part.name,
                    how,
                    f" in {pause:.1f} s" if pause else "",
                )

    def _live(self) -> str:
        """One process from its beginning to its end; says how it ended."""
        try:
            with self._guard:
                # Under the guard: whoever stops the server finds it, or it finds that the server stops.
                if self._stopping.is_set():
                    return "was not started"
                child = self._child = self._spawn(self.part)
        except OSError as exc:
            how = f"could not be started: {exc.strerror or exc}"
            self._listener.ended(self.part, how)
            return how
        self._listener.born(self.part, child.pid)
        try:
            for message in child.messages():
                self._listener.told(self.part, message)
        except ValueError:
            _log.exception("%s says what is no message, and is killed", self.part.name)
            child.kill()
        with self._guard:
            self._child = None
        how = described(child.reap())
        self._listener.ended(self.part, how)
        return how
