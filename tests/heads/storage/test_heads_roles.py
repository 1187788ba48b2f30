"""Promote, roll back, aliases, shadow, delete: the same laws in a folder and in an object store."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import (
    FailedPrecondition,
    HeadNotFound,
    InvalidArgument,
    ModelFileError,
    StorageError,
)
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.storage.pointer import Pointer
from trunkline_service.heads.storage.registry import HeadRegistry

Saying = Callable[..., FittedHead]
Opening = Callable[..., HeadRegistry]


@pytest.fixture(params=["folder", "s3"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """Registries over the same data, each without any memory of the others."""
    data = tmp_path if request.param == "folder" else request.getfixturevalue("s3_data")
    return lambda **options: HeadRegistry(data, **options)


@pytest.fixture
def registry(opening: Opening) -> HeadRegistry:
    return opening()


@pytest.fixture
def three(registry: HeadRegistry, saying: Saying) -> HeadRegistry:
    """A registry with versions 1 to 3 of ``flowers``; version n answers ``cn``."""
    for version in (1, 2, 3):
        registry.save(saying(version), "flowers")
    return registry


def answer(registry: HeadRegistry, ref: str) -> str:
    """The class that a head answers."""
    head = registry.load(ref)
    rows = head.probabilities(np.zeros((1, 3), np.float32), head.card.space_id)
    return head.card.classes[int(rows[0].argmax())]


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


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


def test_a_reference_where_a_name_is_meant(three: HeadRegistry) -> None:
    with pytest.raises(
        InvalidArgument, match="'flowers@1' is a reference; give the name of the head, 'flowers'"
    ):
        three.promote("flowers@1", 1)


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


def test_movers_at_once_lose_nothing(three: HeadRegistry, opening: Opening) -> None:
    """Eight registries, as eight processes would: each alias is there, each promote is in the history."""

    def move(number: int) -> None:
        registry = opening()
        registry.set_alias("flowers", f"a{number}", 1 + number % 3)
        registry.promote("flowers", 1 + number % 2)

    in_threads(8, move)
    pointer = opening().pointer("flowers")
    assert pointer.aliases == {f"a{number}": 1 + number % 3 for number in range(8)}
    # Each promote of another version than the serving one left that one behind.
    chain = [*pointer.history, pointer.serving]
    assert chain[:3] == [1, 2, 3]
    assert set(chain[3:]) == {1, 2}
    assert all(one != next_one for one, next_one in itertools.pairwise(chain))


def test_savers_at_once_get_versions_of_their_own(opening: Opening, saying: Saying) -> None:
    savers = 6
    found = in_threads(savers, lambda number: opening().save(saying(number), "flowers").version)
    assert sorted(found) == list(range(1, savers + 1))
    registry = opening()
    assert {number: answer(registry, f"flowers@{version}") for number, version in enumerate(found)} == {
        number: f"c{number}" for number in range(savers)
    }
    pointer = registry.pointer("flowers")
    assert (pointer.serving, sorted(pointer.history)) == (savers, list(range(1, savers)))


def test_deleting_and_promoting_at_once_never_leaves_a_head_that_serves_nothing(
    opening: Opening, saying: Saying
) -> None:
    registry = opening()
    for number in range(4):
        registry.save(saying(number), "flowers")

    def move(number: int) -> bool:
        try:
            if number % 2:
                opening().promote("flowers", 2)
            else:
                opening().delete("flowers@2")
        except (HeadNotFound, FailedPrecondition, ModelFileError):
            return False
        return True

    done = in_threads(4, move)
    fresh = opening()
    deleted, promoted = any(done[0::2]), any(done[1::2])
    assert deleted != promoted
    assert answer(fresh, "flowers") == ("c1" if promoted else "c3")
    assert (2 in fresh.versions("flowers")) == promoted


def test_what_another_registry_moves_is_seen(opening: Opening, saying: Saying) -> None:
    now = [0.0]
    reader, writer = opening(monotonic=lambda: now[0]), opening()
    writer.save(saying(1), "flowers")
    assert answer(reader, "flowers") == "c1"
    writer.save(saying(2), "flowers")
    now[0] += 1.0
    assert answer(reader, "flowers") == "c2"
    writer.rollback("flowers")
    now[0] += 1.0
    assert answer(reader, "flowers") == "c1"
    writer.delete("flowers")
    writer.save(saying(3), "flowers")
    now[0] += 1.0
    assert answer(reader, "flowers") == "c3"


def test_a_place_that_is_not_there_says_so(s3_environment: dict[str, str], saying: Saying) -> None:
    registry = HeadRegistry("s3://no-such-bucket/data")
    for use in (registry.names, lambda: registry.load("flowers"), lambda: registry.save(saying(), "flowers")):
        with pytest.raises(StorageError, match=r"no-such-bucket|NoSuchBucket|404"):
            use()
