from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import HeadNotFound, InvalidArgument, ModelFileError, StorageError
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.logistic import fit_logistic
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.storage.local import LocalStore
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.heads.training.training_set import TrainingSet

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> HeadRegistry:
    return HeadRegistry(tmp_path, trunkline_version="1.2.3", clock=lambda: NOON)


def edit_card(path: Path, **changes: Any) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(document | changes), encoding="utf-8")


def test_a_head_is_saved_as_a_folder_with_its_card(
    registry: HeadRegistry, fitted: FittedHead, tmp_path: Path
) -> None:
    card = registry.save(fitted, "flowers")
    folder = tmp_path / "heads" / "flowers" / "1"
    assert sorted(p.name for p in folder.iterdir()) == ["card.json", "head.onnx"]
    assert sorted(p.name for p in folder.parent.iterdir()) == ["1", "pointer.json"]
    assert card.head_sha256 == hashlib.sha256((folder / "head.onnx").read_bytes()).hexdigest()
    assert card.created_at == "2026-01-02T12:00:00+00:00"
    assert card.trunkline_version == "1.2.3"
    assert (card.kind, card.dim, card.model, card.rows) == ("logistic", 4, "trunkline-small@1", 150)
    assert (card.classes, card.metrics, card.notes) == (fitted.classes, fitted.evaluation, fitted.notes)
    assert registry.card("flowers") == card


def test_versions_count_up_and_the_newest_is_served_at_once(
    registry: HeadRegistry, fitted: FittedHead
) -> None:
    registry.save(fitted, "flowers")
    assert registry.load("flowers").card.version == 1
    registry.save(dataclasses.replace(fitted, notes=("second",)), "flowers")
    assert registry.load("flowers").card.notes == ("second",)
    assert registry.load("flowers@1").card.version == 1
    assert registry.versions("flowers") == [1, 2]


def test_version_10_is_newer_than_9(registry: HeadRegistry, fitted: FittedHead) -> None:
    for _ in range(10):
        registry.save(fitted, "flowers")
    assert registry.card("flowers").version == 10


def test_the_list_has_the_serving_version_of_each(registry: HeadRegistry, fitted: FittedHead) -> None:
    assert registry.list() == []
    for name in ("b", "a", "b"):
        registry.save(fitted, name)
    assert [entry.card.ref for entry in registry.list()] == ["a@1", "b@2"]
    assert registry.names() == ["a", "b"]


def test_a_version_is_loaded_once(registry: HeadRegistry, fitted: FittedHead) -> None:
    registry.save(fitted, "flowers")
    assert registry.load("flowers") is registry.load("flowers@1")


def test_a_folder_that_was_made_anew_is_loaded_anew(
    registry: HeadRegistry, fitted: FittedHead, tmp_path: Path
) -> None:
    registry.save(fitted, "flowers")
    registry.load("flowers")
    shutil.rmtree(tmp_path / "heads" / "flowers")
    with pytest.raises(HeadNotFound):
        registry.load("flowers@1")
    registry.save(dataclasses.replace(fitted, notes=("anew",)), "flowers")
    assert registry.load("flowers@1").card.notes == ("anew",)


def test_few_heads_stay_loaded(tmp_path: Path, fitted: FittedHead) -> None:
    registry = HeadRegistry(tmp_path, max_loaded=2)
    for name in ("a", "b", "c"):
        registry.save(fitted, name)
    first = registry.load("a")
    registry.load("b")
    assert registry.load("a") is first
    second = registry.load("b")
    registry.load("a")
    registry.load("c")
    assert registry.load("a") is first
    assert registry.load("b") is not second


def test_unknown_names_and_versions(registry: HeadRegistry, fitted: FittedHead) -> None:
    with pytest.raises(HeadNotFound, match="heads fit"):
        registry.load("flowers")
    registry.save(fitted, "flowers")
    with pytest.raises(HeadNotFound, match="did you mean 'flowers'"):
        registry.card("flower")
    with pytest.raises(HeadNotFound, match="no head is called 'zzz'; there are flowers"):
        registry.versions("zzz")
    with pytest.raises(HeadNotFound, match="no version 4; its only version is 1"):
        registry.load("flowers@4")


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".x"])
def test_names_do_not_leave_the_folder(
    registry: HeadRegistry, fitted: FittedHead, tmp_path: Path, name: str
) -> None:
    for call in (lambda: registry.save(fitted, name), lambda: registry.load(name)):
        with pytest.raises(InvalidArgument):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_uri_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"'ftp://host/data'.*s3://"):
        HeadRegistry("ftp://host/data")


def test_a_file_uri_is_a_folder(fitted: FittedHead, tmp_path: Path) -> None:
    HeadRegistry(f"file://{tmp_path}").save(fitted, "flowers")
    assert HeadRegistry(tmp_path).names() == ["flowers"]


def test_other_things_in_the_folder_are_passed_by(
    registry: HeadRegistry, fitted: FittedHead, tmp_path: Path
) -> None:
    registry.save(fitted, "flowers")
    heads = tmp_path / "heads"
    (heads / ".DS_Store").write_text("")
    (heads / "empty").mkdir()
    (heads / "flowers" / ".saving-left-by-a-crash").mkdir()
    (heads / "flowers" / "007").mkdir()
    (heads / "flowers" / "2").write_text("a file where the next version goes")
    assert [entry.card.ref for entry in registry.list()] == ["flowers@1"]
    assert registry.save(fitted, "flowers").version == 3


def test_labels_of_any_writing_survive(registry: HeadRegistry, blobs: Callable[..., TrainingSet]) -> None:
    labels = ["<script>alert(1)</script>", "日本語", 'quo"te\\', "new\nline", "é", "e\u0301", "nul\0", "🌸 "]
    head = fit_logistic(blobs([6] * len(labels), labels), FitOptions(grid=(1.0,)))
    registry.save(head, "odd")
    assert registry.load("odd").card.classes == tuple(sorted(labels))


def test_savers_at_once_get_versions_of_their_own(tmp_path: Path, fitted: FittedHead) -> None:
    savers = 8
    barrier = Barrier(savers)

    def save(i: int) -> tuple[int, str]:
        barrier.wait()
        registry = HeadRegistry(tmp_path)
        return registry.save(
            dataclasses.replace(fitted, notes=(f"saver {i}",)), "flowers"
        ).version, f"saver {i}"

    with ThreadPoolExecutor(savers) as pool:
        saved = dict(pool.map(save, range(savers)))
    assert sorted(saved) == list(range(1, savers + 1))
    registry = HeadRegistry(tmp_path)
    assert {v: registry.load(f"flowers@{v}").card.notes[0] for v in saved} == saved
    names = {str(version) for version in saved} | {"pointer.json"}
    assert {path.name for path in (tmp_path / "heads" / "flowers").iterdir()} == names
    pointer = registry.pointer("flowers")
    assert pointer.serving == savers
    assert sorted(pointer.history) == list(range(1, savers))


def test_a_version_taken_meanwhile_is_not_overwritten(tmp_path: Path, fitted: FittedHead) -> None:
    store = LocalStore(tmp_path / "heads")
    assert store.publish("flowers", 1, b"first", lambda version: str(version).encode()) == 1
    assert store.publish("flowers", 1, b"second", lambda version: str(version).encode()) == 2
    assert [store.read("flowers", version, "head.onnx") for version in (1, 2)] == [b"first", b"second"]
    assert store.read("flowers", 2, "card.json") == b"2"


def test_readers_see_whole_versions_while_savers_write(tmp_path: Path, fitted: FittedHead) -> None:
    registry = HeadRegistry(tmp_path)
    registry.save(fitted, "flowers")

    def read(_: int) -> int:
        return registry.load("flowers").card.version

    with ThreadPoolExecutor(4) as pool:
        saves = [pool.submit(registry.save, fitted, "flowers") for _ in range(10)]
        seen = list(pool.map(read, range(40)))
        newest = max(save.result().version for save in saves)
    assert newest == 11
    assert set(seen) <= set(range(1, 12))
    assert registry.load("flowers").card.version == 11


@pytest.mark.parametrize("at", ["head.onnx", "card.json"])
def test_a_full_disk_leaves_the_version_before(
    registry: HeadRegistry, fitted: FittedHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    before = registry.save(fitted, "flowers")
    real_fsync = os.fsync

    def fsync(handle: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{handle}")).name == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match=r"No space left on device.*earlier versions are untouched"):
        registry.save(fitted, "flowers")
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "heads" / "flowers").iterdir()) == ["1", "pointer.json"]
    assert registry.load("flowers").card == before
    assert registry.save(fitted, "flowers").version == 2


def test_a_full_disk_under_the_pointer_leaves_what_serves(
    registry: HeadRegistry, fitted: FittedHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = registry.save(fitted, "flowers")
    real_fsync = os.fsync

    def fsync(handle: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{handle}")).name.startswith(".pointer.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match=r"No space left on device.*What served before still does"):
        registry.save(fitted, "flowers")
    monkeypatch.undo()
    assert registry.load("flowers").card == before
    assert registry.versions("flowers") == [1, 2]
    assert registry.promote("flowers", 2).version == 2


def test_a_folder_that_cannot_be_made(tmp_path: Path, fitted: FittedHead) -> None:
    (tmp_path / "heads").write_text("a file")
    with pytest.raises(StorageError, match="can't be saved"):
        HeadRegistry(tmp_path).save(fitted, "flowers")


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:50] + b"\0" + b[51:], lambda b: b""])
def test_a_damaged_head_is_not_loaded(
    registry: HeadRegistry, fitted: FittedHead, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    registry.save(fitted, "flowers")
    path = tmp_path / "heads" / "flowers" / "1" / "head.onnx"
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(ModelFileError, match=r"head\.onnx has SHA-256 .* changed or damaged"):
        registry.load("flowers")
    assert registry.card("flowers").version == 1


@pytest.mark.parametrize("missing", ["head.onnx", "card.json"])
def test_a_missing_file_is_named(
    registry: HeadRegistry, fitted: FittedHead, tmp_path: Path, missing: str
) -> None:
    registry.save(fitted, "flowers")
    (tmp_path / "heads" / "flowers" / "1" / missing).unlink()
    with pytest.raises(ModelFileError, match=f"heads/flowers/1/{missing} is missing"):
        registry.load("flowers")


def test_a_broken_card_is_named(registry: HeadRegistry, fitted: FittedHead, tmp_path: Path) -> None:
    registry.save(fitted, "flowers")
    path = tmp_path / "heads" / "flowers" / "1" / "card.json"
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    for call in (registry.load, registry.card):
        with pytest.raises(ModelFileError, match=r"card\.json is not valid JSON"):
            call("flowers")
    with pytest.raises(ModelFileError, match=r"card\.json is not valid JSON"):
        registry.list()


@pytest.mark.parametrize("change", [{"name": "trees"}, {"version": 2}])
def test_a_card_of_another_head_is_refused(
    registry: HeadRegistry, fitted: FittedHead, tmp_path: Path, change: dict[str, Any]
) -> None:
    registry.save(fitted, "flowers")
    edit_card(tmp_path / "heads" / "flowers" / "1" / "card.json", **change)
    with pytest.raises(ModelFileError, match="in the folder of flowers@1"):
        registry.load("flowers")


def test_a_card_that_claims_another_dim_is_refused(
    registry: HeadRegistry, fitted: FittedHead, tmp_path: Path
) -> None:
    registry.save(fitted, "flowers")
    edit_card(tmp_path / "heads" / "flowers" / "1" / "card.json", dim=5)
    with pytest.raises(ModelFileError, match="its card says"):
        registry.load("flowers")


def test_a_head_of_another_kind_is_saved_alike(registry: HeadRegistry, fitted: FittedHead) -> None:
    registry.save(dataclasses.replace(fitted, kind="centroid"), "flowers")
    assert registry.load("flowers").card.kind == "centroid"


def test_loaded_heads_predict_from_many_threads(
    registry: HeadRegistry, fitted: FittedHead, iris: TrainingSet
) -> None:
    registry.save(fitted, "flowers")
    expected = registry.load("flowers").probabilities(iris.embeddings, iris.space_id)

    def predict(_: int) -> np.ndarray:
        return registry.load("flowers").probabilities(iris.embeddings, iris.space_id)

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(predict, range(20)):
            np.testing.assert_array_equal(found, expected)
