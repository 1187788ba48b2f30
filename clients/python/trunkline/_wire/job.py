"""What the calls that carry items have in common: one call of the caller, many requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypedDict, TypeVar, get_args

from google.protobuf.message import Message

from trunkline._wire.chunks import Chunk, Limits
from trunkline._wire.methods import Method
from trunkline._wire.queries import Queries
from trunkline._wire.status import code_of
from trunkline.exceptions import Internal, InvalidRequest, SpaceMismatch
from trunkline.results import ItemResults
from trunkline.values import ItemFailure, ModelRef, ServerInfo, Timings
from trunkline_protos.v1 import common_pb2

Lane: TypeAlias = Literal["interactive", "bulk"]
"""Who waits: ``interactive`` work is served first, ``bulk`` work takes what it leaves."""

R = TypeVar("R", bound=ItemResults)

# The largest message that a gRPC server takes unless it is told otherwise.
GRPC_DEFAULT_BYTES = 4 * 1024 * 1024
_LANES = {"interactive": common_pb2.LANE_INTERACTIVE, "bulk": common_pb2.LANE_BULK}


class Job(ABC, Generic[R]):
    """One call of the caller's: how its chunks become requests, and their replies its result.

    A job serves one call: it remembers the space of the first reply, so that a model that is
    replaced under way can't mix two spaces in one result.

    Attributes:
        queries: Vectors or ids instead of images; None for images.
    """

    method: ClassVar[Method[Any, Any]]

    def __init__(self, queries: Queries | None = None) -> None:
        self.queries = queries
        self._space_id = ""

    @abstractmethod
    def base(self) -> Message:
        """The request without its items."""

    @abstractmethod
    def fill(self, request: Any, chunk: Chunk) -> None:
        """Puts a chunk's items into the request."""

    @abstractmethod
    def result(self, chunk: Chunk, reply: Any) -> R:
        """A chunk's result, in the numbering of the input; ``reply`` is None if none was asked for.

        Raises:
            Internal: The reply breaks the contract.
            SpaceMismatch: It lies in another space than the replies before.
        """

    @abstractmethod
    def merge(self, parts: Sequence[R]) -> R:
        """The chunks' results as one; there is at least one."""

    def outdated(self, reply: Any) -> bool:  # noqa: ARG002 - most jobs are never
        """Whether a chunk is to be asked for once more, because of what the replies before it said.

        Called with the replies in the order of the chunks.
        """
        return False

    def needs_answer(self, chunk: Chunk) -> bool:
        """Whether a chunk's call must not fail; of nothing to send, what a reply would tell may stay unknown."""
        return bool(chunk.rows)

    def request(self, chunk: Chunk) -> tuple[Method[Any, Any], Message] | None:
        """The call for a chunk; None if there is nothing to send."""
        if not chunk.rows:
            return None
        request = self.base()
        self.fill(request, chunk)
        return self.method, request

    def limits(self, info: ServerInfo, chunk_bytes: int, chunk_images: int) -> Limits:
        """What one request of this job may carry."""
        room = (info.max_message_bytes or GRPC_DEFAULT_BYTES) - self.base().ByteSize()
        most = info.max_images_per_request or chunk_images
        # Vectors and ids are small and cost the server little: as many as it takes.
        count = min(chunk_images, most) if self.queries is None else most
        return Limits(bytes=min(chunk_bytes, room), item_bytes=room, count=count)

    def check_space(self, space_id: str, chunk: Chunk) -> None:
        """Refuses a reply of another space than the first (contract: spaces never mix silently).

        Raises:
            SpaceMismatch: Names both.
        """
        self._space_id = self._space_id or space_id
        if space_id != self._space_id:
            raise SpaceMismatch(
                f"items {chunk.start} to {chunk.start + len(chunk) - 1} came back in space {space_id}, those "
                f"before in {self._space_id}: the model was replaced meanwhile; name its version, call again",
                items=chunk.items,
            )


def lane_of(word: str) -> common_pb2.Lane:
    """The message's word for a lane.

    Raises:
        InvalidRequest: Not a lane.
    """
    if word not in _LANES:
        raise InvalidRequest(f"lane is {word!r}; it can be {' or '.join(map(repr, get_args(Lane)))}")
    return _LANES[word]


def failures(chunk: Chunk, errors: Iterable[common_pb2.ItemError]) -> list[ItemFailure]:
    """A chunk's failures, those found here and those the server reports, by rising index in the input.

    Raises:
        Internal: The server reports an item that it was not sent.
    """
    found = {failure.index: failure for failure in chunk.failures}
    for error in errors:
        if error.index >= len(chunk.rows):
            raise Internal(f"the reply to {len(chunk.rows)} items reports item {error.index} as failed")
        row = chunk.rows[error.index]
        index = chunk.start + row
        found[index] = ItemFailure(index, chunk.inputs[row], error.reason, error.message, code_of(error.code))
    return [found[index] for index in sorted(found)]


class Common(TypedDict):
    """The fields that all results share."""

    inputs: list[str]
    errors: list[ItemFailure]
    start: int
    timings: Timings


def common(chunk: Chunk, reply: Any) -> Common:
    """The shared fields of a chunk's result; of the chunk alone where there is no reply."""
    return Common(
        inputs=list(chunk.inputs),
        errors=failures(chunk, reply.errors if reply is not None else ()),
        start=chunk.start,
        timings=_timings(reply.timings) if reply is not None else Timings(),
    )


def joined(parts: Sequence[ItemResults]) -> Common:
    """The shared fields of several results, one behind the other."""
    weights = [len(part) - len(part.errors) for part in parts]
    total = sum(weights) or 1

    def mean(name: str) -> float:
        shares = (getattr(p.timings, name) * weight for p, weight in zip(parts, weights, strict=True))
        return float(sum(shares) / total)

    return Common(
        inputs=[name for part in parts for name in part.inputs],
        errors=[failure for part in parts for failure in part.errors],
        start=parts[0].start,
        timings=Timings(mean("decode_ms"), mean("queue_ms"), mean("infer_ms")),
    )


def model_ref(message: common_pb2.ModelRef) -> ModelRef | None:
    """The model of a reply; None where the reply names none, as for vectors."""
    if not message.name:
        return None
    return ModelRef(
        name=message.name,
        version=message.version,
        space_id=message.space_id,
        artifact_id=message.artifact_id,
        dim=message.dim,
        decode=message.decode,
    )


def _timings(message: common_pb2.Timings) -> Timings:
    return Timings(message.decode_ms, message.queue_ms, message.infer_ms)
