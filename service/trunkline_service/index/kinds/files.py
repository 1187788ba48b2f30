"""FAISS's own files: written, and mapped into memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np

from trunkline_service.errors import IndexDamaged, StorageError
from trunkline_service.index.kinds.faiss_search import library
from trunkline_service.index.kinds.spread import NUMBERS, Spread

INDEX_FILE = "index.faiss"
# What FAISS says in words where the machine, and not the file, is at fault.
_FOR_NOW = tuple(
    map(os.strerror, (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EACCES, errno.EPERM))
)
SPREAD_FILE = "spread.f32"


def write_index(index: Any, folder: Path) -> None:
    """Writes an index of FAISS to ``index.faiss`` of a folder that exists.

    Raises:
        StorageError: It can't be written.
    """
    faiss = library()

    path = folder / INDEX_FILE
    try:
        # By a file of ours: where closing its own fails, as where the disk fills, FAISS prints a line and goes on.
        with path.open("wb") as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
    except OSError as exc:
        raise StorageError(f"can't write the index to {path}: {exc.strerror}") from exc
    except RuntimeError as exc:
        raise StorageError(f"can't write the index to {path}: {_last_line(exc)}") from exc


def map_index(folder: Path) -> Any:
    """The index of a folder, whose arrays stay in the file and are read as they are touched.

    Raises:
        IndexDamaged: FAISS can't read it.
        StorageError: It can't be read now: too many files are open, memory runs out, or nobody may.
    """
    faiss = library()

    path = folder / INDEX_FILE
    # Tables that speed PQ up for euclidean take as much memory as the index.
    flags = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
    try:
        return faiss.read_index(str(path), flags)
    except MemoryError as exc:
        raise StorageError(
            f"can't read the index in {path}: there is not enough memory; it is tried again"
        ) from exc
    except RuntimeError as exc:
        if any(words in str(exc) for words in _FOR_NOW):
            raise StorageError(
                f"can't read the index in {path} now: {_last_line(exc)}. Mend this; it is tried again"
            ) from exc
        raise IndexDamaged(f"can't read the index in {path}: {_last_line(exc)}; build it again") from exc


def write_spread(spread: Spread, folder: Path) -> None:
    """Writes ``spread.f32``: packed little-endian floats, one row of `Spread.packed` for each list.

    Raises:
        StorageError: It can't be written.
    """
    path = folder / SPREAD_FILE
    try:
        spread.packed().astype("<f4").tofile(path)
    except OSError as exc:
        raise StorageError(f"can't write {path}: {exc.strerror}") from exc


def read_spread(folder: Path, lists: int, dim: int) -> Spread:
    """What `write_spread` wrote.

    Raises:
        IndexDamaged: It is not there, or not of so many lists.
    """
    path = folder / SPREAD_FILE
    try:
        packed = np.fromfile(path, "<f4")
    except FileNotFoundError as exc:
        raise IndexDamaged(f"{path} is not there; build it again") from exc
    except OSError as exc:
        raise StorageError(f"can't read {path}: {exc.strerror}") from exc
    if packed.size != lists * (NUMBERS + dim):
        raise IndexDamaged(
            f"{path} holds {packed.size} floats, which are not of {lists} lists; build it again"
        )
    return Spread.unpacked(packed.astype(np.float32, copy=False).reshape(lists, NUMBERS + dim))


def _last_line(exc: BaseException) -> str:
    # FAISS puts its own function and source line before what happened.
    return str(exc).strip().rpartition("\n")[2] or type(exc).__name__
