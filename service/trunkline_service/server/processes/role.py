"""What a child process does, as the code around it sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from trunkline_service.server.processes.messages import Start
from trunkline_service.server.started import Started


class Role(Protocol):
    """The work of one child process. ``start`` and ``stop`` are called in its main thread."""

    def start(self, stopping: Callable[[], bool]) -> Started | None:
        """Begins; the process of the device returns what it serves.

        Args:
            stopping: Asked from time to time; True ends what takes long.

        Raises:
            TrunklineError: It can't; the server does not start, and the user reads the message.
        """

    def trouble(self) -> str | None:
        """Why no answers should be expected of it, if so."""

    def parts(self, troubles: Mapping[str, str]) -> None:
        """Told which other parts are not up, and why."""

    def metrics(self) -> str:
        """Its metrics, in Prometheus' text format."""

    def ending(self) -> None:
        """Told that the server is about to end; its own turn comes later."""

    def stop(self, drain_s: float) -> None:
        """Finishes what was taken within ``drain_s`` seconds, and lets go of all."""


RoleFactory = Callable[[Start], Role]
