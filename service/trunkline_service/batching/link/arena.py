"""Shared memory that is lent out in pieces: pixels go in, the vector comes back in the same place."""

from __future__ import annotations

import bisect
import fcntl
import mmap
import os
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from trunkline_service.errors import Unavailable

# Pieces begin on cache lines, so that two processes never write into one.
_LINE = 64


class Mapping:
    """A memfd as arrays.

    Args:
        fd: Of the memfd; it is not kept open here.
        size: Bytes of it.

    Raises:
        ValueError: It is smaller, or could become so.
    """

    def __init__(self, fd: int, size: int) -> None:
        # A file that shrinks under a mapping kills the process that reads it.
        if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise ValueError("shared memory that is not sealed against shrinking")
        self._memory = mmap.mmap(fd, size)

    def view(self, offset: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """The piece at ``offset`` as an array; nothing is copied."""
        count = int(np.prod(shape))
        return np.frombuffer(self._memory, dtype, count, offset).reshape(shape)


class Arena(Mapping):
    """Memory of this process that another one maps as well.

    Args:
        size: Bytes; pages are only taken when they are written first.

    Attributes:
        fd: To be handed over; `close_fd` once it was.
        size: Bytes.
    """

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("trunkline-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.size = size
        os.ftruncate(self.fd, size)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        super().__init__(self.fd, size)
        self._changed = threading.Condition()
        self._free: list[tuple[int, int]] = [(0, size)]
        self._closed: str | None = None

    def close_fd(self) -> None:
        """Closes the descriptor; both mappings stay."""
        os.close(self.fd)

    def take(self, size: int, timeout_s: float | None = None) -> int:
        """The offset of a piece that nobody else has; waits until there is one.

        Raises:
            Unavailable: The arena was closed.
            MemoryError: It is larger than the whole arena.
            TimeoutError: There was none for ``timeout_s``.
        """
        size = -(-size // _LINE) * _LINE
        if size > self.size:
            raise MemoryError(f"{size} bytes do not fit into an arena of {self.size}")
        with self._changed:
            fits = self._changed.wait_for(
                lambda: self._closed or self._first_fit(size) is not None, timeout_s
            )
            if self._closed is not None:
                raise Unavailable(self._closed)
            if not fits:
                raise TimeoutError
            index = self._first_fit(size)
            assert index is not None
            offset, length = self._free[index]
            if length == size:
                del self._free[index]
            else:
                self._free[index] = (offset + size, length - size)
            return offset

    def give_back(self, offset: int, size: int) -> None:
        """Ends the loan of a piece, of the size that was asked for."""
        size = -(-size // _LINE) * _LINE
        with self._changed:
            at = bisect.bisect(self._free, (offset, 0))
            if at < len(self._free) and self._free[at][0] == offset + size:
                size += self._free.pop(at)[1]
            if at and sum(self._free[at - 1]) == offset:
                before, length = self._free[at - 1]
                self._free[at - 1] = (before, length + size)
            else:
                self._free.insert(at, (offset, size))
            self._changed.notify_all()

    def close(self, why: str) -> None:
        """Lends nothing any more; who waits for a piece is told ``why``."""
        with self._changed:
            self._closed = why
            self._changed.notify_all()

    @property
    def lent(self) -> int:
        """Bytes that are lent out."""
        with self._changed:
            return self.size - sum(length for _, length in self._free)

    def _first_fit(self, size: int) -> int | None:
        return next((index for index, (_, length) in enumerate(self._free) if length >= size), None)
