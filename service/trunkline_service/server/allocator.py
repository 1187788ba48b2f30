"""The C library's allocator in a process that serves."""

from __future__ import annotations

import ctypes
import os

# M_ARENA_MAX of malloc.h (mallopt(3)).
_ARENA_MAX = -8
_FEWEST = 2


def bound_arenas(threads: int) -> bool:
    """Has glibc keep no more heaps than threads work; to be called before any is started.

    By default it keeps eight for each core. Every call waits in a thread of its own, many of which decode now and
    then: each heap would keep the memory of the largest photographs that it has seen.

    Args:
        threads: That decode and run models at once.

    Returns:
        Whether it was done: not with another C library, nor where the environment says how many there may be.
    """
    if "MALLOC_ARENA_MAX" in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_ARENA_MAX, max(_FEWEST, threads)) == 1
