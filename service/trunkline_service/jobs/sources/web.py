"""One object over http or https, with the standard library alone."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from trunkline_service.errors import UnreadableFile
from trunkline_service.jobs.sources.files import too_large, unreadable

_STALLED_S = 30.0
# A server that sends a byte now and then never stalls, and must not hold a job for ever.
_MOST_S = 300.0
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class WebReader:
    """Reads what a URL answers with.

    Attributes:
        url: ``http://`` or ``https://``; redirects lead to such URLs alone.
    """

    url: str

    def __call__(self, limit: int) -> bytes:
        """See ``item.Reader``."""
        return read_url(self.url, limit)


def read_url(url: str, limit: int, clock: Callable[[], float] = time.monotonic) -> bytes:
    """The body of the answer.

    Args:
        url: ``http://`` or ``https://``.
        limit: Most bytes.
        clock: Monotonic seconds.

    Raises:
        UnreadableFile: No answer, another answer than 200, or one that ends early or takes too long.
        ImageTooLarge: More than ``limit`` bytes.
    """
    until = clock() + _MOST_S
    try:
        with open_url(url) as reply:
            if reply.length is not None and reply.length > limit:
                raise too_large(reply.length, limit)
            pieces: list[bytes] = []
            left = limit + 1
            while left and (piece := reply.read1(min(left, _CHUNK))):
                pieces.append(piece)
                left -= len(piece)
                if clock() > until:
                    raise UnreadableFile(f"can't be read: not there after {_MOST_S:.0f} s; try again later")
            if not left:
                raise too_large(limit + 1, limit, at_least=True)
            if reply.length:
                raise UnreadableFile(f"can't be read: the answer ended {reply.length:,} bytes early")
            return b"".join(pieces)
    except urllib.error.HTTPError as exc:
        with exc:
            raise UnreadableFile(f"can't be read: the server answered {exc.code} {exc.reason}") from exc
    except urllib.error.URLError as exc:
        raise unreadable(exc.reason if isinstance(exc.reason, Exception) else exc) from exc
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise unreadable(exc) from exc


def open_url(url: str) -> http.client.HTTPResponse:
    """The answer, not read yet.

    Raises:
        OSError, http.client.HTTPException, ValueError: As ``urllib.request`` does.
    """
    # Spaces as people write them, and %20 as programs do.
    address = quote(url.partition("#")[0], safe="/%:@!$&'()*+,;=~?[]")
    request = urllib.request.Request(address, headers={"User-Agent": "trunkline"})  # noqa: S310 - see _opener
    reply: http.client.HTTPResponse = _opener().open(request, timeout=_STALLED_S)
    return reply


def _opener() -> urllib.request.OpenerDirector:
    """Without the handlers for file:// and ftp://, to which a server could redirect."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener
