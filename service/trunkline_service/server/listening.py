"""Where a server may listen: loopback freely; elsewhere with TLS, or because somebody said so. Pure."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from trunkline_service.errors import SettingsError


@dataclass(frozen=True)
class Address:
    """A host and a port; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of the server's certificate chain and private key."""

    certificate: Path
    key: Path

    def read(self) -> tuple[bytes, bytes]:
        """Key and certificate chain.

        Raises:
            SettingsError: They can't be read, or are no pair.
        """
        try:
            # gRPC says nothing of a pair that does not fit until a client fails to connect.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.certificate, self.key)
            return self.key.read_bytes(), self.certificate.read_bytes()
        except (OSError, ssl.SSLError) as exc:
            raise SettingsError(
                f"--tls-cert {self.certificate} and --tls-key {self.key} can't be used: {exc.strerror or exc}"
            ) from exc


@dataclass(frozen=True)
class Security:
    """How the port is protected: TLS files, or an explicit wish for none."""

    tls: TlsFiles | None = None
    insecure: bool = False


def parse_address(text: str, what: str = "--listen") -> Address:
    """``host:port``, ``[v6]:port``.

    Raises:
        SettingsError: It is neither.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{what} {text!r} is no HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051")
    return Address(host, int(port))


def check_exposure(address: Address, tls: TlsFiles | None, insecure: bool, what: str = "--listen") -> None:
    """Refuses to show plain text to a network by accident.

    Raises:
        SettingsError: The address is not loopback and there is neither TLS nor ``--insecure``.
    """
    if not (address.is_loopback or tls or insecure):
        raise SettingsError(
            f"{what} {address} can be reached from other machines: give --tls-cert and --tls-key, or say --insecure "
            "if something in front of it encrypts"
        )


def tls_files(certificate: str | None, key: str | None) -> TlsFiles | None:
    """The pair of files, or None if neither is given.

    Raises:
        SettingsError: Only one is given, or one does not exist.
    """
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise SettingsError("--tls-cert and --tls-key go together; one of them is missing")
    for path in (certificate, key):
        if not Path(path).is_file():
            raise SettingsError(f"TLS file {path!r} does not exist")
    return TlsFiles(Path(certificate), Path(key))
