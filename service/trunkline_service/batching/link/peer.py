"""The other end of one link, as the device's process sees it: its slots, and its claims on the cache."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.batcher import Batcher
from trunkline_service.batching.cache import EmbeddingCache
from trunkline_service.batching.link.arena import Mapping
from trunkline_service.batching.link.messages import (
    Answer,
    Ask,
    Cancel,
    Claim,
    Done,
    Failed,
    Found,
    Lead,
    Message,
    Resign,
    Run,
    pack_error,
)
from trunkline_service.batching.link.wire import Wire
from trunkline_service.batching.request import Lane, Slot
from trunkline_service.errors import Cancelled, DeadlineExpired, InternalError, TrunklineError, Unavailable

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What a peer may ask."""

    def answer(self, peer: Peer, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question.

        Raises:
            TrunklineError: It is an error.
        """


class Peer:
    """The other end of one link."""

    def __init__(
        self,
        wire: Wire,
        host: Host,
        answering: ThreadPoolExecutor,
        cache: EmbeddingCache | None,
    ) -> None:
        self.wire = wire
        self._cache = cache
        self._claims: dict[int, ClaimOfPeer] = {}
        self.memory: Mapping
        self._host = host
        self._answering = answering
        self._guard = threading.Lock()
        self._batchers: list[Batcher] = []
        self._under_way: dict[int, Piece] = {}

    def read(self) -> None:
        """Handles messages until the link ends."""
        taken = self.wire.take_over()
        if taken is None:
            return
        fd, size = taken
        try:
            self.memory = Mapping(fd, size)
        finally:
            os.close(fd)
        while (message := self.wire.receive()) is not None:
            self._handle(message)

    def abandon(self) -> None:
        """Nobody waits for anything of this peer any more."""
        with self._guard:
            for piece in self._under_way.values():
                piece.gone = True
            # Those that run resign when they are dropped.
            claims = [claim for number, claim in self._claims.items() if number not in self._under_way]
        for claim in claims:
            self._give_up(claim)

    def number_of(self, batcher: Batcher) -> int:
        """What this peer calls a model."""
        with self._guard:
            if batcher not in self._batchers:
                self._batchers.append(batcher)
            return self._batchers.index(batcher)

    def end(self, number: int, answer: Message) -> None:
        """Tells the peer how a slot ended; a peer that went away is told nothing."""
        with self._guard:
            self._under_way.pop(number, None)
        self.tell(answer)

    def tell(self, message: Message) -> None:
        """Sends a message; a peer that went away is told nothing."""
        with contextlib.suppress(Unavailable):
            self.wire.send(message)

    def claim_ended(self, number: int) -> ClaimOfPeer | None:
        """The claim under a number, which nobody will ask for again."""
        with self._guard:
            return self._claims.pop(number, None)

    def served(self, piece: Piece) -> None:
        """Shows the vector of a slot that leads to those who wait for it."""
        claim = self.claim_ended(piece.number)
        if claim is not None and self._cache is not None:
            self._cache.fill(claim.key, piece.vector)

    def failed(self, piece: Piece, error: TrunklineError) -> None:
        """Lets another lead where a slot that led failed."""
        claim = self.claim_ended(piece.number)
        if claim is not None and self._cache is not None:
            self._cache.resign(claim, error)

    def _handle(self, message: Message) -> None:
        match message:
            case Run():
                self._run(message)
            case Claim():
                self._claim(message)
            case Cancel(id):
                with self._guard:
                    piece = self._under_way.get(id)
                if piece is not None:
                    piece.gone = True
                elif (claim := self.claim_ended(id)) is not None:
                    self._give_up(claim)
            case Resign(id):
                if (claim := self.claim_ended(id)) is not None:
                    self._give_up(claim)
            case Ask():
                self._answering.submit(self._answer, message)
            case _:
                raise ValueError(f"a link never sends {type(message).__name__}")

    def _run(self, run: Run) -> None:
        batcher = self._batchers[run.model]
        height, width = batcher.preprocess.input_size
        pixels = self.memory.view(run.offset, (height, width, 3), np.uint8)
        piece = Piece(
            self,
            run.id,
            run.lane,
            run.deadline,
            self.memory.view(run.offset, (batcher.card.dim,), np.float32),
        )
        with self._guard:
            self._under_way[run.id] = piece
        slot = Slot(piece, 0, None, 0, pixels)
        try:
            # The thread that reads must go on reading.
            batcher.stage.put((slot,))
        except Unavailable as exc:
            slot.settle(exc)

    def _claim(self, message: Claim) -> None:
        if self._cache is None:
            self.tell(Lead(message.id))
            return
        claim = ClaimOfPeer(self, message.id, message.lane, message.key)
        with self._guard:
            self._claims[message.id] = claim
        self._cache.claim(message.key, claim)

    def _give_up(self, claim: ClaimOfPeer) -> None:
        assert self._cache is not None
        claim.gone = True
        if not self._cache.forget(claim):
            self._cache.resign(claim, None)

    def _answer(self, ask: Ask) -> None:
        answer: dict[str, Any]
        try:
            answer = self._host.answer(self, ask.question)
        except TrunklineError as exc:
            answer = pack_error(exc)
        except Exception:  # noqa: BLE001 - a defect of ours: logged here, hidden from the other end
            _log.exception("a question of a link failed")
            answer = pack_error(InternalError())
        self.tell(Answer(ask.id, answer))


@dataclass(eq=False)
class ClaimOfPeer:
    """A slot of another process that wants a vector: a ``Claimant``.

    Attributes:
        peer: Whose it is.
        number: What the peer calls the slot.
        lane: Of its request.
        key: Of the vector.
        gone: Whether the peer does not want it any more.
    """

    peer: Peer
    number: int
    lane: Lane
    key: bytes
    gone: bool = False

    def found(self, vector: NDArray[np.float32]) -> None:
        """See ``Claimant``."""
        self.peer.claim_ended(self.number)
        self.peer.tell(Found(self.number, vector.astype("<f4").tobytes()))

    def lead(self) -> bool:
        """See ``Claimant``."""
        if not self.gone:
            self.peer.tell(Lead(self.number))
        return not self.gone

    def failed(self, error: TrunklineError) -> None:
        """See ``Claimant``."""
        self.peer.claim_ended(self.number)
        self.peer.tell(Failed(self.number, error))


@dataclass(eq=False)
class Piece:
    """One slot of another process: an `Owner`, of itself alone.

    Attributes:
        peer: Whose it is.
        number: What the peer calls it.
        wanted: Its lane.
        deadline: On the machine's clock; None for no limit.
        vector: float32 [dim], in the peer's memory.
        gone: Whether the peer does not want it any more.
    """

    peer: Peer
    number: int
    wanted: Lane
    deadline: float | None
    vector: NDArray[np.float32]
    gone: bool = False

    @property
    def lane(self) -> Lane:
        """See `Owner`."""
        return self.wanted

    def verdict(self, now: float) -> TrunklineError | None:
        """See `Owner`."""
        if self.gone:
            return Cancelled("the caller cancelled the request")
        if self.deadline is not None and now >= self.deadline:
            return DeadlineExpired(
                "the deadline passed before the image was served; "
                "allow more time, send fewer images per call, or slow down"
            )
        return None

    def store(self, index: int, vector: NDArray[np.float32]) -> None:  # noqa: ARG002 - it has one slot
        """See `Owner`."""
        self.vector[:] = vector

    def settled(self, slot: Slot, error: TrunklineError | None) -> None:
        """See `Owner`."""
        if error is None:
            # Before the peer is told, which puts other pixels where the vector lies.
            self.peer.served(self)
            self.peer.end(self.number, Done(self.number, slot.queue_s, slot.infer_s, slot.batch))
        else:
            self.peer.failed(self, error)
            self.peer.end(self.number, Failed(self.number, error))
