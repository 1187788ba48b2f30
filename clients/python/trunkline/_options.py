"""How a client connects and how hard it drives the server: values alone, checked once."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import grpc

MIB = 1024 * 1024
Secret: TypeAlias = bytes | str | os.PathLike[str] | None


@dataclass(frozen=True)
class TLS:
    """How to trust the server, and how to be trusted by it. PEM bytes, or the path of a PEM file.

    Attributes:
        root_certificates: Whom to trust; None for gRPC's default roots.
        private_key: The client's key, where the server asks for one (mutual TLS).
        certificate_chain: The client's certificate, beside its key.
        server_name: The name in the server's certificate, where it is not that of the address.
    """

    root_certificates: Secret = None
    private_key: Secret = field(default=None, repr=False)
    certificate_chain: Secret = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """gRPC's form of it.

        Raises:
            OSError: A file can't be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.root_certificates),
            private_key=_pem(self.private_key),
            certificate_chain=_pem(self.certificate_chain),
        )


@dataclass(frozen=True)
class Options:
    """How hard to drive the server.

    Attributes:
        timeout: Seconds for one request with its retries.
        max_in_flight: Requests on their way at once.
        chunk_bytes: Of images in one request.
        chunk_images: Images in one request.
        retries: Attempts after the first.

    Raises:
        ValueError: A value out of range; names it.
    """

    timeout: float
    max_in_flight: int
    chunk_bytes: int
    chunk_images: int
    retries: int

    def __post_init__(self) -> None:
        for name in ("timeout", "max_in_flight", "chunk_bytes", "chunk_images"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be above 0")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries!r}; it can't be negative")


@dataclass(frozen=True)
class Rim:
    """Clock, chance and pauses, so that tests need none of the real ones.

    Attributes:
        clock: Monotonic seconds.
        random: Uniform in [0, 1).
        wait: Pauses a thread for some seconds; True if the event was set meanwhile.
        sleep: Pauses a task for some seconds.
    """

    clock: Callable[[], float] = time.monotonic
    # Jitter is no secret.
    random: Callable[[], float] = random.random
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Channel(Protocol):
    """What a client asks of a channel: `grpc.Channel` has it, and so has the service in-process."""

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
    ) -> Any:
        """A callable of one method."""

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
    ) -> Any:
        """A callable of one method that is answered by a stream."""

    def close(self) -> None:
        """Ends all calls."""


def check_target(target: str, channels: int) -> None:
    """Refuses addresses that gRPC would take and never reach.

    Raises:
        ValueError: No port, an http address, or fewer than one channel.
    """
    if target.startswith(("http://", "https://")):
        raise ValueError(
            f"the address is {target!r}; leave the scheme out: 'host:port', and tls=True for TLS"
        )
    if ":" not in target:
        raise ValueError(f"the address is {target!r}; it needs a port, e.g. '{target or 'localhost'}:50051'")
    if channels < 1:
        raise ValueError(f"channels is {channels!r}; it must be at least 1")


def channel_arguments(tls: bool | TLS) -> Sequence[tuple[str, str | int]]:
    """gRPC's arguments of one channel."""
    arguments: list[tuple[str, str | int]] = [
        # Without it all channels of a process share one connection, whose streams wait for each other.
        ("grpc.use_local_subchannel_pool", 1),
        # How large a reply gets is decided by what was asked.
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # gRPC's own are 1 s and 2 minutes: a server that was restarted would stay away that long.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5000),
    ]
    if isinstance(tls, TLS) and tls.server_name:
        arguments.append(("grpc.ssl_target_name_override", tls.server_name))
    return arguments


def credentials(tls: bool | TLS) -> grpc.ChannelCredentials | None:
    """gRPC's credentials, or None for a connection without TLS."""
    if isinstance(tls, TLS):
        return tls.credentials()
    return TLS().credentials() if tls else None


def _pem(secret: Secret) -> bytes | None:
    return secret if secret is None or isinstance(secret, bytes) else Path(secret).read_bytes()
