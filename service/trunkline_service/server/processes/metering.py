"""The metrics of the whole server, gathered whenever they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from trunkline_service.server.processes.board import Board
from trunkline_service.server.processes.exposition import lasting, merged, parsed
from trunkline_service.server.processes.keeper import Part

_PATIENCE_S = 2.0


class Metering(Collector):
    """Asks the processes, waits for their answers a moment, and adds them up.

    Args:
        board: What is up.
        ask: Asks a part for its metrics; False where there is nobody to ask.
        parts: All of them.
    """

    def __init__(self, board: Board, ask: Callable[[Part], bool], parts: Sequence[Part]) -> None:
        self._board = board
        self._ask = ask
        self._parts = tuple(parts)
        self._changed = threading.Condition()
        self._one_at_a_time = threading.Lock()
        self._awaited: set[Part] = set()
        self._pages: dict[Part, list[Metric]] = {}
        self._kept: list[Metric] = []

    def told(self, part: Part, text: str) -> None:
        """The answer of a part, or what it said without being asked."""
        page = parsed(text)
        with self._changed:
            self._pages[part] = page
            self._awaited.discard(part)
            self._changed.notify_all()

    def ended(self, part: Part) -> None:
        """Its process is gone; what it had counted stays."""
        with self._changed:
            self._kept = merged([self._kept, lasting(self._pages.pop(part, []))])
            self._awaited.discard(part)
            self._changed.notify_all()

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client: the page of the whole server."""
        with self._one_at_a_time:
            with self._changed:
                self._awaited = set(self._parts)
            for part in self._parts:
                if not self._ask(part):
                    with self._changed:
                        self._awaited.discard(part)
            with self._changed:
                # One that does not answer is there with what it said last.
                self._changed.wait_for(lambda: not self._awaited, _PATIENCE_S)
                pages = [self._kept, *self._pages.values()]
        return merged([*pages, self._own()])

    def _own(self) -> list[Metric]:
        processes = GaugeMetricFamily(
            "trunkline_processes", "Processes of the server that are well", labels=["role"]
        )
        up = self._board.up()
        for role, count in up.items():
            processes.add_metric([role], count)
        restarts = CounterMetricFamily(
            "trunkline_restarts", "Processes that died and were started anew", labels=["role"]
        )
        for role, count in self._board.restarts().items():
            restarts.add_metric([role], count)
        whole = bool(up.get("front")) and not self._board.troubles()
        ready = GaugeMetricFamily(
            "trunkline_ready", "1 when every bucket is warm and every stage lives", value=float(whole)
        )
        return [ready, processes, restarts]
