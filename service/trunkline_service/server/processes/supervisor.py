"""Starts the processes of a server, watches over them, tells them of each other, and ends them in order."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, start_http_server

from trunkline_service import errors
from trunkline_service.batching.link.quota import QuotaTable
from trunkline_service.errors import SettingsError, TrunklineError, Unavailable
from trunkline_service.server.listening import Address, Security, check_exposure, parse_address
from trunkline_service.server.metrics import MetricsPage
from trunkline_service.server.metrics_page import open_page
from trunkline_service.server.processes.board import Board
from trunkline_service.server.processes.child_process import ChildProcess
from trunkline_service.server.processes.folder import PrivateFolder
from trunkline_service.server.processes.keeper import Keeper, Part
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
)
from trunkline_service.server.processes.metering import Metering
from trunkline_service.server.processes.port import reserve
from trunkline_service.server.started import Started
from trunkline_service.settings import Settings

_log = logging.getLogger(__name__)
CHILD = (sys.executable, "-P", "-m", "trunkline_service.server.processes.child")
# Above what a process was given to drain: refusing those who still come, the last bytes of replies, closing files.
_MARGIN_S = 5.0
_WATCH_EVERY_S = 1.0
# Those that others need end after them.
_ORDER = ("front", "data", "device")


class Supervisor:
    """The process that the user started; it does no work itself.

    Args:
        settings: Of the server; ``frontends`` is the number of fronts.
        security: How the port is protected.
        command: Runs a child process; see `ChildProcess`.

    Attributes:
        address: Where the server listens.

    Raises:
        SettingsError: The address is wrong, taken, or reachable from outside without TLS.
    """

    def __init__(
        self,
        settings: Settings,
        security: Security | None = None,
        command: Sequence[str] = CHILD,
    ) -> None:
        self._security = security or Security()
        wanted = parse_address(settings.listen)
        check_exposure(wanted, self._security.tls, self._security.insecure)
        if self._security.tls is not None:
            # A pair that does not fit is said before anything is started.
            self._security.tls.read()
        self.settings = settings
        self._command = command
        self._stopping = threading.Event()
        self._telling = threading.Lock()
        self._stopped = False
        self._page: MetricsPage | None = None
        # Each process that admits work has a row of the quota.
        admitting = [Part("data"), *(Part("front", n) for n in range(settings.frontends))]
        self._rows = {part: row for row, part in enumerate(admitting)}
        parts = [Part("device"), *admitting]
        self._board = Board(parts)
        self._keepers = {part: Keeper(part, self._spawn, self, self._stopping) for part in parts}
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._metering = Metering(self._board, self._ask, parts)
        self._folder = PrivateFolder()
        try:
            self._port = reserve(wanted)
        except BaseException:
            self._folder.remove()
            raise
        self._quota = QuotaTable.create(len(admitting))
        self.address = self._port.address

    def start(self) -> Started:
        """Starts all processes at once; returns when the whole server is ready, or `interrupt` was called.

        Raises:
            TrunklineError: A process can't start: its own error.
            SettingsError: The metrics' address is taken.
        """
        self._open_metrics_page()
        for keeper in self._keepers.values():
            keeper.start()
        self._watcher.start()
        failure = self._board.wait()
        if failure is not None:
            raise failure
        return self._board.started()

    def interrupt(self) -> None:
        """Ends `start`; for any thread, not for a signal handler. `stop` does the rest."""
        self._stopping.set()
        self._board.give_up()

    def stop(self) -> None:
        """Lets the processes end, fronts first; kills those that don't; leaves nothing behind."""
        if self._stopped:
            return
        self._stopped = True
        self.interrupt()
        for keeper in self._keepers.values():
            keeper.send(Ending())
        began = time.monotonic()
        for role in _ORDER:
            keepers = [keeper for part, keeper in self._keepers.items() if part.role == role]
            left = max(0.0, self.settings.drain_s - (time.monotonic() - began))
            for keeper in keepers:
                keeper.let_end(left)
            until = time.monotonic() + left + _MARGIN_S
            for keeper in keepers:
                keeper.join(max(0.0, until - time.monotonic()))
        if self._watcher.ident is not None:
            self._watcher.join()
        if self._page is not None:
            self._page.close()
        self._port.close()
        os.close(self._quota.fd)
        self._folder.remove()

    def pids(self) -> dict[str, int]:
        """The processes, by the names of their parts: ``device``, ``data``, ``front-0``."""
        return self._board.pids()

    @property
    def metrics_address(self) -> Address | None:
        """Where the metrics are, if anywhere."""
        if self._page is None:
            return None
        return Address(parse_address(self.settings.metrics_listen).host, self._page.port)

    # What becomes of the parts: `Listener` ------------------------------------------------------------

    def born(self, part: Part, pid: int) -> None:
        """See `Listener`."""
        self._board.born(part, pid)

    def told(self, part: Part, message: Message) -> None:
        """See `Listener`."""
        if isinstance(message, Ready):
            self._board.ready(part, message.serves)
            if part.role == "front":
                self._tell_fronts()
        elif isinstance(message, Health):
            self._changed(part, message.trouble)
        elif isinstance(message, MetricsText):
            self._metering.told(part, message.text)
        elif isinstance(message, Failed):
            self._failed(part, message)

    def ended(self, part: Part, how: str) -> None:
        """See `Listener`."""
        self._metering.ended(part)
        if part in self._rows:
            # What it had admitted went with it.
            self._quota.clear(self._rows[part])
        stopping = self._stopping.is_set()
        if self._board.ended(part, how, expected=stopping):
            self._start_no_more()
        elif not stopping:
            self._tell_fronts()

    def _start_no_more(self) -> None:
        """`start` raises why."""
        self._stopping.set()

    def _failed(self, part: Part, failed: Failed) -> None:
        if self._board.fail(_error_of(failed)):
            self._start_no_more()
        else:
            _log.error("%s can't start: %s", part.name, failed.message)

    def _changed(self, part: Part, trouble: str | None) -> None:
        if self._board.health(part, trouble):
            # Fronts repeat what they were told of the others.
            if part.role != "front":
                _log.log(logging.ERROR if trouble else logging.INFO, "%s: %s", part.name, trouble or "well")
            self._tell_fronts()

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_EVERY_S):
            self._board.look()
            for part in self._board.silent():
                _log.error("%s says nothing; it may hang", part.name)
                self._tell_fronts()
            for part, pid in self._board.hung().items():
                _log.error("%s goes on to say nothing: it hangs, and is killed", part.name)
                self._keepers[part].kill(pid)

    def _tell_fronts(self) -> None:
        # One after the other, so that the last one that they hear is the last one that is true.
        with self._telling:
            message = Parts(self._board.troubles())
            for part, keeper in self._keepers.items():
                if part.role == "front":
                    keeper.send(message)

    # -------------------------------------------------------------------------------------------------

    def _spawn(self, part: Part) -> ChildProcess:
        start = Start(
            part=part.name,
            role=part.role,
            number=part.number,
            settings=self.settings,
            address=self.address,
            security=self._security,
            folder=self._folder.path,
            quota_fd=self._quota.fd,
            quota_row=self._rows.get(part),
            log_level=logging.getLogger().getEffectiveLevel(),
        )
        return ChildProcess(self._command, start)

    def _ask(self, part: Part) -> bool:
        return self._keepers[part].send(AskMetrics())

    def _open_metrics_page(self) -> None:
        registry = CollectorRegistry()
        registry.register(self._metering)
        self._page = open_page(
            self.settings.metrics_listen,
            self._security,
            lambda host, port: MetricsPage(*start_http_server(port, host, registry=registry)),
        )


def _error_of(failed: Failed) -> TrunklineError:
    """The error that a child met, as one of this process."""
    known: dict[str, Callable[[str], TrunklineError]] = {
        kind.reason: kind
        for kind in (SettingsError, errors.ModelFileError, errors.ModelNotFound, errors.StorageError)
    }
    return known.get(failed.reason, Unavailable)(failed.message)
