from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fit import FittedHead
from trunkline_service.heads.storage.registry import HeadRegistry


@pytest.fixture
def card(tmp_path: Path, fitted: FittedHead) -> HeadCard:
    return HeadRegistry(tmp_path, trunkline_version="1.2.3").save(fitted, "flowers")


def test_a_card_survives_json(card: HeadCard) -> None:
    assert HeadCard.loads(card.dumps()) == card
    assert card.ref == "flowers@1"
    assert list(json.loads(card.dumps()))[:3] == ["schema_version", "name", "version"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 3}, "schema_version 3; this Trunkline reads 1 and 2"),
        ({"schema_version": "1"}, "schema_version must be int"),
        ({"surprise": 1}, "has unknown surprise"),
        ({"name": "../x"}, "name is '../x'"),
        ({"version": 0}, "version is 0"),
        ({"version": True}, "version must be int"),
        ({"dim": 0}, "dim is 0"),
        ({"classes": ["a", 1]}, r"classes\[1\] must be str"),
        ({"classes": ["a", "a"]}, "classes is"),
        ({"temperature": 0}, "temperature is 0"),
        ({"head_sha256": "abc"}, "head_sha256 is 'abc'"),
        ({"created_at": "yesterday"}, "created_at is 'yesterday'"),
        ({"created_at": "2026-01-01T00:00:00"}, "created_at is"),
        ({"notes": "none"}, "notes must be list"),
        ({"convergence": {"converged": 1, "gradient_norm": 0, "iterations": 0}}, "converged must be bool"),
        ({"version": 2**40}, "version is 1099511627776"),
        ({"collection_version": -1}, "collection_version is -1"),
        ({"collection_version": 2**70}, "collection_version is"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": 10**400}, "temperature is 1000.*, which is too large"),
        ({"group": 1}, "group must be str"),
        ({"metrics": {}}, "metrics lacks"),
    ],
)
def test_a_changed_card_is_refused(card: HeadCard, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        HeadCard.from_json(card.to_json() | change)


def test_missing_keys_are_named(card: HeadCard) -> None:
    document = card.to_json()
    del document["space_id"], document["rows"]
    with pytest.raises(ModelFileError, match="lacks rows, space_id"):
        HeadCard.from_json(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "holds list"),
        ("null", "holds NoneType"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": 1e400}', "1e400 is too large"),
        ('{"a": "\\ud800"}', "not valid JSON"),
        ('{"a": 1, "a": 2}', "a key stands twice"),
        ("[" * 100_000, "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
    ],
)
def test_text_that_is_no_card(text: str | bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        HeadCard.loads(text, "card.json")
