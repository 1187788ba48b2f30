"""What is said over a link: one message a packet, little-endian; pure."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

from trunkline_service import errors
from trunkline_service.batching.request import Lane
from trunkline_service.errors import InternalError, Overloaded, TrunklineError

# One packet of a Unix socket; far above a card, the largest thing that is sent as JSON.
LARGEST = 128 * 1024

_HELLO = struct.Struct("<BQ")
_RUN = struct.Struct("<BQIQdB")
_DONE = struct.Struct("<BQffI")
_CLAIM = struct.Struct("<BQdB32s")
_ID = struct.Struct("<BQ")


@dataclass(frozen=True)
class Hello:
    """The first packet; it brings the memfd.

    Attributes:
        size: Bytes of the memfd.
    """

    size: int
    KIND: ClassVar[int] = 1

    def pack(self) -> bytes:
        """Its packet."""
        return _HELLO.pack(self.KIND, self.size)

    @classmethod
    def unpack(cls, packet: bytes) -> Self:
        """What `pack` made."""
        return cls(_HELLO.unpack(packet)[1])


@dataclass(frozen=True)
class Run:
    """Run a model on the pixels of a slot, and put the vector where they lie.

    Attributes:
        id: Of the slot, as its process counts.
        model: The number that an answer to ``open`` gave.
        offset: Where the pixels lie.
        deadline: On the clock of this machine; None for no limit.
        lane: Of its request.
    """

    id: int
    model: int
    offset: int
    deadline: float | None
    lane: Lane
    KIND: ClassVar[int] = 2

    def pack(self) -> bytes:
        """Its packet."""
        bulk = self.lane == "bulk"
        return _RUN.pack(self.KIND, self.id, self.model, self.offset, _or_nan(self.deadline), bulk)

    @classmethod
    def unpack(cls, packet: bytes) -> Self:
        """What `pack` made."""
        _, number, model, offset, deadline, bulk = _RUN.unpack(packet)
        return cls(number, model, offset, _or_none(deadline), "bulk" if bulk else "interactive")


@dataclass(frozen=True)
class Done:
    """The vector lies where the pixels were.

    Attributes:
        id: Of the slot.
        queue_s: Seconds it waited for the device.
        infer_s: Seconds its batch ran.
        batch: Images in the batch.
    """

    id: int
    queue_s: float
    infer_s: float
    batch: int
    KIND: ClassVar[int] = 3

    def pack(self) -> bytes:
        """Its packet."""
        return _DONE.pack(self.KIND, self.id, self.queue_s, self.infer_s, self.batch)

    @classmethod
    def unpack(cls, packet: bytes) -> Self:
        """What `pack` made."""
        return cls(*_DONE.unpack(packet)[1:])


@dataclass(frozen=True)
class Failed:
    """A slot ended with an error; nothing reads or writes its pixels any more."""

    id: int
    error: TrunklineError
    KIND: ClassVar[int] = 4

    def pack(self) -> bytes:
        """Its packet."""
        return _ID.pack(self.KIND, self.id) + _json(pack_error(self.error))

    @classmethod
    def unpack(cls, packet: bytes) -> Self:
        """What `pack` made."""
        return cls(_number(packet), unpack_error(json.loads(packet[_ID.size :])))


@dataclass(frozen=True)
class _Bare:
    """A message of which there is only whom it concerns."""

    id: int
    KIND: ClassVar[int] = 0

    def pack(self) -> bytes:
        """Its packet."""
        return _ID.pack(self.KIND, self.id)

    @classmethod
    def unpack(cls, packet: bytes) -> Self:
        """What `pack` made."""
        return cls(_number(packet))


@dataclass(frozen=True)
class Cancel(_Bare):
    """Nobody waits for a slot any more; it ends all the same, with `Failed` or `Done`."""

    KIND: ClassVar[int] = 5


@dataclass(frozen=True)
class Lead(_Bare):
    """Nobody knows the vector that was claimed: decode and run the slot; others may wait for what comes out."""

    KIND: ClassVar[int] = 6


@dataclass(frozen=True)
class Resign(_Bare):
    """A slot that leads ended before it was run."""

    KIND: ClassVar[int] = 7


@dataclass(frozen=True)
class Claim:
    """Is the vector of this key known, or on its way?

    Attributes:
        id: Of the slot.
        deadline: As of `Run`.
        lane: Of its request.
        key: 32 bytes; see ``caching.key_of``.
    """

    id: int
    deadline: float | None
    lane: Lane
    key: bytes
    KIND: ClassVar[int] = 8

    def pack(self) -> bytes:
        """Its packet."""
        return _CLAIM.pack(self.KIND, self.id, _or_nan(self.deadline), self.lane == "bulk", self.key)

    @classmethod
    def unpack(cls, packet: bytes) -> Self:
        """What `pack` made."""
        _, number, deadline, bulk, key = _CLAIM.unpack(packet)
        return cls(number, _or_none(deadline), "bulk" if bulk else "interactive", key)


@dataclass(frozen=True)
class Found:
    """It is.

    Attributes:
        id: Of the slot.
        vector: float32, little-endian.
    """

    id: int
    vector: bytes
    KIND: ClassVar[int] = 9

    def pack(self) -> bytes:
        """Its packet."""
        return _ID.pack(self.KIND, self.id) + self.vector

    @classmethod
    def unpack(cls, packet: bytes) -> Self:
        """What `pack` made."""
        return cls(_number(packet), packet[_ID.size :])


@dataclass(frozen=True)
class Ask:
    """A question whose answer takes what it takes."""

    id: int
    question: dict[str, Any]
    KIND: ClassVar[int] = 10

    def pack(self) -> bytes:
        """Its packet."""
        return _ID.pack(self.KIND, self.id) + _json(self.question)

    @classmethod
    def unpack(cls, packet: bytes) -> Self:
        """What `pack` made."""
        return cls(_number(packet), json.loads(packet[_ID.size :]))


@dataclass(frozen=True)
class Answer:
    """The answer to a question; an error as `pack_error` writes it."""

    id: int
    answer: dict[str, Any]
    KIND: ClassVar[int] = 11

    def pack(self) -> bytes:
        """Its packet."""
        return _ID.pack(self.KIND, self.id) + _json(self.answer)

    @classmethod
    def unpack(cls, packet: bytes) -> Self:
        """What `pack` made."""
        return cls(_number(packet), json.loads(packet[_ID.size :]))


Message: TypeAlias = Hello | Run | Done | Failed | Cancel | Lead | Resign | Claim | Found | Ask | Answer
_BY_KIND: dict[int, type[Message]] = {
    kind.KIND: kind for kind in (Hello, Run, Done, Failed, Cancel, Lead, Resign, Claim, Found, Ask, Answer)
}


def unpack(packet: bytes) -> Message:
    """The message of a packet.

    Raises:
        ValueError: It is none.
    """
    try:
        return _BY_KIND[packet[0]].unpack(packet)
    except (struct.error, IndexError, KeyError, TypeError, RecursionError) as exc:
        raise ValueError(f"a packet of {len(packet)} bytes that is no message of a link") from exc


def pack_error(error: TrunklineError) -> dict[str, Any]:
    """An error as plain values."""
    plain: dict[str, Any] = {"error": type(error).__name__, "message": error.message}
    if isinstance(error, Overloaded):
        plain["retry_after_s"] = error.retry_after_s
    return plain


def unpack_error(plain: dict[str, Any]) -> TrunklineError:
    """The error that `pack_error` wrote down; an InternalError where it is of no class that is known here."""
    kind = getattr(errors, str(plain["error"]), None)
    if not isinstance(kind, type) or not issubclass(kind, TrunklineError) or kind is InternalError:
        return InternalError()
    if issubclass(kind, Overloaded):
        return kind(plain["message"], float(plain["retry_after_s"]))
    return kind(plain["message"])


def _number(packet: bytes) -> int:
    number: int = _ID.unpack_from(packet)[1]
    return number


def _json(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode()


def _or_nan(deadline: float | None) -> float:
    return math.nan if deadline is None else deadline


def _or_none(deadline: float) -> float | None:
    return None if math.isnan(deadline) else deadline
