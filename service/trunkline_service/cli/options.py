"""Options that commands share, and what they open."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import trunkline
from trunkline_service import settings as settings_module
from trunkline_service.settings import Settings


class Number(click.FloatRange):
    """A number in a range; never NaN, which every comparison lets pass."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click.ParamType."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("it is NaN; give a number", param, ctx)
        return number


@dataclass(frozen=True)
class Place:
    """Where a command works: folders of this machine, or a server.

    Attributes:
        models: ``--models``, or None for the settings' value.
        data: ``--data``, or None for the settings' value.
        server: ``--server``, or None.
        tls_ca: ``--tls-ca``, or None for plain text.
        json: ``--json``.
    """

    models: str | None
    data: str | None
    server: str | None
    tls_ca: str | None
    json: bool

    def client(self) -> trunkline.Client:
        """The client's surface, over the server or in this process: the same answers from both."""
        if self.server is not None:
            tls = trunkline.TLS(root_certificates=self.tls_ca) if self.tls_ca else False
            return trunkline.Client(self.server, tls=tls)
        return trunkline.open(models=self.settings().models, data=self.settings().data)

    def settings(self, **flags: Any) -> Settings:
        """The settings with this place's folders."""
        return settings_module.load({"models": self.models, "data": self.data, **flags})

    def only_here(self, command: str) -> None:
        """Refuses ``--server`` for a command that has no RPC."""
        if self.server is not None:
            raise click.UsageError(
                f"'{command}' works on folders of this machine and has no --server yet; "
                "run it where --data is, or leave --server out"
            )


def in_a_folder(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """A file that can be written, asked before the work that it is for.

    Raises:
        click.BadParameter: Its folder is not there.
    """
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"{path} can't be written: there is no folder {path.parent}")
    return path


def with_port(_context: click.Context, _option: click.Parameter, address: str | None) -> str | None:
    """A server's address, asked before anything is connected: gRPC takes one without a port, and never gets there.

    Raises:
        click.BadParameter: It has no port, or is a URL.
    """
    if address is None:
        return None
    if address.startswith(("http://", "https://")):
        raise click.BadParameter(
            f"the address is {address!r}; leave the scheme out: HOST:PORT, and --tls-ca FILE for TLS"
        )
    if ":" not in address:
        raise click.BadParameter(
            f"the address is {address!r}; it needs a port, e.g. '{address or 'localhost'}:50051'"
        )
    return address


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --models, --data, --server and --json, and passes them as ``place``."""

    @click.option("--models", metavar="DIR", help="Model repository.  [default: ./models]")
    @click.option("--data", metavar="DIR", help="Collections and heads.  [default: ./data]")
    @click.option(
        "--server",
        metavar="HOST:PORT",
        callback=with_port,
        help="Ask a server instead of opening folders.",
    )
    @click.option("--tls-ca", metavar="FILE", help="Ask it with TLS, trusting this certificate.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        models: str | None,
        data: str | None,
        server: str | None,
        tls_ca: str | None,
        as_json: bool,
        **rest: Any,
    ) -> Any:
        return command(*args, place=Place(models, data, server, tls_ca, as_json), **rest)

    return wrapped
