"""Pulling: from real https servers and folders, of models whole and broken, by processes that are killed."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from trunkline_service.errors import InvalidArgument, ModelFileError, ModelNotFound, StorageError
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.pull import CARD_LIMIT, pull
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.models.web import Access

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


@pytest.fixture
def remote(tmp_path: Path, publish_tiny: Callable[..., Any]) -> Path:
    """A repository somewhere else, with tiny@1 and tiny@2."""
    for _ in range(2):
        publish_tiny(tmp_path / "remote")
    return tmp_path / "remote"


def running(site: Site) -> Iterator[Site]:
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.closing.set()
    site.shutdown()
    thread.join()
    site.server_close()


@pytest.fixture
def site(remote: Path, pem: tuple[Path, Path]) -> Iterator[Site]:
    """That repository behind https."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certfile=pem[1], keyfile=pem[0])
    yield from running(Site(remote, tls))


@pytest.fixture
def plain_site(remote: Path) -> Iterator[Site]:
    """The same without TLS."""
    yield from running(Site(remote))


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models", tmp_path / "none")


@pytest.fixture
def access(pem: tuple[Path, Path]) -> Access:
    return Access(trust=pem[1], stalled_s=10)


@pytest.fixture
def fetch(repository: ModelRepository, access: Access) -> Callable[..., Any]:
    return functools.partial(pull, repository=repository, access=access)


def change_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "card.json").read_text())
    change(document)
    (folder / "card.json").write_text(json.dumps(document))


PLACES = {
    "path": lambda remote, site: str(remote / "tiny" / "1"),
    "path of a model": lambda remote, site: f"{remote}/tiny/",
    "file": lambda remote, site: f"file://{remote}/tiny/1/",
    "file of a model": lambda remote, site: f"file://{remote}/tiny",
    "https": lambda remote, site: f"{site.url}/tiny/1",
    "https, with a token": lambda remote, site: f"{site.url}/tiny/2/?token=t%2F1",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_pulled_model_is_the_published_one(place, remote, site, fetch, repository):
    version = 2 if "model" in place or "token" in place else 1
    steps = []
    pulled = fetch(PLACES[place](remote, site), progress=lambda done, total: steps.append((done, total)))
    assert not pulled.was_there
    source = ModelRepository(remote).resolve(f"tiny@{version}")
    assert pulled.folder == repository.resolve("tiny")
    assert pulled.folder.card == source.card
    assert {entry.name for entry in pulled.folder.path.iterdir()} == {"card.json", "model.onnx"}
    assert pulled.folder.onnx.read_bytes() == source.onnx.read_bytes()
    config = repository.root / "tiny" / "config.pbtxt"
    assert config.read_text() == (remote / "tiny" / "config.pbtxt").read_text()
    ModelSession(pulled.folder, Device("cpu"), ExecutionPlan(1, 1, 16))
    size = source.onnx.stat().st_size
    assert (steps[0], steps[-1]) == ((0, size), (size, size))
    if "token" in place:
        assert site.requests == ["/tiny/2/card.json?token=t%2F1", "/tiny/2/model.onnx?token=t%2F1"]


def test_the_newest_version_is_a_number_and_no_word(remote, fetch, publish_tiny):
    for _ in range(8):
        publish_tiny(remote)
    assert fetch(str(remote / "tiny")).folder.card.version == 10


def test_what_is_there_already_is_not_fetched_again(site, fetch):
    first = fetch(f"{site.url}/tiny/1")
    site.requests.clear()
    again = fetch(f"{site.url}/tiny/1")
    assert (again.was_there, again.folder) == (True, first.folder)
    assert site.requests == ["/tiny/1/card.json"]


def test_what_is_there_and_damaged_is_an_error(site, fetch):
    fetch(f"{site.url}/tiny/1").folder.onnx.write_bytes(b"damaged")
    with pytest.raises(ModelFileError, match="does not match"):
        fetch(f"{site.url}/tiny/1")


def test_another_model_of_the_same_number_needs_another_name(site, fetch, repository, publish_tiny):
    own = publish_tiny(repository.root, scale=2.0)
    with pytest.raises(ModelFileError, match=r"there already and is another one.*--name"):
        fetch(f"{site.url}/tiny/1")
    assert repository.resolve("tiny@1").card == own.card
    pulled = fetch(f"{site.url}/tiny/1", name="theirs")
    assert pulled.folder.card == dataclasses.replace(
        ModelRepository(site.folder).resolve("tiny@1").card, name="theirs"
    )
    assert repository.resolve("theirs").card.reference == "theirs@1"


def test_another_shape_than_earlier_versions_needs_another_name(site, fetch, repository, publish_tiny):
    publish_tiny(repository.root, dim=7)
    with pytest.raises(ModelFileError, match="publish it under another --name"):
        fetch(f"{site.url}/tiny/2")
    assert site.requests == ["/tiny/2/card.json"]


def test_own_versions_are_numbered_after_pulled_ones(site, fetch, repository, publish_tiny):
    fetch(f"{site.url}/tiny/2")
    fetch(f"{site.url}/tiny/1")
    shutil.rmtree(repository.root / "tiny" / "2")
    assert publish_tiny(repository.root).card.version == 3
    assert [card.version for card in repository.cards()[0]] == [1, 3]


@pytest.mark.parametrize(
    "host", ["models.example", "10.0.0.1", "localhost.example", "127.0.0.1.example", "[::2]"]
)
def test_http_is_for_this_machine_alone(host, fetch):
    with pytest.raises(InvalidArgument, match="not encrypted"):
        fetch(f"http://{host}/tiny/1")


def test_http_of_this_machine_and_no_proxy_on_the_way(plain_site, fetch, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(f"{plain_site.url}/tiny/1").folder.card.version == 1


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "names no model"),
        ("https://models.example/resnet18/", r"add /VERSION, e\.g\. https://models\.example/resnet18/1"),
        ("https://models.example/resnet18/latest?sig=secret", "add /VERSION"),
        ("https://user:secret@models.example/resnet18/1", "user name"),
        ("https:///resnet18/1", "needs a host"),
        ("https://models.example:port/resnet18/1", "Port"),
        ("ftp://models.example/resnet18/1", "no place of models.*ftp"),
        ("s3://key:secret@bucket/resnet18/1?colour=red", "s3://bucket/resnet18/1 is no place.*colour"),
        ("s3://key:secret@bucket/resnet 18/1", "no place of models"),
    ],
)
def test_uris_that_cannot_be_used(uri, message, fetch, repository):
    with pytest.raises(InvalidArgument, match=message) as caught:
        fetch(uri)
    assert "secret" not in str(caught.value)
    assert not repository.root.exists()


def test_folders_without_a_model(remote, fetch, tmp_path):
    with pytest.raises(ModelNotFound, match="nowhere does not exist"):
        fetch(str(tmp_path / "nowhere"))
    with pytest.raises(ModelNotFound, match=r"tiny/9/card\.json does not exist"):
        fetch(f"file://{remote}/tiny/9")
    with pytest.raises(ModelNotFound, match=r"neither card\.json nor versions"):
        fetch(str(remote))


def sets(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: change_card(folder, lambda document: document.update(changes))


def artifact(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: change_card(folder, lambda document: document["artifact"].update(changes))


def text(data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "card.json").write_bytes(data)


BAD_CARDS = {
    "no JSON": (text(b"<html>"), "not JSON"),
    "no text": (text(b"\xff\xfe"), "UnicodeDecodeError"),
    "nested": (text(b"[" * 100_000), "is not JSON"),
    "a long number": (text(b'{"schema_version": ' + b"1" * 5000 + b"}"), "is not JSON"),
    "a large file": (text(b" " * (CARD_LIMIT + 1)), f"more than {CARD_LIMIT} bytes"),
    "not a number": (
        lambda folder: change_card(folder, lambda card: card["batch"].update(measured=float("nan"))),
        "ValueError",
    ),
    "another schema": (sets(schema_version=99), "schema version 99"),
    "a path for a name": (sets(name="../../tiny"), "can't name a model"),
    "version 0": (sets(version=0), "no positive version"),
    "another version": (sets(version=7), "can't be renamed"),
    "another identity": (artifact(artifact_id="ar1-" + "0" * 32), "artifact_id"),
    "another precision": (artifact(precision="int8"), "artifact_id"),
}


@pytest.mark.parametrize("case", BAD_CARDS)
def test_a_card_that_is_wrong_is_refused_before_anything_is_written(case, remote, site, fetch, repository):
    spoil, message = BAD_CARDS[case]
    spoil(remote / "tiny" / "1")
    with pytest.raises((ModelFileError, InvalidArgument), match=message):
        fetch(f"{site.url}/tiny/1")
    assert site.requests == ["/tiny/1/card.json"]
    assert not repository.root.exists()


def test_a_name_that_cannot_be_one_is_refused_before_any_request(site, fetch):
    with pytest.raises(InvalidArgument, match="'a/b' can't name a model"):
        fetch(f"{site.url}/tiny/1", name="a/b")
    assert not site.requests


def test_a_card_without_end_is_left(site, fetch):
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" " * 65536)

    site.answers["card.json"] = endless
    with pytest.raises(ModelFileError, match="no model's card"):
        fetch(f"{site.url}/tiny/1")


def honest_card(folder: Path, graph: bytes) -> None:
    """Another graph, and a card that promises just it."""
    from trunkline_service.models.identity import artifact_id, file_sha256

    (folder / "model.onnx").write_bytes(graph)
    digest = file_sha256(folder / "model.onnx")
    artifact(bytes=len(graph), sha256=digest, artifact_id=artifact_id(digest, "fp32"))(folder)


def flip(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def resize(by: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / "model.onnx").read_bytes()
        (folder / "model.onnx").write_bytes(data + bytes(by) if by > 0 else data[:by])

    return change


BAD_GRAPHS = {
    "one bit": (flip, "is not the file that its card promises"),
    "a byte too many": (resize(+1), "more than the .* bytes that its card promises"),
    "a byte missing": (resize(-1), r"ends after \d+ of \d+ bytes"),
    "no model": (lambda folder: honest_card(folder, b"not a model"), "can't load model.onnx"),
    "other outputs": (sets(dim=47), "promises the output"),
}


@pytest.mark.parametrize("place", ["https", "path"])
@pytest.mark.parametrize("case", BAD_GRAPHS)
def test_a_graph_that_is_not_what_the_card_promises_is_not_published(
    case, place, remote, site, fetch, repository
):
    spoil, message = BAD_GRAPHS[case]
    spoil(remote / "tiny" / "1")
    with pytest.raises(ModelFileError, match=message):
        fetch(PLACES[place](remote, site))
    assert list(repository.root.iterdir()) == []


def test_a_failed_pull_leaves_earlier_versions_as_they_were(remote, site, fetch, repository):
    fetch(f"{site.url}/tiny/1")
    before = sorted(repository.root.rglob("*"))
    flip(remote / "tiny" / "2")
    with pytest.raises(ModelFileError):
        fetch(f"{site.url}/tiny/2")
    assert sorted(repository.root.rglob("*")) == before


ANSWERS: dict[str, tuple[Answer, type[Exception], str]] = {
    "not found": (lambda handler: status(handler, 404), ModelNotFound, "HTTP 404"),
    "forbidden": (lambda handler: status(handler, 403), StorageError, "HTTP 403.*credentials"),
    "a fault": (lambda handler: status(handler, 503), StorageError, "HTTP 503"),
    "cut off": (lambda handler: body(handler, b"x" * 50, length=60), StorageError, "10 bytes before its end"),
    "nonsense": (lambda handler: handler.wfile.write(b"220 ftp\r\n"), StorageError, "web server"),
    "silence": (stall, StorageError, "nothing came for 0.2 s"),
    "silence on the way": (lambda handler: stall(handler, b"x" * 50), StorageError, "nothing came for 0.2 s"),
    "a redirect to http": (
        lambda handler: status(handler, 302, Location="http://127.0.0.1/tiny/1/card.json"),
        StorageError,
        "redirects to http://127.0.0.1, which is not encrypted",
    ),
    "a redirect to a file": (
        lambda handler: status(handler, 302, Location="file:///etc/hostname"),
        StorageError,
        "no https address",
    ),
    "a redirect to itself": (
        lambda handler: status(handler, 302, Location=handler.path),
        StorageError,
        "redirects in a circle",
    ),
}


@pytest.mark.parametrize("file", ["card.json", "model.onnx"])
@pytest.mark.parametrize("case", ANSWERS)
def test_what_servers_do(case, file, site, fetch, repository, access):
    answer, error, message = ANSWERS[case]
    site.answers[file] = answer
    with pytest.raises(error, match=message) as caught:
        fetch(f"{site.url}/tiny/1?sig=secret", access=dataclasses.replace(access, stalled_s=0.2))
    assert str(caught.value).startswith(("127.0.0.1:", f"{site.url}/tiny/1/{file}"))
    assert "secret" not in str(caught.value)
    assert not (repository.root / "tiny").exists()


def test_a_redirect_to_https_is_followed(site, fetch):
    site.answers["card.json"] = lambda handler: (
        status(handler, 307, Location=f"{site.url}/tiny/2/card.json?moved")
        if "moved" not in handler.path
        else body(handler, (site.folder / "tiny" / "1" / "card.json").read_bytes())
    )
    assert fetch(f"{site.url}/tiny/1").folder.card.version == 1
    assert site.requests[1] == "/tiny/2/card.json?moved"


def test_nobody_listens(site, fetch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    with pytest.raises(StorageError, match="Connection refused"):
        fetch(f"https://127.0.0.1:{port}/tiny/1")


def test_a_certificate_that_nobody_named_is_not_trusted(site, repository):
    with pytest.raises(StorageError, match=r"certificate is not trusted .*--tls-ca"):
        pull(f"{site.url}/tiny/1", repository)
    assert not site.requests


def test_a_certificate_of_another_host_is_not_trusted(site, fetch):
    with pytest.raises(StorageError, match="certificate is not trusted"):
        fetch(f"https://localhost:{site.server_port}/tiny/1")


def test_the_environment_can_name_the_certificates(site, repository, pem, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(pem[1]))
    assert pull(f"{site.url}/tiny/1", repository).folder.card.version == 1


def test_files_of_certificates_that_are_none(site, repository, pem, tmp_path):
    for path in (tmp_path / "absent.pem", pem[0].with_name("empty.pem")):
        if path.parent != tmp_path:
            path.write_text("")
        with pytest.raises(InvalidArgument, match="certificates to trust"):
            pull(f"{site.url}/tiny/1", repository, access=Access(trust=path))


def test_https_where_no_tls_is_spoken(plain_site, fetch):
    with pytest.raises(StorageError, match="does an https server listen there"):
        fetch(f"https://127.0.0.1:{plain_site.server_port}/tiny/1")


def test_s3_without_the_right_to_read(plain_site, fetch, monkeypatch):
    """A server of ours speaks for S3 here; a real implementation does in the end-to-end tests."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    plain_site.answers["card.json"] = lambda handler: status(handler, 403)
    query = f"endpoint_override=127.0.0.1:{plain_site.server_port}&scheme=http"
    with pytest.raises(
        StorageError, match=r"s3://models/tiny/1/card.json can't be read.*AWS_ACCESS_KEY_ID"
    ) as caught:
        fetch(f"s3://key:secret@models/tiny/1?{query}")
    assert "secret" not in str(caught.value)


def test_two_who_pull_at_once_fetch_once(site, fetch):
    """The second waits for the first, and finds the model there."""
    both_know = threading.Barrier(2, timeout=60)
    graph = (site.folder / "tiny" / "1" / "model.onnx").read_bytes()

    def card(handler: BaseHTTPRequestHandler) -> None:
        both_know.wait()
        body(handler, (site.folder / "tiny" / "1" / "card.json").read_bytes())

    site.answers["card.json"] = card
    site.answers["model.onnx"] = lambda handler: body(handler, graph)
    outcomes: list[bool] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(fetch(f"{site.url}/tiny/1").was_there))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, True]
    assert sorted(site.requests) == ["/tiny/1/card.json"] * 2 + ["/tiny/1/model.onnx"]


PULLING = """
import pathlib, resource, sys
from trunkline_service.errors import TrunklineError
from trunkline_service.models.pull import pull
from trunkline_service.models.repository import ModelRepository

uri, root, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
try:
    pull(uri, ModelRepository(pathlib.Path(root)))
except TrunklineError as exc:
    print(f"{type(exc).__name__}: {exc}")
"""


def test_a_killed_pull_leaves_nothing_visible_and_the_next_clears(plain_site, fetch, repository):
    sent = threading.Event()
    graph = (plain_site.folder / "tiny" / "1" / "model.onnx").read_bytes()
    plain_site.answers["model.onnx"] = lambda handler: stall(handler, graph[:100], sent)
    uri = f"{plain_site.url}/tiny/1"
    process = subprocess.Popen([sys.executable, "-c", PULLING, uri, str(repository.root), "0"])
    try:
        assert sent.wait(60)
    finally:
        process.kill()
        process.wait()
    assert list((repository.root / "tiny").glob(".publishing-*"))
    assert repository.cards() == ([], [])
    with pytest.raises(ModelNotFound):
        repository.resolve("tiny")
    del plain_site.answers["model.onnx"]
    assert not fetch(uri).was_there
    assert not list((repository.root / "tiny").glob(".publishing-*"))


@pytest.mark.parametrize("limit", [1, 200, 1000])
def test_a_disk_that_takes_no_more_is_an_error_and_leaves_nothing(limit, remote, repository):
    """The operating system refuses to write beyond a size: within the graph, or within the card after it."""
    sizes = [(remote / "tiny" / "1" / file).stat().st_size for file in ("model.onnx", "card.json")]
    assert 200 < sizes[0] < 1000 < sizes[1]
    done = subprocess.run(
        [sys.executable, "-c", PULLING, str(remote / "tiny" / "1"), str(repository.root), str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("StorageError: can't write model 'tiny'")
    assert "File too large; nothing was published" in done.stdout
    assert list(repository.root.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (artifact(bytes=-5), "artifact.bytes"),
        (artifact(bytes=2**40), "artifact.bytes"),
        (sets(space_id="\x1b[31mnot a space"), "space_id"),
        (sets(license="free\x1b[2J"), "text"),
        (sets(description="two\nlines"), "text"),
    ],
)
def test_a_card_with_values_that_no_export_writes_is_refused(spoil, named, remote, site, fetch, repository):
    spoil(remote / "tiny" / "1")
    with pytest.raises(ModelFileError, match=rf"values that no export writes \({named}\)"):
        fetch(f"{site.url}/tiny/1")
    assert site.requests == ["/tiny/1/card.json"]
    assert not repository.root.exists()
