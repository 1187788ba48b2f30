"""Calls that are one request, or some requests one after the other; nothing here makes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from trunkline._wire.methods import Method
from trunkline._wire.status import Refusal
from trunkline.values import ServerInfo

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Question(Generic[T]):
    """A call, and how its reply is read.

    Attributes:
        method: The call.
        request: What it sends.
        read: Makes the answer of the reply.
        items: Which items of the input the request carries, for the exception.
    """

    method: Method[Any, Any]
    request: Message
    read: Callable[[Any], T]
    items: range | None = None


class Series(ABC, Generic[A, T]):
    """One call of the caller's that is too large for one request; serves one call."""

    @abstractmethod
    def questions(self, info: ServerInfo) -> Iterator[Question[A]]:
        """At least one question; each is asked when the one before it is answered.

        Args:
            info: The server's limits.
        """

    @abstractmethod
    def merge(self, answers: Sequence[A]) -> T:
        """The answers as one."""


class Stream(ABC, Generic[T]):
    """A call that is answered by a stream of replies; serves one call.

    Attributes:
        method: The call.
        request: What it sends.
    """

    method: Method[Any, Any]
    request: Message

    @property
    @abstractmethod
    def begun(self) -> bool:
        """Whether a reply was read; from then on the call can't be made again unnoticed."""

    @property
    @abstractmethod
    def progress(self) -> str:
        """How far it came and how to go on, for the exception of a stream that broke off."""

    def words(self, refusal: Refusal) -> str:  # noqa: ARG002 - most say it of every refusal
        """What to add to the message of a refusal after the first reply; empty for nothing."""
        return self.progress

    @abstractmethod
    def read(self, reply: Any) -> T:
        """What the caller gets of a reply."""
