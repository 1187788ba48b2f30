"""Promote, roll back, aliases, shadow: the same laws in a folder and in an object store."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.heads.storage.conftest import Opening, Saying, answer

from trunkline_service.errors import (
    FailedPrecondition,
    HeadNotFound,
    InvalidArgument,
    ModelFileError,
    StorageError,
)
from trunkline_service.heads.storage.pointer import Pointer
from trunkline_service.heads.storage.registry import HeadRegistry


def test_promote_and_roll_back(three: HeadRegistry) -> None:
    assert answer(three, "flowers") == "c3"
    assert three.promote("flowers", 1).ref == "flowers@1"
    assert answer(three, "flowers") == "c1"
    assert three.rollback("flowers").ref == "flowers@3"
    assert three.rollback("flowers").ref == "flowers@2"
    assert answer(three, "flowers") == "c2"
    assert answer(three, "flowers@3") == "c3"
    assert three.rollback("flowers").ref == "flowers@1"
    with pytest.raises(FailedPrecondition, match="nothing served before version 1"):
        three.rollback("flowers")
    assert answer(three, "flowers") == "c1"


def test_the_same_rollback_twice_goes_back_once(three: HeadRegistry) -> None:
    assert three.rollback("flowers", serving=3).version == 2
    assert three.rollback("flowers", serving=3).version == 2
    assert three.pointer("flowers") == Pointer(2, (1,))


def test_a_candidate_does_not_serve_until_it_is_promoted(registry: HeadRegistry, saying: Saying) -> None:
    registry.save(saying(1), "flowers", promote=False)
    with pytest.raises(FailedPrecondition, match=r"no version of head 'flowers' serves yet.*flowers@1"):
        registry.load("flowers")
    assert answer(registry, "flowers@1") == "c1"
    assert registry.entry("flowers").card.version == 1
    assert [entry.pointer.serving for entry in registry.list()] == [None]
    registry.promote("flowers", 1)
    registry.save(saying(2), "flowers", promote=False)
    assert answer(registry, "flowers") == "c1"
    assert registry.versions("flowers") == [1, 2]
    registry.promote("flowers", 2)
    assert registry.rollback("flowers").version == 1


def test_aliases_stand_for_versions(three: HeadRegistry) -> None:
    three.set_alias("flowers", "prod", 1)
    three.set_alias("flowers", "beta", 3)
    assert [answer(three, f"flowers@{alias}") for alias in ("prod", "beta")] == ["c1", "c3"]
    three.set_alias("flowers", "prod", 2)
    assert three.card("flowers@prod").version == 2
    three.delete_alias("flowers", "beta")
    assert three.pointer("flowers").aliases == {"prod": 2}
    with pytest.raises(HeadNotFound, match="no alias 'beta'; it has prod"):
        three.load("flowers@beta")
    with pytest.raises(HeadNotFound, match="no alias 'beta'"):
        three.delete_alias("flowers", "beta")
    for word in ("7", "../x", "", "a@b"):
        with pytest.raises(InvalidArgument, match="can't be an alias"):
            three.set_alias("flowers", word, 1)


def test_what_is_not_there_gets_no_role(three: HeadRegistry) -> None:
    before = three.pointer("flowers")
    for use in (
        lambda: three.promote("flowers", 4),
        lambda: three.set_alias("flowers", "prod", 4),
        lambda: three.set_shadow("flowers", 4),
        lambda: three.delete("flowers@4"),
    ):
        with pytest.raises(HeadNotFound, match="has no version 4; its newest versions are 1, 2, 3"):
            use()
    for use in (
        lambda: three.promote("flower", 1),
        lambda: three.rollback("flower"),
        lambda: three.set_shadow("flower", None),
        lambda: three.delete("flower"),
        lambda: three.pointer("flower"),
        lambda: three.delete_alias("flower", "prod"),
    ):
        with pytest.raises(HeadNotFound, match="did you mean 'flowers'"):
            use()
    for use in (
        lambda: three.promote("../x", 1),
        lambda: three.rollback("../x"),
        lambda: three.delete("../x"),
        lambda: three.set_alias("a/b", "prod", 1),
    ):
        with pytest.raises(InvalidArgument, match="can't name a head"):
            use()
    assert three.pointer("flowers") == before


def test_a_shadow(three: HeadRegistry) -> None:
    assert three.shadow("flowers", 3) is None
    three.set_shadow("flowers", 1)
    assert three.shadow("flowers", 3) == 1
    assert three.shadow("flowers", 2) is None
    with pytest.raises(FailedPrecondition, match="version 3 of head 'flowers' serves"):
        three.set_shadow("flowers", 3)
    three.set_shadow("flowers", None)
    assert three.shadow("flowers", 3) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space_id": "sp1-" + "f" * 32}, "takes embeddings of space sp1-ffff"),
        ({"task": "multi-label"}, "is for multi-label, and flowers@3 for single-label"),
        ({"classes": tuple(f"d{k}" for k in range(12))}, r"has other classes than flowers@3 \(c0, c1"),
    ],
)
def test_what_differs_in_kind_can_be_no_shadow(
    three: HeadRegistry, saying: Saying, change: dict[str, Any], words: str
) -> None:
    three.save(dataclasses.replace(saying(1), **change), "flowers", promote=False)
    with pytest.raises(
        FailedPrecondition, match=f"flowers@4 can't run beside flowers@3: it {words}.*migrate"
    ):
        three.set_shadow("flowers", 4)
    assert three.shadow("flowers", 3) is None


def test_a_reference_where_a_name_is_meant(three: HeadRegistry) -> None:
    with pytest.raises(
        InvalidArgument, match="'flowers@1' is a reference; give the name of the head, 'flowers'"
    ):
        three.promote("flowers@1", 1)


def test_reports_stand_beside_the_card(three: HeadRegistry, opening: Opening) -> None:
    assert three.read_report("flowers") is None
    three.write_report("flowers@2", b'{"a": 1}')
    three.write_report("flowers@2", b'{"a": 2}')
    assert opening().read_report("flowers@2") == b'{"a": 2}'
    assert three.read_report("flowers") is None
    with pytest.raises(HeadNotFound):
        three.write_report("flowers@9", b"")


def test_a_version_that_cannot_be_loaded_is_not_promoted(three: HeadRegistry) -> None:
    three._store.write("flowers", 1, "head.onnx", b"junk")
    with pytest.raises(ModelFileError, match="changed or damaged"):
        three.promote("flowers", 1)
    assert answer(three, "flowers") == "c3"


def test_a_broken_pointer_is_named(three: HeadRegistry, opening: Opening) -> None:
    three._store.update_pointer("flowers", lambda _: b"{")
    for use in (three.load, three.card, opening().load):
        with pytest.raises(ModelFileError, match=r"heads/flowers/pointer\.json is not valid JSON"):
            use("flowers")
    assert answer(three, "flowers@2") == "c2"


def test_a_place_that_is_not_there_says_so(s3_environment: dict[str, str], saying: Saying) -> None:
    registry = HeadRegistry("s3://no-such-bucket/data")
    for use in (registry.names, lambda: registry.load("flowers"), lambda: registry.save(saying(), "flowers")):
        with pytest.raises(StorageError, match=r"no-such-bucket|NoSuchBucket|404"):
            use()
