"""Web servers of a folder of models, what they answer, and the places that a model of theirs has."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site(ThreadingHTTPServer):
    """Serves a folder, and what a test puts in the place of a file of it."""

    daemon_threads = True

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.folder = folder
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.closing = threading.Event()
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that go away are what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        path = self.path.partition("?")[0].lstrip("/")
        answer = self.server.answers.get(path.rpartition("/")[2])
        if answer is not None:
            answer(self)
        elif (self.server.folder / path).is_file():
            body(self, (self.server.folder / path).read_bytes())
        else:
            status(self, 404)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Silent."""


def body(handler: BaseHTTPRequestHandler, data: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    handler.end_headers()
    handler.wfile.write(data)


def status(handler: BaseHTTPRequestHandler, code: int, **headers: str) -> None:
    handler.send_response(code)
    for name, value in {"Content-Length": "0", **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()


def stall(handler: BaseHTTPRequestHandler, first: bytes = b"", sent: threading.Event | None = None) -> None:
    """Promises more than it sends, and keeps the connection."""
    if first:
        body(handler, first, length=10_000_000)
        handler.wfile.flush()
    if sent is not None:
        sent.set()
    handler.server.closing.wait()  # type: ignore[attr-defined]


def running(site: Site) -> Iterator[Site]:
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.closing.set()
    site.shutdown()
    thread.join()
    site.server_close()


PLACES = {
    "path": lambda remote, site: str(remote / "tiny" / "1"),
    "path of a model": lambda remote, site: f"{remote}/tiny/",
    "file": lambda remote, site: f"file://{remote}/tiny/1/",
    "file of a model": lambda remote, site: f"file://{remote}/tiny",
    "https": lambda remote, site: f"{site.url}/tiny/1",
    "https, with a token": lambda remote, site: f"{site.url}/tiny/2/?token=t%2F1",
}
