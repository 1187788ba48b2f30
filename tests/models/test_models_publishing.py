"""Publishing: versions, who publishes at once, who is killed, disks that are full."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trunkline_service.errors import ModelFileError, ModelNotFound, StorageError
from trunkline_service.models import card as cards
from trunkline_service.models import repository as repository_module
from trunkline_service.models.repository import ModelRepository


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_published_folder_is_whole_and_its_card_reads_back(root, publish_tiny):
    folder = publish_tiny(root)
    assert {entry.name for entry in folder.path.iterdir()} == {"model.onnx", "card.json"}
    assert cards.loads((folder.path / "card.json").read_text(), "x") == folder.card
    folder.verify()
    config = (root / "tiny" / "config.pbtxt").read_text()
    assert 'name: "tiny"' in config
    assert "dims: [ 32, 32, 3 ]" in config


def test_publishers_of_one_name_at_once_get_a_version_each(root, publish_tiny):
    threads = [threading.Thread(target=publish_tiny, args=(root,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cards_found, problems = ModelRepository(root, root / "none").cards()
    assert [card.version for card in cards_found] == [1, 2, 3, 4, 5, 6]
    assert not problems


def test_a_full_disk_publishes_nothing(root, publish_tiny, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(repository_module.shutil, "copyfile", full)
    with pytest.raises(StorageError, match="No space left"):
        publish_tiny(root)
    with pytest.raises(ModelNotFound):
        ModelRepository(root, root / "none").resolve("tiny")
    assert not (root / "tiny").exists()


def test_a_first_publish_that_fails_at_the_last_step_leaves_no_configuration(root, publish_tiny):
    in_the_way = root / "tiny" / "1"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("no folder")
    with pytest.raises(StorageError, match="nothing was published"):
        publish_tiny(root)
    assert [entry.name for entry in in_the_way.parent.iterdir()] == ["1"]
    in_the_way.unlink()
    assert publish_tiny(root).card.version == 1


def test_a_failed_publish_leaves_the_versions_before_it_as_they_were(root, publish_tiny):
    publish_tiny(root)
    before = tree(root)
    (root / "tiny" / "2").write_text("in the way")
    with pytest.raises(StorageError):
        publish_tiny(root)
    (root / "tiny" / "2").unlink()
    assert tree(root) == before
    assert publish_tiny(root).card.version > 1


def test_the_number_of_a_deleted_version_is_not_used_again(root, publish_tiny):
    for version in (1, 2, 3):
        assert publish_tiny(root).card.version == version
    shutil.rmtree(root / "tiny" / "3")
    assert publish_tiny(root).card.version == 4
    for version in (1, 2, 4):
        shutil.rmtree(root / "tiny" / str(version))
    assert publish_tiny(root).card.version == 5


def test_the_memory_of_numbers_may_be_absent_and_not_be_damaged(root, publish_tiny):
    publish_tiny(root)
    (root / "tiny" / ".last-version").unlink()
    assert publish_tiny(root).card.version == 2
    (root / "tiny" / ".last-version").write_text("two")
    with pytest.raises(StorageError, match=r"\.last-version holds 'two'"):
        publish_tiny(root)


def test_a_folder_that_another_publisher_takes_away_is_made_again(root, publish_tiny, monkeypatch):
    """The failed one removes its folder while the next one waits for the lock in it."""
    import fcntl

    flock = fcntl.flock
    calls = []

    def take_away_first(lock, operation):
        flock(lock, operation)
        calls.append(operation)
        if len(calls) == 1:
            shutil.rmtree(root / "tiny")

    monkeypatch.setattr(fcntl, "flock", take_away_first)
    assert publish_tiny(root).card.version == 1
    assert len(calls) == 2
    assert (root / "tiny" / ".lock").exists()


def test_another_shape_needs_another_name(root, publish_tiny):
    publish_tiny(root)
    with pytest.raises(ModelFileError, match="another --name"):
        publish_tiny(root, dim=7)


# Publishes the model of a version's folder again; `stop` says "here" and waits to be let on, or killed.
PUBLISHER = """
import dataclasses, logging, pathlib, shutil, sys
from trunkline_service.models.repository import ModelRepository

root, source, stop_at = sys.argv[1:]
folder = ModelRepository(pathlib.Path(source)).resolve("tiny")
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

def stop(point):
    if point == stop_at:
        print("here", flush=True)
        sys.stdin.readline()

def card(version):
    stop("lock" if (pathlib.Path(root) / "tiny").exists() else "start")
    return dataclasses.replace(folder.card, version=version)

def half_copy(source, target):
    target.write_bytes(source.read_bytes()[:100])
    stop("copy")
    copyfile(source, target)

def late_rename(self, target):
    stop("rename")
    return rename(self, target)

copyfile, shutil.copyfile = shutil.copyfile, half_copy
rename, pathlib.Path.rename = pathlib.Path.rename, late_rename
print(ModelRepository(pathlib.Path(root)).publish(folder.onnx, card).card.version, flush=True)
"""


@pytest.fixture
def publisher(
    root: Path, tmp_path: Path, publish_tiny: Callable[..., Any]
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a publishing process that stops at a point: its first line is "here" then."""
    publish_tiny(tmp_path / "source")
    started: list[subprocess.Popen[str]] = []

    def start(stop_at: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PUBLISHER, str(root), str(tmp_path / "source"), stop_at]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_processes_that_publish_one_name_at_once_get_a_version_each(root, publisher):
    first = publisher("lock")
    assert first.stdout.readline() == "here\n"
    second = publisher()
    assert "waiting for another publisher of model tiny" in second.stdout.readline()
    assert first.communicate("go\n")[0] == "1\n"
    assert second.communicate()[0] == "2\n"
    assert [card.version for card in ModelRepository(root, root / "none").cards()[0]] == [1, 2]


@pytest.mark.parametrize("point", ["lock", "copy", "rename"])
@pytest.mark.parametrize("earlier", [0, 1])
def test_a_killed_publisher_leaves_nothing_visible_and_the_next_clears(
    point, earlier, root, publisher, publish_tiny
):
    repository = ModelRepository(root, root / "none")
    for _ in range(earlier):
        publish_tiny(root)
    process = publisher(point)
    assert process.stdout.readline() == "here\n"
    process.kill()
    assert process.wait() == -9
    if point != "lock":
        assert list((root / "tiny").glob(".publishing-*"))
    found, problems = repository.cards()
    assert ([card.version for card in found], problems) == ([1] * earlier, [])
    newest = publish_tiny(root)
    assert repository.resolve("tiny").card == newest.card
    assert len(repository.cards()[0]) == earlier + 1
    assert not list((root / "tiny").glob(".publishing-*"))


# Real limits of the operating system: a disk without room for one more file, or for so large a file.
SMALL_DISKS = """
import dataclasses, json, pathlib, resource, subprocess, sys
from trunkline_service.errors import StorageError
from trunkline_service.models.repository import ModelRepository

kind, source, place = sys.argv[1:]
folder = ModelRepository(pathlib.Path(source)).resolve("tiny")

def attempt(root):
    repository = ModelRepository(root, root / "none")
    try:
        repository.publish(folder.onnx, lambda version: dataclasses.replace(folder.card, version=version))
        outcome = "published"
    except StorageError as exc:
        outcome = str(exc)
    left = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    return outcome, left, [card.version for card in repository.cards()[0]]

for limit in range(2, 16) if kind == "inodes" else range(0, 3000, 150):
    root = pathlib.Path(place) / str(limit)
    root.mkdir()
    if kind == "inodes":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=1m,nr_inodes={limit}", "tmpfs", root], check=True)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    print(json.dumps(attempt(root)), file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["inodes", "file size"])
def test_a_small_disk_takes_a_model_whole_or_not_at_all(kind, tmp_path, publish_tiny):
    publish_tiny(tmp_path / "source")
    own_mounts = ["unshare", "--map-root-user", "--mount"] if kind == "inodes" else []
    if own_mounts:
        probe = [*own_mounts, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
        if (
            shutil.which("unshare") is None
            or subprocess.run(probe, capture_output=True, check=False).returncode
        ):
            pytest.skip("a disk of a few files takes the right to mount one (user namespaces)")
    place = tmp_path / "disks"
    place.mkdir()
    command = [*own_mounts, sys.executable, "-c", SMALL_DISKS, kind, str(tmp_path / "source"), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stderr.splitlines()]
    failed = [(left, versions) for outcome, left, versions in outcomes if outcome != "published"]
    assert len(failed) > 3
    assert all(found == ([], []) for found in failed)
    said = "No space left on device" if kind == "inodes" else "File too large"
    assert all(said in outcome for outcome, _, _ in outcomes[: len(failed)])
    # The smallest that is large enough, and all above it.
    whole = outcomes[len(failed) :]
    assert whole
    assert {tuple(versions) for _, _, versions in whole} == {(1,)}
    assert {"tiny/config.pbtxt", "tiny/1/card.json", "tiny/1/model.onnx"} <= set(whole[0][1])


def test_a_version_that_nobody_can_read_binds_no_later_one(tmp_path, publish_tiny):
    publish_tiny(tmp_path)
    (tmp_path / "tiny" / "1" / "card.json").write_text("{}")
    assert publish_tiny(tmp_path).card.version == 2
