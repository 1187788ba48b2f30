"""What the supervisor and its child processes tell each other, and how it is written: a line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trunkline_service.server.listening import Address, Security
from trunkline_service.server.processes.codec import from_json, to_json
from trunkline_service.server.started import Started
from trunkline_service.settings import Settings


@dataclass(frozen=True)
class Start:
    """To a child, first of all: what it is.

    Attributes:
        part: Its name: ``device``, ``data``, ``front-0``.
        role: What it does: ``device``, ``data``, ``front``.
        number: Its place among those of its role, from 0.
        settings: Of the server.
        address: Where the server listens.
        security: How the port is protected.
        folder: Of the sockets between the processes; nobody else can enter it.
        quota_fd: Descriptor of the table of what all have admitted.
        quota_row: Its own row there; None where it admits nothing.
        log_level: Of the root logger.
    """

    part: str
    role: str
    number: int
    settings: Settings
    address: Address
    security: Security
    folder: Path
    quota_fd: int
    quota_row: int | None
    log_level: int


@dataclass(frozen=True)
class Parts:
    """To a front: what is not up.

    Attributes:
        troubles: Why, by the name of the part; empty where all is well.
    """

    troubles: Mapping[str, str]


@dataclass(frozen=True)
class AskMetrics:
    """To a child: how its metrics stand."""


@dataclass(frozen=True)
class Ending:
    """To a child: the server is about to end; it will be told when it is its turn."""


@dataclass(frozen=True)
class Stop:
    """To a child: finish what was taken, and end.

    Attributes:
        drain_s: Seconds that it may take.
    """

    drain_s: float


@dataclass(frozen=True)
class Ready:
    """From a child: it has started.

    Attributes:
        serves: What the device's process serves; None of the others.
    """

    serves: Started | None


@dataclass(frozen=True)
class Failed:
    """From a child: it could not start, and ends.

    Attributes:
        reason: Of the error.
        message: What was wrong and what to do.
    """

    reason: str
    message: str


@dataclass(frozen=True)
class Health:
    """From a child, from time to time: how it is.

    Attributes:
        trouble: Why no answers should be expected of it; None where all is well.
    """

    trouble: str | None


@dataclass(frozen=True)
class MetricsText:
    """From a child: its metrics.

    Attributes:
        text: In Prometheus' format.
    """

    text: str


Message = Start | Parts | AskMetrics | Ending | Stop | Ready | Failed | Health | MetricsText
_KINDS: Mapping[str, type[Message]] = {
    kind.__name__: kind
    for kind in (Start, Parts, AskMetrics, Ending, Stop, Ready, Failed, Health, MetricsText)
}


def dumps(message: Message) -> bytes:
    """One line."""
    document = {"kind": type(message).__name__, **to_json(message)}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def loads(line: bytes) -> Message:
    """The message of one line.

    Raises:
        ValueError: It is none.
    """
    try:
        document = json.loads(line)
        message: Message = from_json(_KINDS[document.pop("kind")], document)
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"{line[:80]!r} is no message between processes") from exc
    return message
