"""Calls that look at a whole collection: how far they are, and their result in pieces."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from trunkline._wire.methods import Method
from trunkline._wire.question import Stream
from trunkline._wire.rows import label_of
from trunkline._wire.status import Refusal
from trunkline.exceptions import Internal, InvalidRequest
from trunkline.explore import ExploredRow
from trunkline_protos.v1 import explore_pb2

R = TypeVar("R")

_MOST = 2**32


class Step(NamedTuple):
    """How far the work is.

    Attributes:
        stage: What is being done.
        share: Of it, 0 to 1.
    """

    stage: str
    share: float


class Look(Stream["Step | None"], Generic[R]):
    """A call that tells how far it is, and then gives its result in pieces; serves one call.

    Args:
        method: The call.
        request: What it sends.
    """

    def __init__(self, method: Method[Any, Any], request: Message) -> None:
        self.method = method
        self.request = request
        self._begun = False
        self._summary: Any = None

    @property
    def begun(self) -> bool:
        """Whether a reply was read."""
        return self._begun

    @property
    def progress(self) -> str:
        """How it can go on."""
        return "nothing was changed; ask again"

    def words(self, refusal: Refusal) -> str:
        """Nothing where the server itself said why."""
        return "" if refusal.reason else self.progress

    def read(self, reply: Any) -> Step | None:
        """How far it is; None for a piece of the result, which is kept."""
        self._begun = True
        part = reply.WhichOneof("part")
        if part == "progress":
            return Step(reply.progress.stage, reply.progress.share)
        if part == "summary":
            self._summary = reply.summary
        elif part is not None:
            self.take(getattr(reply, part))
        return None

    def result(self) -> R:
        """What the pieces give.

        Raises:
            Internal: Some are missing.
        """
        if self._summary is None:
            raise Internal("the call ended without a result")
        explored = self._summary.explored
        return self.made(
            self._summary,
            {
                "collection": explored.collection,
                "version": explored.collection_version,
                "space_id": explored.space_id,
                "metric": explored.metric,
                "rows": explored.rows,
            },
        )

    @abstractmethod
    def take(self, piece: Any) -> None:
        """Keeps a piece."""

    @abstractmethod
    def made(self, summary: Any, explored: dict[str, Any]) -> R:
        """The result; ``explored`` are the fields that all have."""


def row_of(message: explore_pb2.ExploredRow) -> ExploredRow:
    """A row."""
    return ExploredRow(
        id=message.id,
        label=label_of(message),
        split=message.split if message.HasField("split") else None,
        source=message.source,
        size=message.size if message.HasField("size") else None,
    )


def positive(name: str, value: int) -> int:
    """``value`` itself.

    Raises:
        InvalidRequest: No positive integer, or none that can be sent.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _MOST:
        raise InvalidRequest(f"{name} is {value!r}; it must be a positive integer")
    return value


def check_whole(what: str, found: int, wanted: int) -> None:
    """Refuses a result that lacks pieces.

    Raises:
        Internal: It does.
    """
    if found != wanted:
        raise Internal(f"the reply has {found} {what} of {wanted}")
