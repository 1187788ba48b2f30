"""How a server is reached; and where it is not, why, in a few words."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from trunkline_service.errors import InvalidArgument

# What gRPC's texts hold, and what it means to whoever typed the address. Those of a handshake come first:
# a text can hold several.
_WITH_TLS = (
    ("Hostname Verification", "its certificate is for another name: use a name that it has as the address"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted by what --tls-ca gives"),
    ("WRONG_VERSION_NUMBER", "it serves plain text; leave out --tls-ca"),
)
_WITHOUT_TLS = (
    # A server that expects TLS says nothing and hangs up; so do others.
    ("Socket closed", "it hangs up: if it serves TLS, give --tls-ca"),
    ("reset by peer", "it hangs up: if it serves TLS, give --tls-ca"),
)
_ALWAYS = (
    ("refused", "nobody listens there"),
    ("errors resolving", "no such host is known"),
    ("lookup failed", "no such host is known"),
    ("HTTP/2", "no gRPC server answers there"),
    ("Handshake read failed", "no gRPC server answers there"),
    ("Socket closed", "it hangs up"),
    ("reset by peer", "it hangs up"),
)


def trusted(certificates: Path) -> bytes:
    """The bytes of a PEM file of certificates to trust.

    Raises:
        InvalidArgument: It can't be read, or holds no certificate.
    """
    try:
        # gRPC says nothing of a file that is none until it fails to connect.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificates)
        return certificates.read_bytes()
    except ssl.SSLError as exc:
        raise InvalidArgument(
            f"--tls-ca {certificates} holds no certificate in PEM form ({exc.reason or exc}); "
            "give the server's certificate, or that of its authority"
        ) from exc
    except OSError as exc:
        raise InvalidArgument(f"--tls-ca {certificates} can't be read: {exc.strerror or exc}") from exc


def why_not(code: grpc.StatusCode, details: str, tls: bool) -> str:
    """Why a server did not answer, in a few words; empty where that is not known.

    Args:
        code: What gRPC gave.
        details: The text beside it.
        tls: Whether it was asked with TLS.
    """
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer came in time: it hangs, or no gRPC server listens there"
    if code is not grpc.StatusCode.UNAVAILABLE:
        return ""
    known = (*(_WITH_TLS if tls else _WITHOUT_TLS), *_ALWAYS)
    return next((meaning for text, meaning in known if text in details), "")
