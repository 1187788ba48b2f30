"""A temporary folder that is cleared even after its owner was killed: by the next export."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "trunkline-export-"
_LOCK = "owner.lock"


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """A folder for the duration of an export. Folders of exports that were killed are removed first.

    Raises:
        OSError: It can't be made.
    """
    _clear_abandoned()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        folder = Path(name)
        # Held as long as the process lives, however it ends.
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def _clear_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # One that is just being made has no lock yet; another user's can't be opened.
        with contextlib.suppress(OSError), (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
