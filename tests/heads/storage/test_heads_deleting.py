"""Heads and versions that are deleted: with a role, meanwhile, after their process was killed."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.heads.storage.conftest import Opening, Saying, answer

from trunkline_service.errors import FailedPrecondition, HeadNotFound, InvalidArgument, ModelFileError
from trunkline_service.heads.storage.pointer import Pointer
from trunkline_service.heads.storage.registry import HeadRegistry


@pytest.mark.parametrize("promote", [True, False])
def test_a_head_that_is_dropped_while_it_is_saved(
    opening: Opening, saying: Saying, monkeypatch: pytest.MonkeyPatch, promote: bool
) -> None:
    one, other = opening(), opening()
    for _ in range(3):
        one.save(saying(1), "flowers")
    publish = one._store.publish

    def dropped(name: str, *rest: Any) -> int:
        version = publish(name, *rest)
        other.delete(name)
        one._store.pointer(name)
        return version

    with monkeypatch.context() as patch:
        patch.setattr(one._store, "publish", dropped)
        if promote:
            with pytest.raises(
                FailedPrecondition, match=r"dropped meanwhile, and with it version 4.*save it again"
            ):
                one.save(saying(1), "flowers")
    card = one.save(saying(2), "flowers")
    assert opening().pointer("flowers").serving == card.version
    assert answer(opening(), "flowers") == "c2"


def test_a_candidate_never_serves_where_its_head_is_dropped_meanwhile(
    tmp_path: Path, saying: Saying, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = HeadRegistry(tmp_path), HeadRegistry(tmp_path)
    one.save(saying(1), "flowers")
    publish = one._store.publish

    def dropped(*args: Any) -> int:
        other.delete("flowers")
        return publish(*args)

    monkeypatch.setattr(one._store, "publish", dropped)
    one.save(saying(2), "flowers", promote=False)
    assert one.pointer("flowers").serving is None


def test_a_head_that_is_dropped_while_a_version_is_promoted(
    tmp_path: Path, saying: Saying, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = HeadRegistry(tmp_path), HeadRegistry(tmp_path)
    one.save(saying(1), "flowers")
    load = one.load

    def dropped(ref: str) -> Any:
        head = load(ref)
        other.delete("flowers")
        return head

    monkeypatch.setattr(one, "load", dropped)
    with pytest.raises(HeadNotFound, match="version 1 of head 'flowers' was deleted"):
        one.promote("flowers", 1)
    assert not (tmp_path / "heads" / "flowers").exists()


def test_a_broken_pointer_can_be_dropped_or_deleted(tmp_path: Path, saying: Saying) -> None:
    registry = HeadRegistry(tmp_path)
    for version in (1, 2):
        registry.save(saying(version), "flowers")
    pointer = tmp_path / "heads" / "flowers" / "pointer.json"
    pointer.write_bytes(b"{")
    with pytest.raises(
        ModelFileError, match=r"Or delete heads/flowers/pointer.json: the newest version serves"
    ):
        registry.check_pointer("flowers")
    pointer.unlink()
    assert answer(registry, "flowers") == "c2"
    pointer.write_bytes(b"{")
    registry.delete("flowers")
    assert registry.names() == []
    registry.check_pointer("flowers")


def test_what_killed_processes_left_goes_after_a_day(tmp_path: Path, saying: Saying) -> None:
    now = datetime(2026, 1, 3, tzinfo=UTC)
    registry = HeadRegistry(tmp_path, clock=lambda: now)
    registry.save(saying(1), "flowers")
    heads = tmp_path / "heads"
    home = heads / "flowers"
    left = [home / ".saving-a", home / ".dropped-b", home / ".pointer.json.c", heads / ".dropped-d"]
    young = [path.with_name(f"{path.name}2") for path in left]
    for path in (*left, *young):
        path.touch() if "json" in path.name else path.mkdir()
        age = timedelta(hours=25 if path in left else 23)
        os.utime(path, ((now - age).timestamp(),) * 2)
    registry.save(saying(2), "flowers")
    assert [path.exists() for path in left] == [False] * 4
    assert [path.exists() for path in young] == [True] * 4
    assert answer(registry, "flowers") == "c2"


def test_a_version_that_has_a_role_is_not_deleted(three: HeadRegistry) -> None:
    three.set_alias("flowers", "prod", 1)
    three.set_shadow("flowers", 2)
    for version, words in ((1, "alias 'prod'"), (2, "the shadow"), (3, "serving")):
        with pytest.raises(FailedPrecondition, match=f"version {version} .* can't be deleted: .*{words}"):
            three.delete(f"flowers@{version}")
    with pytest.raises(InvalidArgument, match="is an alias"):
        three.delete("flowers@prod")
    assert three.versions("flowers") == [1, 2, 3]


def test_a_deleted_version_is_gone_and_its_number_is_not_given_again(
    three: HeadRegistry, saying: Saying, opening: Opening
) -> None:
    three.rollback("flowers")
    three.delete("flowers@3")
    assert three.versions("flowers") == [1, 2]
    with pytest.raises(HeadNotFound, match="no version 3"):
        three.load("flowers@3")
    assert opening().save(saying(4), "flowers").version == 4
    three.delete("flowers@1")
    with pytest.raises(FailedPrecondition, match="can't be deleted: it is serving"):
        opening().delete("flowers@4")
    assert opening().rollback("flowers").version == 2
    with pytest.raises(FailedPrecondition, match="nothing served before version 2"):
        opening().rollback("flowers")


def test_a_whole_head_is_deleted_and_can_come_again(
    three: HeadRegistry, saying: Saying, opening: Opening
) -> None:
    three.set_alias("flowers", "prod", 1)
    three.write_report("flowers", b"{}")
    three.save(saying(5), "trees")
    three.delete("flowers")
    for registry in (three, opening()):
        assert registry.names() == ["trees"]
        for ref in ("flowers", "flowers@1", "flowers@prod"):
            with pytest.raises(HeadNotFound, match="no head is called 'flowers'; there are trees"):
                registry.load(ref)
    assert three.save(saying(7), "flowers").ref == "flowers@1"
    assert answer(three, "flowers") == "c7"
    assert three.pointer("flowers") == Pointer(1)
