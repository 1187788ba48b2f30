"""Pulling models that are not what they promise: cards, graphs, and what is left of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.models.sites import PLACES

from trunkline_service.errors import InvalidArgument, ModelFileError
from trunkline_service.models.pull import CARD_LIMIT


def change_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "card.json").read_text())
    change(document)
    (folder / "card.json").write_text(json.dumps(document))


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
