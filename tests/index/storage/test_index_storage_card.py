"""Cards as JSON: what is written is read, and what can't be right is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import IndexDamaged
from trunkline_service.index.card import CARD_SCHEMA, IndexCard, IndexFile
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage import card_json

CardOf = Callable[..., IndexCard]
FILE = IndexFile("vectors.f32", 12, "0" * 64)


def summed(document: dict[str, Any]) -> str:
    """The card with the sum that it should have."""
    summed = {key: value for key, value in document.items() if key not in ("schema_version", "sha256")}
    return json.dumps({**document, "sha256": card_json.sum_of(json.loads(json.dumps(summed)))})


def test_a_change_that_could_be_right_is_found(card_of: CardOf) -> None:
    text = card_json.dumps(card_of(reason="it finds 0.99"))
    with pytest.raises(IndexDamaged, match="was changed"):
        card_json.loads(text.replace("0.99", "0.98", 1))


def test_what_is_written_is_read(card_of: CardOf) -> None:
    for card in (card_of(files=(FILE,)), card_of(recall=None, settings=(), kind="flat")):
        assert card_json.loads(card_json.dumps(card)) == card


@given(
    st.sampled_from(["auto", "flat", "hnsw"]),
    st.floats(0.01, 1),
    st.integers(1, 1000),
    st.none() | st.integers(1, 10**6),
)
def test_options_that_are_written_are_read(kind: Any, recall: float, k: int, memory_mb: int | None) -> None:
    options = IndexOptions(kind, recall, k, memory_mb)
    assert card_json.loads_options(card_json.dumps_options(options), "here") == options


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema_version": CARD_SCHEMA + 1}, "schema version 2.*Trunkline that wrote it"),
        ({"schema_version": True}, "schema version"),
        ({"extra": 1}, "unknown.*extra"),
        ({"rows": "many"}, "rows must be int"),
        ({"rows": True}, "rows must be int"),
        ({"rows": 2**70}, "rows must be int"),
        ({"version": 2}, "build is"),
        ({"collection": "../x"}, "collection is"),
        ({"uid": "a/b"}, "uid is"),
        ({"kind": "tree"}, "kind is"),
        ({"metric": "hamming"}, "metric is"),
        ({"created_at": "yesterday"}, "created_at is"),
        ({"created_at": "2026-01-01T00:00:00"}, "created_at is"),
        ({"recall": {"k": 10}}, "recall lacks"),
        ({"settings": [3]}, "must be an object"),
        ({"parameters": {"nlist": 1.5}}, "parameters.nlist must be int"),
        ({"made_by": {"faiss": 1}}, "made_by.faiss must be str"),
        ({"files": [{"name": "x", "size": -1, "sha256": "0" * 64}]}, "size or SHA-256"),
        ({"files": [{"name": "x", "size": 1, "sha256": "0"}]}, "size or SHA-256"),
        ({"files": [{"name": "a/x", "size": 1, "sha256": "0" * 64}]}, "files are called"),
        ({"files": [{"name": "card.json", "size": 1, "sha256": "0" * 64}]}, "files are called"),
        ({"files": [{"name": "x", "size": 1, "sha256": "0" * 64}] * 2}, "files are called"),
        ({"options": {"kind": "auto", "recall": 2.0, "k": 1, "memory_mb": None}}, "recall is 2"),
    ],
)
def test_what_cannot_be_right_is_refused(card_of: CardOf, change: dict[str, Any], word: str) -> None:
    document = json.loads(card_json.dumps(card_of()))
    with pytest.raises(IndexDamaged, match=f"^the card.*{word}"):
        card_json.loads(summed({**document, **change}))


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', b"\xff"]
)
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(IndexDamaged):
        card_json.loads(text)


def test_a_field_that_is_missing_is_named(card_of: CardOf) -> None:
    document = json.loads(card_json.dumps(card_of()))
    for name in document.keys() - {"sha256"}:
        without = {key: value for key, value in document.items() if key != name}
        with pytest.raises(IndexDamaged, match=name if name != "schema_version" else "schema version None"):
            card_json.loads(summed(without))
