"""Lance's index is made in a process that can be ended: called off, silent, killed, or left alone by its parent."""

from __future__ import annotations

import io
import os
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from trunkline_service.collections import index_process, vector_index
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.index_process import IndexProcess, IndexTask, make_index, pool_threads
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import Cancelled, StorageError

DIM = 8
TASK = IndexTask("flowers", "nowhere", 1, {})
# As if Lance waited for a thread that there is not.
HANGS = """
import threading, lance
from trunkline_service.collections import index_child
lance.LanceDataset.create_index = lambda *_, **__: threading.Event().wait()
index_child.main()
"""
# Makes the index of the dataset by a child that hangs, and says which process that is.
PARENT = f"""
import sys
from trunkline_service.collections.index_process import IndexProcess, IndexTask
with IndexProcess(IndexTask("flowers", sys.argv[1], 2, {{}}), [sys.executable, "-c", {HANGS!r}]) as child:
    while "cpu" not in (child.said(1.0) or {{}}):
        pass
    print(child.pid, child._scratch, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    spec = CollectionSpec("sp1-a", DIM, "tiny@1", "ar1-a", "exact")
    collection = CollectionStore(tmp_path / "data").create("flowers", spec)
    vectors = np.random.default_rng(0).standard_normal((300, DIM)).astype(np.float32)
    rows = [Row(f"r{number}", vector) for number, vector in enumerate(vectors)]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    return collection


class Scripted:
    """A process that says what it is given, one thing in each second; then nothing."""

    def __init__(self, *said: dict[str, Any]) -> None:
        self.left = list(said)
        self.now = 0.0
        self.ended = False
        self.starts = 0

    @contextmanager
    def start(self, _: IndexTask) -> Iterator[Scripted]:
        self.starts += 1
        try:
            yield self
        finally:
            self.ended = True

    def said(self, _: float) -> dict[str, Any] | None:
        self.now += 1.0
        return self.left.pop(0) if self.left else None


def run(process: Scripted, **given: Any) -> list[tuple[str, int, int]]:
    heard: list[tuple[str, int, int]] = []
    values: dict[str, Any] = {"check": lambda: None, "quiet_s": 10.0, **given}
    make_index(
        TASK,
        lambda *said: heard.append(said),
        start=process.start,
        clock=lambda: process.now,
        **values,
    )
    return heard


def test_what_it_says_is_told_until_the_index_is_made() -> None:
    process = Scripted({"progress": ["shuffle", 1, 2]}, {"cpu": 0.1}, {"made": True})
    assert run(process) == [("shuffle", 1, 2)]
    assert process.ended


def test_one_that_neither_speaks_nor_computes_is_ended() -> None:
    # It says how much it computed, which is nothing: only what counts the time runs.
    process = Scripted({"progress": ["shuffle", 1, 2]}, *[{"cpu": 0.01 * beat} for beat in range(50)])
    with pytest.raises(StorageError, match=r"'flowers' .*stood still for 10 s .*build the index again"):
        run(process)
    assert process.ended
    # It is tried twice.
    assert process.now == 12 + 11


def test_one_that_stood_still_is_made_once_more() -> None:
    process = Scripted(*[{"cpu": 0.0}] * 13, {"progress": ["shuffle", 1, 2]}, {"made": True})
    assert run(process) == [("shuffle", 1, 2)]
    assert process.starts == 2


def test_one_that_computes_is_left_alone_however_long_it_is_silent() -> None:
    process = Scripted(*[{"cpu": 0.25 * beat} for beat in range(200)], {"made": True})
    run(process)
    assert process.now == 201


def test_one_that_is_called_off_is_ended() -> None:
    process = Scripted()

    def check() -> None:
        if process.now >= 3:
            raise Cancelled("called off")

    with pytest.raises(Cancelled):
        run(process, check=check)
    assert process.ended


@pytest.mark.parametrize(
    ("kind", "error"), [("OSError", OSError), ("ValueError", ValueError), ("KeyError", RuntimeError)]
)
def test_what_lance_raises_is_raised_here(kind: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="a conflict") as caught:
        run(Scripted({"failed": [kind, "a conflict"]}))
    assert type(caught.value) is error


@pytest.mark.parametrize(("status", "words"), [(1, "ended with status 1"), (-9, "signal 9 .*memory enough")])
def test_one_that_ends_by_itself_is_told(status: int, words: str) -> None:
    with pytest.raises(StorageError, match=words):
        run(Scripted({"ended": status}))


def test_half_a_line_of_one_that_was_killed_does_not_hide_its_end() -> None:
    process = object.__new__(IndexProcess)
    process._lines = queue.Queue()
    process._process = cast(Any, SimpleNamespace(stdout=io.BytesIO(b'{"cpu": 1.0}\n{"prog'), wait=lambda: -9))

    process._hear()

    assert [process.said(0), process.said(0)] == [{"cpu": 1.0}, {"ended": -9}]


@pytest.mark.parametrize(("processors", "threads"), [(1, "4"), (4, "4"), (16, "14")])
def test_the_pool_has_threads_enough_on_a_small_machine(processors: int, threads: str) -> None:
    assert pool_threads({}, processors) == {"LANCE_CPU_THREADS": threads}
    assert pool_threads({"LANCE_CPU_THREADS": "1"}, processors) == {}


# Real processes ----------------------------------------------------------------------------------------------


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> list[IndexProcess]:
    """Lance hangs in every process that is started; they are listed."""
    started: list[IndexProcess] = []

    def start(task: IndexTask) -> IndexProcess:
        started.append(IndexProcess(task, [sys.executable, "-c", HANGS]))
        return started[-1]

    monkeypatch.setattr(index_process, "IndexProcess", start)
    return started


def test_an_index_that_hangs_can_be_called_off(collection: Collection, hanging: list[IndexProcess]) -> None:
    version = collection.version
    with pytest.raises(Cancelled, match="'flowers'"):
        collection.create_vector_index(cancelled=lambda: bool(hanging))
    (process,) = hanging
    assert not is_there(process.pid)
    assert not Path(process._scratch).exists()
    assert (collection.version, collection.vector_index()) == (version, None)


def test_an_index_that_hangs_ends_after_a_while(
    collection: Collection, hanging: list[IndexProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = index_process.make_index
    monkeypatch.setattr(vector_index, "make_index", lambda *given: make(*given, quiet_s=0.0))
    with pytest.raises(StorageError, match="stood still"):
        collection.create_vector_index()
    assert [is_there(process.pid) for process in hanging] == [False, False]


def test_one_that_is_killed_changes_nothing_and_the_next_makes_it(
    collection: Collection, hanging: list[IndexProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> bool:
        if hanging:
            os.kill(hanging[-1].pid, signal.SIGKILL)
        return False

    with pytest.raises(StorageError, match="SIGKILL"):
        collection.create_vector_index(cancelled=kill)
    monkeypatch.undo()
    assert collection.vector_index() is None
    assert collection.create_vector_index().rows == 300


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system can't wait for another's child")
def test_one_whose_parent_was_killed_ends(collection: Collection) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, collection.key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid, scratch = parent.stdout.readline().split()
    ended = os.pidfd_open(int(pid))
    parent.kill()
    parent.communicate()
    with os.fdopen(ended) as handle:
        assert is_ready(handle)
    assert not Path(scratch).exists()


def is_ready(handle: Any) -> bool:
    """Whether a process, by its descriptor, ends within half a minute."""
    import select

    return bool(select.select([handle], [], [], 30)[0])


def test_what_it_sorts_lies_in_a_folder_that_goes_with_it(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    seen: list[str] = []
    collection.create_vector_index(progress=lambda *_: seen.extend(path.name for path in scratch.iterdir()))
    assert seen
    assert list(scratch.iterdir()) == []
