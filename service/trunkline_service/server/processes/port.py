"""Holds a port for several processes of one server, and for nobody else."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from trunkline_service.errors import SettingsError
from trunkline_service.server.listening import Address

# With port 0 the first address takes a free port; on another address of the host it can be taken.
_ATTEMPTS = 16
# An address of a host that this machine does not have, such as ::1 where IPv6 is off.
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(frozen=True)
class Reservation:
    """Sockets that hold a port and do not listen: the kernel gives them no connections.

    Attributes:
        address: The host, and the port that is held.
    """

    address: Address
    _sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        """Lets the port go."""
        for held in self._sockets:
            held.close()


def reserve(address: Address) -> Reservation:
    """Holds a port, so that processes which listen with SO_REUSEPORT can come and go.

    Nobody else has the port or can take it: a bind without SO_REUSEPORT fails while it is held, and each
    server of Trunkline tries one first. Only other programs of the same user that ask for SO_REUSEPORT
    could share it.

    Args:
        address: Port 0 takes a free one.

    Raises:
        SettingsError: The host is unknown or not of this machine, or somebody has the port.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise SettingsError("this system can't share a port among processes; serve with --frontends 0")
    try:
        places = _places(address.host)
        for _attempt in range(_ATTEMPTS if address.port == 0 else 1):
            try:
                return _hold(address, places)
            except OSError as exc:
                failed = exc
        raise failed
    except OSError as exc:
        raise SettingsError(
            f"can't listen on {address}: {exc.strerror or exc}; is another server there?"
        ) from exc


def _places(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of a host, as gRPC would listen on them."""
    if _is_wildcard(host):
        if socket.has_dualstack_ipv6():
            return [(socket.AF_INET6, "::")]
        return [(socket.AF_INET, "0.0.0.0")]  # noqa: S104 - the user asked for it
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, str(name[0])) for family, _kind, _protocol, _canon, name in found))


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _hold(address: Address, places: Sequence[tuple[socket.AddressFamily, str]]) -> Reservation:
    held: list[socket.socket] = []
    port = address.port
    absent: OSError | None = None
    try:
        for family, host in places:
            try:
                held.append(_bound(family, host, port))
            except OSError as exc:
                if exc.errno not in _ABSENT:
                    raise
                absent = exc
                continue
            port = held[0].getsockname()[1]
        if absent is not None and not held:
            raise absent
    except BaseException:
        for one in held:
            one.close()
        raise
    return Reservation(Address(address.host, port), tuple(held))


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        # For the bind alone: connections of an earlier server that wind down are no reason to fail ...
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((host, port))
        # ... and the next one who tries this very bind must fail.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        one.close()
        raise
    return one
