"""Lance's index of vectors, made in a process of its own, which can be ended.

`create_index` of Lance can wait for ever for its own threads, and a thread that is in it can't be called off: the
upkeep of all indexes would stand still with it. A process can be ended whatever it does: what it wrote by then is no
part of the collection, whose new version appears at once or not at all.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from trunkline_service.errors import StorageError

COMMAND = (sys.executable, "-P", "-m", "trunkline_service.collections.index_child")
_log = logging.getLogger(__name__)
QUIET_S = 180.0
"""So long nothing may happen in it. A sound build that waits for a slow store still computes now and then."""
_LEAST_CPU_S = 1.0
# Whether it stands still is a matter of chance: most builds of the same rows go through.
_TIMES = 2
_POLL_S = 0.2
_LAST_S = 10.0
# Lance's pool has two threads fewer than there are processors, and at least one. What waits in it for another thread
# of it waits for ever where there is none (lance-format/lance, issues 7423, 7439, pull request 7643).
_POOL, _FEWEST, _RESERVED = "LANCE_CPU_THREADS", 4, 2
_KINDS: Mapping[str, type[Exception]] = {kind.__name__: kind for kind in (OSError, ValueError, RuntimeError)}


@dataclass(frozen=True)
class IndexTask:
    """What is to be made.

    Attributes:
        collection: Its name, for messages.
        uri: Of the dataset; credentials of an object store come from the environment.
        version: Of the dataset.
        arguments: Of Lance's `create_index`, but for the column.
    """

    collection: str
    uri: str
    version: int
    arguments: Mapping[str, Any]


class Talking(Protocol):
    """A process that makes an index, as `make_index` sees it."""

    def said(self, wait_s: float) -> Mapping[str, Any] | None:
        """What it said next; None where it says nothing for so long. Last is ``{"ended": status}``."""
        ...


def make_index(
    task: IndexTask,
    heard: Callable[[str, int, int], None],
    check: Callable[[], None],
    *,
    start: Callable[[IndexTask], AbstractContextManager[Talking]] | None = None,
    clock: Callable[[], float] = time.monotonic,
    quiet_s: float = QUIET_S,
) -> None:
    """Makes an index; whatever happens, no process is left.

    Args:
        task: What to make.
        heard: Told Lance's stage, how much of it is done, and of how much.
        check: Called several times a second; what it raises ends the process.
        start: Starts the process; None for a real one.
        clock: Monotonic seconds.
        quiet_s: So long it may neither say anything nor compute.

    Raises:
        OSError, ValueError, RuntimeError: What Lance raised, with its text.
        StorageError: It stood still several times and was ended, or it ended by itself, as where memory runs out.
    """
    for left in reversed(range(_TIMES)):
        try:
            _make_once(task, heard, check, start or IndexProcess, clock, quiet_s)
            return
        except _StoodStillError as exc:
            if not left:
                raise
            _log.warning("%s; it is made once more", exc.message)


class _StoodStillError(StorageError):
    """Lance waits for itself."""


def _make_once(
    task: IndexTask,
    heard: Callable[[str, int, int], None],
    check: Callable[[], None],
    start: Callable[[IndexTask], AbstractContextManager[Talking]],
    clock: Callable[[], float],
    quiet_s: float,
) -> None:
    """See `make_index`."""
    with start(task) as process:
        alive_at, computed = clock(), 0.0
        while True:
            check()
            said = process.said(_POLL_S) or {}
            if "made" in said:
                return
            if "failed" in said:
                raise _failure(*said["failed"])
            if "ended" in said:
                raise StorageError(
                    f"collection {task.collection!r} can't be indexed: the process that makes its index "
                    f"{_described(said['ended'])}; build the index again"
                )
            if "progress" in said:
                heard(*said["progress"])
            if "progress" in said or said.get("cpu", 0.0) - computed >= _LEAST_CPU_S:
                alive_at, computed = clock(), said.get("cpu", computed)
            if clock() - alive_at > quiet_s:
                raise _StoodStillError(
                    f"collection {task.collection!r} can't be indexed: Lance stood still for {quiet_s:.0f} s while it "
                    "made the index, and was ended; build the index again"
                )


class IndexProcess:
    """One run of `index_child`; the ``with`` statement ends it.

    It is a program of its own, not a copy of this process: copies of a process with threads hang.

    Args:
        task: What it makes.
        command: Runs it.

    Raises:
        OSError: It can't be started.
    """

    def __init__(self, task: IndexTask, command: Sequence[str] = COMMAND) -> None:
        self._lines: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        # What is being sorted lies there, and a process that is ended leaves it.
        self._scratch = tempfile.mkdtemp(prefix="trunkline-index-")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a program of ours
                [*command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **pool_threads(os.environ), "TMPDIR": self._scratch},
                # The terminal's Ctrl-C is for this process, which ends that one.
                start_new_session=True,
            )
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        self._ears = threading.Thread(target=self._hear, name="index-process", daemon=True)
        self._ears.start()
        document = {"scratch": self._scratch, **asdict(task)}
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            # One that is gone already is heard to have ended. The pipe stays open: its end says that we are gone.
            self._process.stdin.write(json.dumps(document).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def __enter__(self) -> IndexProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_S)
        self._ears.join(_LAST_S)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def said(self, wait_s: float) -> Mapping[str, Any] | None:
        """See `Talking`."""
        try:
            return self._lines.get(timeout=wait_s)
        except queue.Empty:
            return None

    def _hear(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                # One that is killed may leave half a line.
                with contextlib.suppress(ValueError):
                    self._lines.put(json.loads(line))
        self._lines.put({"ended": self._process.wait()})


def pool_threads(environ: Mapping[str, str], processors: int | None = None) -> dict[str, str]:
    """What is to be added to an environment so that Lance's pool has threads enough; nothing where it says how many.

    Args:
        environ: The environment.
        processors: Of the machine; None for those that this process may use.
    """
    if _POOL in environ:
        return {}
    known = hasattr(os, "sched_getaffinity")
    count = processors or (len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1)
    return {_POOL: str(max(_FEWEST, count - _RESERVED))}


def _failure(kind: str, text: str) -> Exception:
    known = _KINDS.get(kind)
    return RuntimeError(f"{kind}: {text}") if known is None else known(text)


def _described(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by signal {-status}" + (" (SIGKILL: is there memory enough?)" if status == -9 else "")
