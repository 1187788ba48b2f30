"""``python -m tests.batching.link.quota_process FD ROW admit|lock``: one of the processes that share a quota."""

from __future__ import annotations

import fcntl
import random
import sys

from tests.batching.link.test_batching_link_quota import LIMITS

from trunkline_service.batching.link.quota import QuotaTable, SharedAdmission
from trunkline_service.errors import Overloaded

ROUNDS = 8000


def admit(table, row):
    """Admits and releases at random; returns how often it was refused."""
    admission, rng, held, refused = SharedAdmission(table, row, LIMITS), random.Random(row), [], 0
    for _ in range(ROUNDS):
        images = rng.randint(1, 3)
        try:
            admission.admit(images, 10 * images)
        except Overloaded:
            refused += 1
        else:
            held.append(images)
            # Under the lock nobody admits, so that the sum can only fall while it is read.
            fcntl.lockf(table.fd, fcntl.LOCK_EX)
            waiting_images, waiting_bytes = table.rows.sum(axis=0)
            fcntl.lockf(table.fd, fcntl.LOCK_UN)
            assert waiting_images <= LIMITS.max_images, waiting_images
            assert waiting_bytes <= LIMITS.max_bytes, waiting_bytes
        while held and (len(held) > 1 or rng.random() < 0.5):
            images = held.pop()
            admission.release(images, 10 * images)
    for images in held:
        admission.release(images, 10 * images)
    assert (admission.images, admission.bytes) == (0, 0)
    return refused


def main(fd, row, what):
    table = QuotaTable(int(fd))
    if what == "lock":
        SharedAdmission(table, int(row), LIMITS).admit(2, 20)
        fcntl.lockf(table.fd, fcntl.LOCK_EX)
        print("locked", flush=True)
        sys.stdin.read()
    else:
        print("ready", flush=True)
        sys.stdin.readline()
        print(admit(table, int(row)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
