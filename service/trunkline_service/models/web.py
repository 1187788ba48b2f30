"""Files of a folder over https: certificates are checked, redirects stay encrypted, stalled connections end."""

from __future__ import annotations

import ipaddress
import ssl
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from trunkline_service.errors import InvalidArgument, ModelNotFound, StorageError

_CHUNK = 256 * 1024
_GONE = frozenset({404, 410})
_REDIRECTS = range(300, 400)
_FORBIDDEN = frozenset({401, 403, 407})


@dataclass(frozen=True)
class Access:
    """How places on the network are reached.

    Attributes:
        trust: PEM file of the certificates to trust over https, instead of the system's (which
            ``SSL_CERT_FILE`` names).
        stalled_s: Seconds without a byte after which a connection is given up.
    """

    trust: Path | None = None
    stalled_s: float = 30.0


class WebFolder:
    """A folder behind a URL; files are found below its path, and its query goes with each of them.

    Args:
        url: ``https://``, or ``http://`` of this machine.
        access: How to reach it.

    Raises:
        InvalidArgument: Another URL, or a file of certificates that can't be used.
    """

    def __init__(self, url: SplitResult, access: Access) -> None:
        _check(url)
        # A path as people write it, with spaces, or as programs do, with %20.
        path = quote(url.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        self._url = url._replace(path=path, fragment="")
        self._access = access
        self._opener = _opener(url, access)

    def __str__(self) -> str:
        # A query can hold a signature that opens the folder to whoever reads a log.
        return self._url._replace(query="").geturl()

    def chunks(self, file: str) -> Generator[bytes, None, None]:
        """The bytes of one file, in pieces.

        Raises:
            ModelNotFound: The server has no such file.
            StorageError: It can't be had: no connection, no trust, no permission, or it ends too early.
        """
        where = f"{self}/{file}"
        address = self._url._replace(path=f"{self._url.path}/{file}").geturl()
        try:
            # The scheme was checked: https, or http of this machine.
            request = urllib.request.Request(address, headers={"User-Agent": "trunkline"})  # noqa: S310
            with self._opener.open(request, timeout=self._access.stalled_s) as reply:
                while chunk := reply.read(_CHUNK):
                    yield chunk
                left = reply.length
        except urllib.error.HTTPError as exc:
            with exc:
                raise _refusal(exc.code, where) from exc
        except (OSError, HTTPException, ValueError) as exc:
            raise StorageError(f"{where} can't be fetched: {self._why(exc)}") from exc
        if left:
            raise StorageError(f"{where} broke off {left} bytes before its end; run it again")

    def _why(self, exc: Exception) -> str:
        cause = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the server's certificate is not trusted ({cause.verify_message}); --tls-ca FILE or "
                "SSL_CERT_FILE names the certificates to trust"
            )
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({cause.reason or 'no reason given'}); does an https server listen there?"
        if isinstance(cause, TimeoutError):
            return f"nothing came for {self._access.stalled_s:g} s; run it again"
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.strerror}; is the address right, and the server up?"
        return f"{type(cause).__name__ if isinstance(cause, Exception) else cause}; does a web server listen there?"


class _EncryptedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https alone."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See urllib.request."""
        target = urlsplit(urljoin(req.full_url, newurl))
        if target.scheme != "https":
            fp.close()
            raise StorageError(
                f"{req.host} redirects to {target.scheme}://{target.hostname or ''}, which is not encrypted; "
                "only redirects to https:// are followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: SplitResult) -> None:
    try:
        host, port = url.hostname or "", url.port
    except ValueError as exc:
        raise InvalidArgument(f"{url.scheme}://...: {exc}") from exc
    if not host or port == 0:
        raise InvalidArgument(f"{url.scheme}:// needs a host: {url.scheme}://HOST/models/NAME/VERSION")
    if url.username is not None or url.password is not None:
        raise InvalidArgument(
            f"{url.scheme}://...@{host} holds a user name, which would end up in logs; "
            "use an address without one (a token in its query is never printed)"
        )
    if url.scheme == "http" and not _is_loopback(host):
        raise InvalidArgument(
            f"http://{host} is not encrypted: anybody on the way could put another model in its place; "
            "use https:// (http:// is for this machine alone: localhost, 127.0.0.1, [::1])"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _opener(url: SplitResult, access: Access) -> urllib.request.OpenerDirector:
    """Handlers for http and https alone: urllib's own choice also opens files and FTP."""
    opener = urllib.request.OpenerDirector()
    handlers: list[Any] = [
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=_tls(access.trust)),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _EncryptedRedirects(),
    ]
    if not _is_loopback(url.hostname or ""):
        # HTTPS_PROXY and NO_PROXY, as everywhere; what is on this machine does not leave it.
        handlers.append(urllib.request.ProxyHandler())
    for handler in handlers:
        opener.add_handler(handler)
    return opener


def _tls(trust: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if trust is None else str(trust))
    except OSError as exc:
        raise InvalidArgument(
            f"{trust} can't be used as certificates to trust: {exc.strerror or 'no PEM file'}"
        ) from exc


def _refusal(code: int, where: str) -> ModelNotFound | StorageError:
    if code in _GONE:
        return ModelNotFound(
            f"{where} does not exist (HTTP {code}); is the address that of a version's folder?"
        )
    if code in _FORBIDDEN:
        return StorageError(
            f"{where} may not be read (HTTP {code}): the server wants credentials, or there is no such file"
        )
    if code in _REDIRECTS:
        return StorageError(f"{where} redirects in a circle, or to what is no https address (HTTP {code})")
    return StorageError(f"{where} can't be fetched: the server answered HTTP {code}; run it again later")
