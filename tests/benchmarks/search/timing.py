"""Clocks, memory, and processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULE = "tests.benchmarks.search"


def best(call: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest round: what the machine can do when nobody else uses it."""
    return min(timed(call) for _ in range(rounds))


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest round of each, taken in turns, so that all meet the same machine."""
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            found[name] = min(found[name], timed(call))
    return found


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def percentile(values: list[float], share: float) -> float:
    """Of unsorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def memory_mib(which: str = "VmRSS") -> float:
    """Of this process: ``VmRSS`` now, ``RssAnon`` without files that are mapped, ``VmHWM`` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def child(kind: str, **given: Any) -> dict[str, Any]:
    """What a part of this benchmark prints last, run in a process of its own."""
    command = [sys.executable, "-m", MODULE, "--child", kind, json.dumps(given)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


class Running:
    """A part of this benchmark that is talked to: a line in, a line out; it ends when its input does."""

    def __init__(self, kind: str, **given: Any) -> None:
        command = [sys.executable, "-m", MODULE, "--child", kind, json.dumps(given)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> Any:
        """The next line that it prints, as JSON."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        assert text, "a part of the benchmark ended before its time; see its message above"
        return json.loads(text)

    def ask(self, **given: Any) -> Any:
        """A line to it, and the one that it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        return self.line()

    def end(self) -> None:
        """Lets it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
