"""A child process: its channel to the supervisor, its signals, its end. What it does is its role's.

Run as ``python -m trunkline_service.server.processes.child PART N`` with the number of the channel's descriptor.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Mapping

from trunkline_service.errors import InternalError, TrunklineError
from trunkline_service.server.allocator import bound_arenas
from trunkline_service.server.collector import settle_collector
from trunkline_service.server.processes.control import Control
from trunkline_service.server.processes.messages import (
    AskMetrics,
    Ending,
    Failed,
    Health,
    Message,
    MetricsText,
    Parts,
    Ready,
    Start,
    Stop,
)
from trunkline_service.server.processes.role import Role, RoleFactory
from trunkline_service.server.signals import heed

_log = logging.getLogger(__name__)
_HEALTH_EVERY_S = 1.0
# What a killed process had counted since it was last asked is lost, so it says so from time to time.
_METRICS_EVERY = 5
# Who is told to end by somebody else waits so long for the supervisor: often all were told at once.
_ORDER_S = 1.0
_ORPHANED = 70


class Child:
    """Runs a role until it is told to stop.

    Args:
        control: To the supervisor.
        start: What it was told to be.
        make: Makes the role.
    """

    def __init__(self, control: Control, start: Start, make: RoleFactory) -> None:
        self._control = control
        self._start = start
        self._make = make
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._told_to_stop = threading.Event()
        self._drain_s = start.settings.drain_s
        self._talks = False
        self._heard: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._saying = threading.Lock()

    def run(self) -> int:
        """Returns the exit status."""
        bound_arenas(self._start.settings.worker_threads)
        # Ctrl-C reaches every process of the terminal; what it means is the supervisor's to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        heed((signal.SIGTERM,), self._wake.set)
        threading.Thread(target=self._listen, name="control", daemon=True).start()
        try:
            role = self._make(self._start)
            threading.Thread(target=self._heed, args=(role,), name="heed", daemon=True).start()
            serves = role.start(self._wake.is_set)
        except TrunklineError as exc:
            return self._fail(exc)
        except Exception:  # noqa: BLE001  whatever it is, it is ours: logged here, and said without its details
            _log.exception("%s can't start", self._start.part)
            return self._fail(InternalError())
        settle_collector()
        self._control.send(Ready(serves))
        self._watch(role)
        threading.Thread(target=self._say_that_it_ends, name="ends", daemon=True).start()
        self._wait_for_its_turn()
        role.stop(self._drain_s)
        self._control.send(MetricsText(role.metrics()))
        return 0

    def _fail(self, error: TrunklineError) -> int:
        self._control.send(Failed(error.reason, error.message))
        return 1

    def _watch(self, role: Role) -> None:
        """Says how the role is, again and again: one who falls silent hangs."""
        # Before it has said that it is ready, it does not say how it is.
        self._talks = True
        rounds = 0
        while not self._wake.is_set():
            self._say(role)
            if self._start.settings.metrics_listen and rounds % _METRICS_EVERY == 0:
                self._control.send(MetricsText(role.metrics()))
            rounds += 1
            self._wake.wait(_HEALTH_EVERY_S)

    def _say(self, role: Role) -> None:
        # One after the other, so that the last word is the true one.
        with self._saying:
            self._control.send(Health(role.trouble()))

    def _say_that_it_ends(self) -> None:
        """A supervisor that has not asked for it would take one who drains in silence for one that hangs."""
        while not self._told_to_stop.wait(_HEALTH_EVERY_S):
            self._control.send(Health("it is ending"))

    def _wait_for_its_turn(self) -> None:
        """Where a signal reached the whole group, the fronts must have ended before what they need."""
        if not self._told_to_stop.is_set() and self._ending.wait(_ORDER_S):
            self._told_to_stop.wait()

    def _listen(self) -> None:
        """Reads, and nothing else: whatever the role is at, the end of the supervisor is noticed."""
        while (message := self._control.receive()) is not None:
            if isinstance(message, Ending | Stop):
                self._ending.set()
            if isinstance(message, Stop):
                self._drain_s = message.drain_s
                self._told_to_stop.set()
                self._wake.set()
            else:
                self._heard.put(message)
        # The supervisor has died without a word: nobody would look after this process, nor end it.
        shutil.rmtree(self._start.folder, ignore_errors=True)
        os._exit(_ORPHANED)

    def _heed(self, role: Role) -> None:
        while True:
            message = self._heard.get()
            if isinstance(message, Parts):
                role.parts(message.troubles)
                if self._talks:
                    self._say(role)
            elif isinstance(message, AskMetrics):
                self._control.send(MetricsText(role.metrics()))
            elif isinstance(message, Ending):
                role.ending()


def main(arguments: list[str], roles: Mapping[str, RoleFactory]) -> int:
    """Runs the child that was started with these arguments; returns its exit status."""
    control = Control(socket.socket(fileno=int(arguments[-1])))
    start = control.receive()
    if not isinstance(start, Start):
        # The supervisor died in the meantime.
        return _ORPHANED
    logging.basicConfig(
        level=start.log_level, format=f"%(levelname)s {start.part} %(name)s: %(message)s", stream=sys.stderr
    )
    # As in a server of one process, see `cli.serve`.
    logging.getLogger("trunkline_service.index").setLevel(min(logging.INFO, start.log_level))
    return Child(control, start, roles[start.role]).run()


if __name__ == "__main__":
    from trunkline_service.server.processes.roles import ROLES

    sys.exit(main(sys.argv[1:], ROLES))
