"""What a load tester has to know of a protocol: what to send, where to, and what an answer says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import grpc

from trunkline_service.bench.connecting import why_not
from trunkline_service.errors import InvalidArgument, TrunklineError, Unavailable
from trunkline_service.images.inputs import ImageInput

ProtocolName = Literal["trunkline", "open-inference"]

# Seconds that a server may take for the questions before the load.
ASKING_S = 30.0

# gRPC gives it the status of an overload, which it is not.
TOO_LARGE = "RESOURCE_EXHAUSTED (message too large)"


@dataclass(frozen=True)
class Served:
    """The model that answers.

    Attributes:
        reference: ``name@version``, or the name alone where the server tells no version.
        artifact_id: Which file computes; empty where the server does not tell.
        decode: ``exact`` or ``fast``; empty where the server does not tell.
        device: ``cpu`` or ``cuda:N``; empty where the server does not tell.
        input_size: Height and width of the input, in pixels.
    """

    reference: str
    artifact_id: str = ""
    decode: str = ""
    device: str = ""
    input_size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Dialect:
    """One protocol, about one model.

    Attributes:
        served: The model.
        method: Path of the call, ``/package.Service/Method``.
        request: The bytes that ask for the embeddings of images: all encoded, or all pixels of one size.
        answer: Of the bytes of a reply: how many images were served, and ``OK`` or why one was not.
        first_bad: Of the bytes of a reply: position and message of the first image that was not served; None
            where the protocol does not tell.
    """

    served: Served
    method: str
    request: Callable[[Sequence[ImageInput]], bytes]
    answer: Callable[[bytes], tuple[int, str]]
    first_bad: Callable[[bytes], tuple[int, str] | None] = lambda _reply: None


def is_too_large(code: grpc.StatusCode, details: str) -> bool:
    """Whether a server refused a message for its size, before it read it."""
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details


def refusal(address: str, exc: grpc.RpcError, tls: bool) -> TrunklineError:
    """An error of a server that did not take the first questions, as a user reads it.

    Args:
        address: The server's.
        exc: What gRPC raised.
        tls: Whether it was asked with TLS.
    """
    code, details = exc.code(), exc.details() or ""
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        todo = why_not(code, details, tls) or "is 'trunkline serve' running there, and ready?"
        return Unavailable(f"{address} does not answer: {todo} ({code.name}: {details})")
    if is_too_large(code, details):
        return InvalidArgument(
            f"{address} takes no request of this size ({details}); "
            "fewer --images-per-call, or raise max_message_bytes at the server"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return InvalidArgument(f"{address} does not speak this protocol: {details}; see --protocol")
    return InvalidArgument(f"{address} refuses: {code.name}, {details}")
