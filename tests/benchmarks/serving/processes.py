"""Processes of their own: what they print, how long one waits for it, and their end."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

GRACE_S = 20.0


class Hung(Exception):
    """Nothing came within the time that was given."""


class Ended(Exception):
    """The process ended before it had said what was asked; with the last lines of its log."""


class Lines:
    """A process whose lines are waited for, but never for ever.

    Args:
        command: What to run.
        log: A file for what it prints to its standard error.
        environment: In place of this process's.
        folder: Where it works; this process's, if left out.
    """

    def __init__(
        self,
        command: list[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=None if environment is None else dict(environment),
                cwd=folder,
            )
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # A daemon: a descendant that outlives its parent may keep the pipe open.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def line(self, patience: float) -> str | None:
        """The next line, or None at the end.

        Raises:
            Hung: None came within so many seconds.
        """
        try:
            return self._queue.get(timeout=patience)
        except queue.Empty:
            raise Hung(f"nothing for {patience:.0f} s") from None

    def status(self) -> int:
        """Its exit status, once its output has ended."""
        return self._process.wait(timeout=GRACE_S)

    def complain(self) -> Ended:
        """What a process that ended too early left in its log."""
        status = self.status()
        tail = self._log.read_text(errors="replace").strip().splitlines()[-3:]
        return Ended(f"ended with {status}: {' / '.join(tail)}"[:600])

    def end(self) -> None:
        """Asks it to stop, and stops it and all that it started."""
        started = descendants(self._process.pid)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        for process in started:
            # psutil looks at the time of its start too: a number given anew is another process.
            if process.is_running():
                process.kill()
        psutil.wait_procs(started, timeout=GRACE_S)
        self._process.wait(timeout=GRACE_S)
        self._reader.join(timeout=GRACE_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for text in output:
                self._queue.put(text)
        self._queue.put(None)


def said(
    command: list[str], log: Path, patience: float, environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """The JSON lines of a process, as they come; it is over when they are.

    Raises:
        Hung: Nothing came for so many seconds.
        Ended: It failed.
    """
    lines = Lines(command, log, environment)
    try:
        while (text := lines.line(patience)) is not None:
            if text.startswith("{"):
                yield json.loads(text)
        if lines.status():
            raise lines.complain()
    finally:
        lines.end()


def descendants(pid: int) -> list[psutil.Process]:
    """Of a process, as far as they still run."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def memory_mb(pid: int) -> tuple[float, float]:
    """(RSS, PSS) of a process and its descendants; shared pages count once in PSS only."""
    rss = pss = 0.0
    for process in (psutil.Process(pid), *descendants(pid)):
        try:
            found = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        rss, pss = rss + found.rss / 2**20, pss + found.pss / 2**20
    return rss, pss


def plain_environment(**more: str) -> dict[str, str]:
    """This process's environment without what would send loopback through a proxy."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return {**kept, "NO_PROXY": "127.0.0.1,localhost", **more}
