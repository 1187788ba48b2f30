"""Folders that belong to a living process; those of dead ones are told apart and removed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_HELD = ".building-"
_LOCK = ".lock"
_FILES = "files"


@contextmanager
def held(parent: Path) -> Iterator[Path]:
    """A new, empty folder below ``parent``, on its file system; removed at the end, unless it was moved.

    The lock beside it ends with the process, however that ends, and `remove_dead` leaves alone what is
    locked.
    """
    parent.mkdir(parents=True, exist_ok=True)
    home, lock = _claimed(parent)
    try:
        files = home / _FILES
        files.mkdir()
        yield files
    finally:
        shutil.rmtree(home, ignore_errors=True)
        lock.close()


def remove_dead(parent: Path) -> None:
    """Removes what processes left that were killed; what can't be removed stays until the next time."""
    for home in parent.glob(f"{_HELD}*"):
        try:
            lock = (home / _LOCK).open("ab")
        except FileNotFoundError:
            continue
        with lock:
            if try_lock(lock):
                shutil.rmtree(home, ignore_errors=True)


def try_lock(handle: IO[bytes]) -> bool:
    """Locks an open file for this process alone; False where another has it."""
    # Here, because not every system has it: indexes can be read without.
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(handle: IO[bytes], path: Path) -> bool:
    """Whether the open file is the one that stands at ``path``."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    return False


def _claimed(parent: Path) -> tuple[Path, IO[bytes]]:
    while True:
        home = parent / f"{_HELD}{secrets.token_hex(8)}"
        home.mkdir()
        try:
            lock = (home / _LOCK).open("ab")
        except FileNotFoundError:
            # Somebody who removes the dead came between, and took it for one of theirs.
            continue
        if try_lock(lock) and is_at(lock, home / _LOCK):
            return home, lock
        lock.close()
