"""Rows that come batch by batch, gathered in memory, or in a file where they are too many for it."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import StorageError

Rows = NDArray[np.float32]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Gathered(Protocol):
    """A matrix that is being filled from the top."""

    def add(self, rows: Rows) -> None:
        """Takes (n, dim) float32 rows."""

    def whole(self) -> Rows:
        """(N, dim) float32, read-only and C-contiguous; nothing is added afterwards."""

    def close(self) -> None:
        """Gives up what was gathered, but for what `whole` has given."""


class InMemory:
    """See `Gathered`."""

    def __init__(self, count: int, dim: int) -> None:
        """Room for (count, dim)."""
        self._rows = np.empty((count, dim), np.float32)
        self._end = 0

    def add(self, rows: Rows) -> None:
        """See `Gathered`."""
        self._rows[self._end : self._end + len(rows)] = rows
        self._end += len(rows)

    def whole(self) -> Rows:
        """See `Gathered`."""
        self._rows.setflags(write=False)
        return self._rows

    def close(self) -> None:
        """See `Gathered`."""


class OnDisk:
    """See `Gathered`; the matrix is mapped from a file without a name.

    The file's space is free again once nobody holds the matrix any more, or the process has ended, in
    whatever way. The system drops pages of it from memory as it needs to.
    """

    def __init__(self, count: int, dim: int, folder: Path | None) -> None:
        """Makes the file.

        Args:
            count: Rows, 1 at least.
            dim: Their length.
            folder: Where; None for the system's folder for temporary files. It must not be in memory.

        Raises:
            StorageError: The folder has not enough room, or can't be written to.
        """
        self._shape, self._folder = (count, dim), folder or Path(tempfile.gettempdir())
        with self._errors():
            if shutil.disk_usage(self._folder).free < self._bytes:
                raise OSError(errno.ENOSPC, "")
            self._file = tempfile.TemporaryFile(prefix="trunkline-fit-", dir=self._folder)  # noqa: SIM115

    def add(self, rows: Rows) -> None:
        """See `Gathered`.

        Raises:
            StorageError: The disk is full.
        """
        # Written, not stored into the mapping: a full disk would then end the process.
        with self._errors():
            self._file.write(np.ascontiguousarray(rows).data)

    def whole(self) -> Rows:
        """See `Gathered`.

        Raises:
            StorageError: The disk is full.
        """
        with self._errors():
            self._file.flush()
            return np.memmap(self._file, np.float32, "r", shape=self._shape).view(np.ndarray)

    def close(self) -> None:
        """See `Gathered`."""
        # What is still to be written matters to nobody; a full disk would refuse it once more.
        with suppress(OSError):
            self._file.close()

    @property
    def _bytes(self) -> int:
        return 4 * self._shape[0] * self._shape[1]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            what = f"{self._shape[0]} embeddings ({self._bytes / 1e9:.2f} GB), which are too many for memory"
            if exc.errno not in _FULL:
                raise StorageError(
                    f"can't write {what}, to {self._folder}: {exc.strerror or exc}; choose a folder that this user "
                    "can write to, by TMPDIR"
                ) from exc
            raise StorageError(
                f"{self._folder} has no room for {what}: free space there, set TMPDIR to a folder on a larger "
                "disk, or fit on fewer rows"
            ) from exc
