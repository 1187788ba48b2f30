"""A folder for the sockets between the processes of one server, that goes with the server."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from trunkline_service.errors import SettingsError

# The kernel's bound on the path of a socket is 108 bytes; names in the folder are short.
_LONGEST = 96


class PrivateFolder:
    """Made for its user alone, and locked: whoever has died without removing his has left it unlocked.

    Args:
        root: Where to make it; None for the system's folder of temporary files.

    Attributes:
        path: Of the folder.

    Raises:
        SettingsError: It can't be made there.
    """

    def __init__(self, root: Path | None = None) -> None:
        root = root or Path(tempfile.gettempdir())
        prefix = f"trunkline-serve-{os.getuid()}-"
        try:
            sweep(root, prefix)
            self.path, self._lock = _made(root, prefix)
        except OSError as exc:
            raise SettingsError(
                f"can't make a folder in {root}: {exc.strerror or exc}; set TMPDIR to one that can be written"
            ) from exc
        if len(os.fsencode(self.path)) > _LONGEST:
            self.remove()
            raise SettingsError(
                f"{root} is too long a path for sockets ({_LONGEST} bytes); set TMPDIR to a short one"
            )

    def remove(self) -> None:
        """Removes it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep(root: Path, prefix: str) -> None:
    """Removes the folders of servers that were killed with all of their processes."""
    for left in root.glob(f"{prefix}*"):
        # One that is gone by now, is locked, or is another user's.
        with contextlib.suppress(OSError):
            lock = _opened(left)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def _made(root: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        # Another server may sweep it in the moment before it is locked.
        with contextlib.suppress(FileNotFoundError):
            lock = _opened(path)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return path, lock
            os.close(lock)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
