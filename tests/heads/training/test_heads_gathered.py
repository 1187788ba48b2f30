"""Rows gathered in memory and in a file that has no name."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import StorageError
from trunkline_service.heads.training.arrow_texts import ArrowTexts
from trunkline_service.heads.training.gathered import Gathered, InMemory, OnDisk

Usage = namedtuple("Usage", "total used free")


def made(gathered: Gathered) -> np.ndarray[Any, Any]:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    gathered.add(rows[:1])
    gathered.add(rows[1:1])
    gathered.add(np.asfortranarray(rows[1:]))
    found = gathered.whole()
    gathered.close()
    return found


def test_both_ways_give_the_same_matrix(tmp_path: Path) -> None:
    for gathered in (InMemory(4, 3), OnDisk(4, 3, tmp_path), OnDisk(4, 3, None)):
        found = made(gathered)
        np.testing.assert_array_equal(found, np.arange(12, dtype=np.float32).reshape(4, 3))
        assert type(found) is np.ndarray
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            found[0, 0] = 1


def test_the_file_has_no_name_and_its_space_comes_back(tmp_path: Path) -> None:
    def deleted() -> list[str]:
        maps = Path("/proc/self/maps").read_text().splitlines()
        return [line for line in maps if str(tmp_path) in line]

    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux tells what a process has mapped")
    found = made(OnDisk(4, 3, tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert len(deleted()) == 1
    assert deleted()[0].endswith("(deleted)")
    assert found[3, 2] == 11
    del found
    assert deleted() == []


def test_too_little_room_is_known_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(100, 53, 47))
    with pytest.raises(
        StorageError, match=r"has no room for 4 embeddings.*set TMPDIR to a folder on a larger disk"
    ):
        OnDisk(4, 3, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(100, 52, 48))
    OnDisk(4, 3, tmp_path).close()


def test_a_disk_that_fills_up_meanwhile(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    gathered = OnDisk(1000, 100, tmp_path)
    try:
        # A limit on files stands in for a full disk: writing fails half-way.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(StorageError, match=r"has no room for 1000 embeddings"):
            gathered.add(np.ones((1000, 100), np.float32))
    finally:
        gathered.close()
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=f"to {tmp_path / 'none'}: {os.strerror(errno.ENOENT)}; choose a folder"
    ):
        OnDisk(4, 3, tmp_path / "none")


def test_texts_stay_in_arrow() -> None:
    import pyarrow as pa

    texts = ArrowTexts(pa.chunked_array([["a", "b"], [], ["c"]], pa.utf8()))
    assert len(texts) == 3
    assert list(texts) == ["a", "b", "c"]
    assert (texts[0], texts[2], texts[-1]) == ("a", "c", "c")
    assert texts[1:] == ("b", "c")
    with pytest.raises(IndexError):
        texts[3]
    assert list(ArrowTexts(pa.chunked_array([], pa.utf8()))) == []
