"""Pulling: from which places, under which name, by several at once, by processes that are killed."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler

import pytest
from tests.models.sites import PLACES, body, stall

from trunkline_service.errors import InvalidArgument, ModelFileError, ModelNotFound
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession


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


def test_a_name_that_cannot_be_one_is_refused_before_any_request(site, fetch):
    with pytest.raises(InvalidArgument, match="'a/b' can't name a model"):
        fetch(f"{site.url}/tiny/1", name="a/b")
    assert not site.requests


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
