"""FAISS's own files: written, and mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trunkline_service.errors import IndexDamaged, StorageError
from trunkline_service.index.kinds.faiss_search import library

INDEX_FILE = "index.faiss"


def write_index(index: Any, folder: Path) -> None:
    """Writes an index of FAISS to ``index.faiss`` of a folder that exists.

    Raises:
        StorageError: It can't be written.
    """
    faiss = library()

    path = folder / INDEX_FILE
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as exc:
        raise StorageError(f"can't write the index to {path}: {_last_line(exc)}") from exc


def map_index(folder: Path) -> Any:
    """The index of a folder, whose arrays stay in the file and are read as they are touched.

    Raises:
        IndexDamaged: FAISS can't read it.
    """
    faiss = library()

    path = folder / INDEX_FILE
    # Tables that speed PQ up for euclidean take as much memory as the index.
    flags = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
    try:
        return faiss.read_index(str(path), flags)
    except (RuntimeError, MemoryError) as exc:
        raise IndexDamaged(f"can't read the index in {path}: {_last_line(exc)}; build it again") from exc


def _last_line(exc: BaseException) -> str:
    # FAISS puts its own function and source line before what happened.
    return str(exc).strip().rpartition("\n")[2] or type(exc).__name__
