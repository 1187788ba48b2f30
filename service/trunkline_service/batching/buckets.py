"""Batch sizes: fixed, so that each is warmed before the server says it is ready (contract 3)."""

from __future__ import annotations

from collections.abc import Sequence


def batch_size(waiting: int, buckets: Sequence[int]) -> int:
    """The largest bucket that is full.

    Seven waiting images leave as 4, 2 and 1: nothing is padded, and on a CPU, where time is proportional
    to images, nothing is lost by it.
    """
    return max((bucket for bucket in buckets if bucket <= waiting), default=buckets[0])
