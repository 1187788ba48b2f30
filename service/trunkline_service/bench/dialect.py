"""What a load tester has to know of a protocol: what to send, where to, and what an answer says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import grpc

from trunkline_service.errors import InvalidArgument, TrunklineError, Unavailable
from trunkline_service.images.inputs import ImageInput

ProtocolName = Literal["trunkline", "open-inference"]

# Seconds that a server may take for the questions before the load.
ASKING_S = 30.0


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
    """

    served: Served
    method: str
    request: Callable[[Sequence[ImageInput]], bytes]
    answer: Callable[[bytes], tuple[int, str]]


def refusal(address: str, exc: grpc.RpcError) -> TrunklineError:
    """An error of a server that did not take the first questions, as a user reads it."""
    code, details = exc.code(), exc.details()
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return Unavailable(
            f"{address} does not answer: {code.name}, {details}; is 'trunkline serve' running there, and ready?"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return InvalidArgument(f"{address} does not speak this protocol: {details}; see --protocol")
    return InvalidArgument(f"{address} refuses: {code.name}, {details}")
