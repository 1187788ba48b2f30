"""Bounds on admitted work that several processes share (contract 5)."""

from __future__ import annotations

import fcntl
import mmap
import os
import threading

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.admission import Pace, check_room
from trunkline_service.batching.request import Lane
from trunkline_service.settings import QueueLimits

# A row to a cache line; its first numbers are images and bytes.
_ROW = 64


class QuotaTable:
    """What each process has admitted and not yet answered, in a memfd.

    Args:
        fd: Of the memfd that `create` made; each process opens its own table over it.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        size = os.fstat(fd).st_size
        self._memory = mmap.mmap(fd, size)
        self.rows: NDArray[np.int64] = np.frombuffer(self._memory, np.int64).reshape(-1, _ROW // 8)[:, :2]

    @classmethod
    def create(cls, processes: int) -> QuotaTable:
        """A table with a row for each process; its descriptor is for them to inherit."""
        fd = os.memfd_create("trunkline-quota", 0)
        os.ftruncate(fd, _ROW * processes)
        return cls(fd)

    def clear(self, row: int) -> None:
        """Forgets what a process had admitted, after it died."""
        self.rows[row] = 0


class SharedAdmission:
    """Counts in its own row, and refuses by the sum of all.

    The file's lock is the kernel's, so that it ends with a process that dies while it holds it.

    Args:
        table: Opened in this process.
        row: Of this process.
        limits: Of all of them together.
    """

    def __init__(self, table: QuotaTable, row: int, limits: QueueLimits) -> None:
        self._table = table
        self._own = table.rows[row]
        self._limits = limits
        self._guard = threading.Lock()
        self._pace = Pace()

    @property
    def images(self) -> int:
        """Images that this process admitted and did not answer yet."""
        return int(self._own[0])

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return int(self._own[1])

    def admit(self, images: int, size: int, lane: Lane = "interactive") -> None:
        """See ``Admission.admit``."""
        with self._guard:
            fcntl.lockf(self._table.fd, fcntl.LOCK_EX)
            try:
                waiting_images, waiting_bytes = (int(total) for total in self._table.rows.sum(axis=0))
                check_room(self._limits, lane, images, size, waiting_images, waiting_bytes, self._pace)
                self._own += (images, size)
            finally:
                fcntl.lockf(self._table.fd, fcntl.LOCK_UN)

    def release(self, images: int, size: int) -> None:
        """See ``Admission.release``."""
        with self._guard:
            self._own -= (images, size)

    def observe(self, images: int, seconds: float) -> None:
        """See ``Admission.observe``."""
        self._pace.observe(images, seconds)
