"""One link to the device's process, and what is under way on it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from trunkline_service.batching.device import Learn
from trunkline_service.batching.link.arena import Arena
from trunkline_service.batching.link.messages import (
    Answer,
    Ask,
    Cancel,
    Done,
    Failed,
    Found,
    Lead,
    Message,
    Run,
    unpack_error,
)
from trunkline_service.batching.link.wire import Wire
from trunkline_service.batching.request import Slot
from trunkline_service.errors import Unavailable

_log = logging.getLogger(__name__)
# Loading a model takes seconds; whoever answers nothing for so long hangs.
_ASK_S = 120.0


@dataclass
class _Sent:
    """A slot that the device's process has, and where its pixels lie."""

    slot: Slot
    offset: int
    dim: int


@dataclass
class Claims:
    """Who is told how claims end; nobody where there is no cache."""

    answered: Callable[[Found | Lead | Failed], None] = lambda _message: None
    all_failed: Callable[[Connection, str], None] = lambda _connection, _why: None


class Connection:
    """One link, from its beginning to its end; what is under way ends with it.

    Args:
        wire: Connected.
        arena_bytes: Memory for pixels; how many images can be decoded ahead of the device.
        learn: Told how many images a batch had and how many seconds it took.
        claims: Told how claims end.
        ids: Numbers for slots and questions, which no other connection gives.

    Raises:
        OSError: The other end is away, or there is no memory; the wire is closed.
    """

    def __init__(
        self, wire: Wire, arena_bytes: int, learn: Learn, claims: Claims, ids: Iterator[int]
    ) -> None:
        self._wire = wire
        self._learn = learn
        self._claims = claims
        self._guard = threading.Lock()
        self._empty = threading.Condition(self._guard)
        self._ids = ids
        self._sent: dict[int, _Sent] = {}
        self._asked: dict[int, Future[dict[str, Any]]] = {}
        self._ended: str | None = None
        try:
            self.arena = Arena(arena_bytes)
            try:
                wire.hand_over(self.arena.fd, arena_bytes)
            finally:
                self.arena.close_fd()
        except OSError:
            wire.close()
            raise
        self._reading = threading.Thread(target=self._read, name="link", daemon=True)
        self._reading.start()

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._ended is None

    def send(self, message: Message) -> None:
        """Sends a message.

        Raises:
            Unavailable: The connection has ended.
        """
        self._wire.send(message)

    def run(self, message: Run, slot: Slot, dim: int) -> None:
        """Hands a slot over: it is settled when the answer comes, or when the connection ends.

        Raises:
            Unavailable: The connection has ended; the slot is still the caller's.
        """
        with self._guard:
            if self._ended is not None:
                raise Unavailable(self._ended)
            self._sent[message.id] = _Sent(slot, message.offset, dim)
        try:
            self._wire.send(message)
        except Unavailable:
            with self._guard:
                still_ours = self._sent.pop(message.id, None)
            # Else the end of the connection has settled it.
            if still_ours is not None:
                raise

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question.

        Raises:
            TrunklineError: The answer is an error.
            Unavailable: The connection ended, or no answer came.
        """
        future: Future[dict[str, Any]] = Future()
        number = next(self._ids)
        with self._guard:
            if self._ended is not None:
                raise Unavailable(self._ended)
            self._asked[number] = future
        try:
            self._wire.send(Ask(number, question))
            answer = future.result(_ASK_S)
        except TimeoutError:
            raise Unavailable(f"the device's process gave no answer for {_ASK_S:.0f} s") from None
        finally:
            with self._guard:
                self._asked.pop(number, None)
        if "error" in answer:
            raise unpack_error(answer)
        return answer

    def cancel(self, number: int) -> None:
        """Nobody waits for a slot any more; where it was sent, its end comes all the same."""
        with self._guard:
            sent = number in self._sent
        if sent:
            with contextlib.suppress(Unavailable):
                self._wire.send(Cancel(number))

    def wait_empty(self, timeout_s: float) -> int:
        """Blocks until nothing is under way; returns how many slots still are when time runs out."""
        with self._guard:
            self._empty.wait_for(lambda: not self._sent, timeout_s)
            return len(self._sent)

    def end(self) -> None:
        """Ends it; what is under way fails before this returns."""
        self._wire.hang_up()
        self._reading.join()

    def _read(self) -> None:
        try:
            while (message := self._wire.receive()) is not None:
                self._handle(message)
        except Exception:  # noqa: BLE001 - whatever it is, the link ends, and what is under way with it
            _log.exception("the link to the device's process is closed")
        finally:
            self._wire.close()
            self._fail_all()

    def _handle(self, message: Message) -> None:
        match message:
            case Done(id, queue_s, infer_s, batch):
                sent = self._pop(id)
                if sent is None:
                    raise ValueError(f"slot {id} ended, which is not under way")
                slot = sent.slot
                slot.queue_s += queue_s
                slot.infer_s = infer_s
                slot.store(self.arena.view(sent.offset, (sent.dim,), np.float32))
                self._learn(batch, infer_s)
                slot.settle(None)
            case Failed(id, error):
                sent = self._pop(id)
                if sent is None:
                    self._claims.answered(message)
                else:
                    sent.slot.settle(error)
            case Answer(id, answer):
                with self._guard:
                    # Taken out here: an end that comes before its asker wakes must not answer it again.
                    future = self._asked.pop(id, None)
                if future is not None:
                    future.set_result(answer)
            case Found() | Lead():
                self._claims.answered(message)
            case _:
                raise ValueError(f"a device's process never sends {type(message).__name__}")

    def _pop(self, number: int) -> _Sent | None:
        with self._guard:
            sent = self._sent.pop(number, None)
            if not self._sent:
                self._empty.notify_all()
            return sent

    def _fail_all(self) -> None:
        gone = "the device's process ended before it answered; try again"
        self.arena.close(gone)
        with self._guard:
            self._ended = gone
            sent, self._sent = self._sent, {}
            self._empty.notify_all()
            asked, self._asked = self._asked, {}
        for entry in sent.values():
            entry.slot.settle(Unavailable(gone))
        for future in asked.values():
            future.set_exception(Unavailable(gone))
        self._claims.all_failed(self, gone)
