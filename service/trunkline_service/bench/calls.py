"""Calls with bytes that are ready, over several channels to one or more servers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import grpc

from trunkline_service.bench.connecting import trusted
from trunkline_service.bench.dialect import TOO_LARGE, Dialect, is_too_large
from trunkline_service.bench.tape import OK

OPTIONS = (
    # Channels to one address would share a connection, and with it one of the server's event loops.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


@dataclass(frozen=True)
class Servers:
    """Where the load goes.

    Attributes:
        addresses: ``host:port`` of each; calls go to them in turn.
        tls_ca: PEM file of the certificates to trust; None for plain text.
        channels: Connections, over all of them; each server gets at least one.
    """

    addresses: tuple[str, ...]
    tls_ca: Path | None = None
    channels: int = 8

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What TLS takes, or None for plain text.

        Raises:
            InvalidArgument: The file of certificates can't be used.
        """
        return None if self.tls_ca is None else grpc.ssl_channel_credentials(trusted(self.tls_ca))

    def channel(self, address: str) -> grpc.Channel:
        """A connection for the questions before the load."""
        credentials = self.credentials()
        if credentials is None:
            return grpc.insecure_channel(address, OPTIONS)
        return grpc.secure_channel(address, credentials, OPTIONS)


@dataclass(frozen=True)
class Failure:
    """The first call that failed in one way.

    Attributes:
        request: Which of the requests it sent.
        position: Of the bad image in it; None where it is no image's fault.
        details: What the server said.
    """

    request: int
    position: int | None
    details: str


class Calls:
    """Calls that the loops make; open it with ``async with``.

    Args:
        servers: Where to.
        dialect: What is sent and what answers mean.
        requests: The bytes that are sent, in turn.
        timeout_s: The deadline of a call.

    Attributes:
        failures: The first call that failed, by status.
    """

    def __init__(
        self, servers: Servers, dialect: Dialect, requests: Sequence[bytes], timeout_s: float
    ) -> None:
        count = max(servers.channels, len(servers.addresses))
        addresses = itertools.islice(itertools.cycle(servers.addresses), count)
        self._channels = [_open(address, servers.credentials()) for address in addresses]
        self._methods: list[Callable[..., grpc.aio.UnaryUnaryCall[bytes, bytes]]] = [
            channel.unary_unary(dialect.method) for channel in self._channels
        ]
        self._dialect = dialect
        self.failures: dict[str, Failure] = {}
        self._requests = requests
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Calls:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels:
            await channel.close()

    async def __call__(self, caller: int, turn: int) -> tuple[int, str]:
        """Makes a call; returns how many images were served, and ``OK`` or why not all were."""
        method = self._methods[caller % len(self._methods)]
        number = (caller + turn) % len(self._requests)
        try:
            reply = await method(self._requests[number], timeout=self._timeout_s)
        except grpc.aio.AioRpcError as exc:
            details = exc.details() or ""
            status = TOO_LARGE if is_too_large(exc.code(), details) else exc.code().name
            self.failures.setdefault(status, Failure(number, None, details))
            return 0, status
        served, status = self._dialect.answer(reply)
        if status != OK and status not in self.failures:
            position, details = self._dialect.first_bad(reply) or (None, "")
            self.failures[status] = Failure(number, position, details)
        return served, status


def _open(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(address, OPTIONS)
    return grpc.aio.secure_channel(address, credentials, OPTIONS)
