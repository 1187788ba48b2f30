"""Pulling from web servers: what they answer, whom they redirect to, which certificates are trusted."""

from __future__ import annotations

import dataclasses
from http.server import ThreadingHTTPServer

import pytest
from tests.models.sites import Answer, Handler, body, stall, status

from trunkline_service.errors import InvalidArgument, ModelNotFound, StorageError
from trunkline_service.models.pull import pull
from trunkline_service.models.web import Access


@pytest.mark.parametrize(
    "host", ["models.example", "10.0.0.1", "localhost.example", "127.0.0.1.example", "[::2]"]
)
def test_http_is_for_this_machine_alone(host, fetch):
    with pytest.raises(InvalidArgument, match="not encrypted"):
        fetch(f"http://{host}/tiny/1")


def test_http_of_this_machine_and_no_proxy_on_the_way(plain_site, fetch, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(f"{plain_site.url}/tiny/1").folder.card.version == 1


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
