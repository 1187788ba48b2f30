"""`trunkline models pull` as a server's machine runs it: from https, from S3, and then images are embedded."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

PIXELS = np.random.default_rng(5).integers(0, 256, (32, 32, 3), np.uint8)
# Of nobody: moto takes any.
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, publish_tiny: Callable[..., Any]) -> Path:
    """The repository of the machine that exports: tiny@1 and tiny@2."""
    root = tmp_path_factory.mktemp("exporter") / "models"
    publish_tiny(root, scale=3.0)
    publish_tiny(root, scale=2.0)
    return root


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def site(published: Path, pem: tuple[Path, Path]) -> Iterator[tuple[str, Path]]:
    """That folder behind https: its address, and its self-signed certificate."""
    key, certificate = pem
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certfile=certificate, keyfile=key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(published)))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", certificate
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def s3(published: Path) -> Iterator[str]:
    """That folder in a bucket of moto's S3, in a process of its own: its ``host:port``."""
    program = shutil.which(
        "moto_server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if program is None:
        pytest.skip("speaking S3 takes moto: pip install 'moto[server]'")
    process = subprocess.Popen(
        [program, "--host", "127.0.0.1", "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"http://(127\.0\.0\.1:\d+)", line) for line in process.stderr)))
        # What it logs from now on is nobody's business, and must not fill the pipe.
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        upload(published, found.group(1))
        yield found.group(1)
        process.kill()
        rest.join()
    finally:
        process.kill()
        process.communicate()


def upload(folder: Path, endpoint: str) -> None:
    from pyarrow import fs

    store = fs.S3FileSystem(
        endpoint_override=endpoint,
        scheme="http",
        region="us-east-1",
        access_key="key",
        secret_key="secret",
        allow_bucket_creation=True,
        # One request for a small file, which every version of moto understands.
        allow_delayed_open=True,
    )
    store.create_dir("models")
    for path in folder.rglob("*/*/*"):
        with store.open_output_stream(f"models/prod/{path.relative_to(folder).as_posix()}") as stream:
            stream.write(path.read_bytes())


@pytest.fixture
def run(cli: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    def checked(*arguments: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        done: subprocess.CompletedProcess[str] = cli(*arguments, cwd=tmp_path, env=clean | environment)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return checked


def embeds_like(run: Callable[..., Any], tmp_path: Path, png: Any, expected: Any) -> None:
    """The pulled model, asked for a vector by the command line."""
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "1.png").write_bytes(png(PIXELS))
    result = json.loads(run("embed", "photos", "--into", "photos", "--model", "tiny", "--json").stdout)
    assert (result["embedded"], result["model"]) == (1, "tiny@2")
    run("collections", "export", "photos", "--to", "photos.parquet")
    (row,) = pq.read_table(tmp_path / "photos.parquet").to_pylist()
    np.testing.assert_allclose(row["embedding"], expected(PIXELS, 2.0), rtol=1e-4)


def test_from_https_to_a_vector(site, run, tmp_path, png, tiny_vector_of):
    url, certificate = site
    done = run("models", "pull", f"{url}/tiny/2", "--tls-ca", str(certificate))
    assert "published tiny@2 in models: dim 48" in done.stdout
    assert "fetching 310 bytes" in done.stderr
    assert "next: trunkline embed FOLDER" in done.stderr
    again = run("models", "pull", f"{url}/tiny/2/", SSL_CERT_FILE=str(certificate))
    assert "tiny@2 is in models already, the same artifact; nothing was fetched" in again.stdout
    assert re.search(r"parity +unverified *\n", run("models", "show", "tiny").stdout)
    embeds_like(run, tmp_path, png, tiny_vector_of)


def test_from_s3_to_a_vector(s3, run, tmp_path, png, tiny_vector_of):
    uri = f"s3://models/prod/tiny?endpoint_override={s3}&scheme=http"
    card = json.loads(run("models", "pull", uri, "--json", **KEYS).stdout)
    assert (card["name"], card["version"], card["dim"]) == ("tiny", 2, 48)
    endpoint = {"AWS_ENDPOINT_URL": f"http://{s3}", "AWS_REGION": "us-east-1"}
    run("models", "pull", "s3://models/prod/tiny/1/", "--name", "older", **KEYS, **endpoint)
    listed = json.loads(run("models", "list", "--json").stdout)
    assert {(card["name"], card["version"]) for card in listed} >= {("tiny", 2), ("older", 1)}
    embeds_like(run, tmp_path, png, tiny_vector_of)


def test_what_s3_has_not_or_does_not_give(s3, run, tmp_path):
    query = f"?endpoint_override={s3}&scheme=http"
    done = run("models", "pull", f"s3://models/prod/tiny/7{query}", status=1, **KEYS)
    assert done.stderr == "trunkline: s3://models/prod/tiny/7/card.json does not exist\n"
    done = run("models", "pull", f"s3://nowhere/tiny{query}", status=1, **KEYS)
    assert done.stderr == "trunkline: s3://nowhere/tiny does not exist: no such bucket\n"
    enforce_keys(s3, "0")
    try:
        for keys in (KEYS, {"AWS_EC2_METADATA_DISABLED": "true"}):
            done = run("models", "pull", f"s3://models/prod/tiny/1{query}", status=1, **keys)
            assert "card.json can't be read" in done.stderr
            assert "Is there a credential in the environment (AWS_ACCESS_KEY_ID" in done.stderr
    finally:
        enforce_keys(s3, "Infinity")
    assert not (tmp_path / "models").exists()


def enforce_keys(endpoint: str, after: str) -> None:
    """Lets moto look at keys, after so many more calls."""
    request = urllib.request.Request(
        f"http://{endpoint}/moto-api/reset-auth", data=after.encode(), headers={"Content-Type": "text/plain"}
    )
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 200


def test_from_a_folder_where_the_machines_share_a_disk(published, run, tmp_path):
    run("models", "pull", str(published / "tiny"), "--models", "own", "--name", "shared")
    assert sorted(entry.name for entry in (tmp_path / "own" / "shared").iterdir()) == [
        ".last-version",
        ".lock",
        "2",
        "config.pbtxt",
    ]
    card = json.loads((tmp_path / "own" / "shared" / "2" / "card.json").read_text())
    assert (card["name"], card["version"]) == ("shared", 2)


def test_what_cannot_be_pulled_says_why_in_a_line(site, run, tmp_path, publish_tiny):
    url, certificate = site
    trusted = ("--tls-ca", str(certificate))
    for arguments, message in (
        ((f"{url}/tiny", *trusted), "add /VERSION"),
        ((f"{url}/tiny/9", *trusted), "does not exist (HTTP 404)"),
        ((f"{url}/tiny/1",), "certificate is not trusted"),
        (("http://models.example/tiny/1",), "not encrypted"),
        ((f"{url}/tiny/1", "--name", "a/b", *trusted), "can't name a model"),
    ):
        done = run("models", "pull", *arguments, status=1)
        assert message in done.stderr
        assert done.stderr.startswith("trunkline: ")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "models").exists()
    publish_tiny(tmp_path / "models")
    done = run("models", "pull", f"{url}/tiny/1", *trusted, status=1)
    assert "take it under another --name" in done.stderr
    assert "No such option" in run("models", "pull", url, "--server", "localhost:1", status=2).stderr
    assert "absent.pem" in run("models", "pull", url, "--tls-ca", "absent.pem", status=2).stderr
