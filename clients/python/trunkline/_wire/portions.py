"""Many small entries -> portions that fit a request each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from google.protobuf.message import Message

from trunkline._wire.job import GRPC_DEFAULT_BYTES
from trunkline.exceptions import MessageTooLarge
from trunkline.values import ServerInfo

E = TypeVar("E")

# Each request is a commit, and a commit costs the server more than its rows do: few and large ones.
MAX_ENTRIES = 16_384
MAX_BYTES = 16 * 1024 * 1024
# Tag and length of a row or an id in the request, and of what encloses it.
_FRAMING = 32


def portions(sized: Iterable[tuple[str, int, E]], limit: int) -> Iterator[tuple[range, list[E]]]:
    """Entries in portions that fit a request each, with their positions.

    Args:
        sized: What each is, its bytes, and itself.
        limit: Bytes that a request may hold.

    Raises:
        MessageTooLarge: One alone is larger.
    """
    most = min(limit, MAX_BYTES)
    gathered: list[E] = []
    start = held = 0
    for index, (what, bare, entry) in enumerate(sized):
        size = bare + _FRAMING
        if size > limit:
            raise MessageTooLarge(
                f"{what} takes {size:,} bytes; the server takes at most {limit:,} in one request: raise "
                "max_message_bytes on the server",
                items=range(index, index + 1),
            )
        if gathered and (held + size > most or len(gathered) == MAX_ENTRIES):
            yield range(start, index), gathered
            gathered, start, held = [], index, 0
        gathered.append(entry)
        held += size
    if gathered:
        yield range(start, start + len(gathered)), gathered


def room(info: ServerInfo, base: Message) -> int:
    """Bytes for entries in one request, beside what it holds without them."""
    return (info.max_message_bytes or GRPC_DEFAULT_BYTES) - int(base.ByteSize()) - _FRAMING
