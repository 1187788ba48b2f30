"""Work that takes long, as a stream of how far it is; it ends with the call that asked for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc

from trunkline_service.errors import Cancelled

T = TypeVar("T")
# Of a stage: finer steps are not told.
_STEP = 0.005


@dataclass(frozen=True)
class Step:
    """How far the work is.

    Attributes:
        stage: What is being done.
        share: Of it, 0 to 1.
    """

    stage: str
    share: float


@dataclass(frozen=True)
class Done(Generic[T]):
    """What the work gave."""

    result: T


@dataclass(frozen=True)
class _Failed:
    error: BaseException


def stream(
    work: Callable[[Callable[[str, float], None]], T], context: grpc.ServicerContext
) -> Iterator[Step | Done[T]]:
    """Does the work in a thread of its own, and tells how far it is; at last what it gave.

    Args:
        work: Calls what it is given from time to time; when the caller has gone away, that raises.
        context: Of the call.

    Raises:
        Cancelled: The caller went away.
        TrunklineError: What the work raises.
    """
    told: queue.SimpleQueue[Step | Done[T] | _Failed] = queue.SimpleQueue()
    gone = threading.Event()
    last = Step("", 0.0)

    def report(stage: str, share: float) -> None:
        nonlocal last
        if gone.is_set():
            raise Cancelled("the caller went away; nothing was saved")
        if stage != last.stage or share >= min(1.0, last.share + _STEP):
            last = Step(stage, share)
            told.put(last)

    def run() -> None:
        try:
            told.put(Done(work(report)))
        except BaseException as exc:  # noqa: BLE001 - raised again by the thread that answers the call
            told.put(_Failed(exc))

    # False: the call has ended already, and the function will not be called.
    if not context.add_callback(gone.set):
        gone.set()
    worker = threading.Thread(target=run, name="work", daemon=True)
    worker.start()
    try:
        while True:
            found = told.get()
            if isinstance(found, _Failed):
                raise found.error
            yield found
            if isinstance(found, Done):
                return
    finally:
        gone.set()
        # The collector ends a stream that nobody holds any more in whatever thread it runs: in the worker, too.
        if worker is not threading.current_thread():
            worker.join()
