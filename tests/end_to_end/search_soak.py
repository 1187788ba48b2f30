"""Writers and readers of one collection, through any number of servers; every reply is judged.

Run by itself for longer than the test does::

    python -m tests.end_to_end.search_soak HOST:PORT [HOST:PORT ...] --seconds 60
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import trunkline

SPACE = "declared:soak"
DIM = 16
BATCH = 8


@dataclass
class Ledger:
    """What was acknowledged, and what is wrong with replies.

    Attributes:
        living: Vectors of acknowledged rows, by id.
        doomed: Ids whose deletion was sent, acknowledged or not.
        deleted: Ids whose deletion was acknowledged.
        version: The latest that a write was acknowledged with.
        faults: What must not be.
        searches: Replies that were judged.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    living: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    version: int = 0
    faults: list[str] = field(default_factory=list)
    searches: int = 0
    writes: int = 0


def write(client: Any, collection: str, ledger: Ledger, writer: int, going_on: Callable[[int], bool]) -> None:
    """Adds rows, changes some of them, deletes a part; notes what was acknowledged."""
    rng = np.random.default_rng(writer)
    for turn in itertools.count():
        if not going_on(turn):
            return
        ids = [f"w{writer}-{turn}-{number}" for number in range(BATCH)]
        vectors = rng.standard_normal((BATCH, DIM)).astype(np.float32)
        version = client.upsert(
            collection, ids, vectors, space_id=SPACE, decode="unknown", labels=[f"writer {writer}"] * BATCH
        )
        if turn % 2:
            vectors[0] = rng.standard_normal(DIM)
            version = client.upsert(collection, ids[:1], vectors[:1], space_id=SPACE, decode="unknown")
        with ledger.lock:
            ledger.living |= dict(zip(ids, vectors, strict=True))
            ledger.version = max(ledger.version, version)
        gone = ids[:: 2 if turn % 3 else 1]
        with ledger.lock:
            ledger.doomed.update(gone)
        version = client.delete(collection, gone).version
        with ledger.lock:
            for row_id in gone:
                del ledger.living[row_id]
            ledger.deleted.update(gone)
            ledger.version = max(ledger.version, version)
            ledger.writes += 1


def read(client: Any, collection: str, ledger: Ledger, reader: int, going_on: Callable[[], bool]) -> None:
    """Looks for rows that are there, and looks out for rows that are not."""
    rng = np.random.default_rng(1000 + reader)
    while going_on():
        with ledger.lock:
            version, deleted = ledger.version, set(ledger.deleted)
            known = [row_id for row_id in ledger.living if row_id not in ledger.doomed][-64:]
            wanted = known[int(rng.integers(len(known)))] if known else None
            query = ledger.living[wanted] if wanted else rng.standard_normal(DIM).astype(np.float32)
        found = client.search(
            collection, vectors=query[None], space_id=SPACE, k=20, min_version=version or None
        )
        with ledger.lock:
            ledger.searches += 1
            if found.version < version:
                ledger.faults.append(f"a reply of version {found.version} where {version} was acknowledged")
            if ghosts := deleted & set(found.ids[0]):
                ledger.faults.append(f"deleted rows in a reply: {sorted(ghosts)}")
            if wanted and wanted not in ledger.doomed and found.ids[0][:1] != [wanted]:
                ledger.faults.append(f"{wanted} was acknowledged, and its own vector does not find it")


def soak(
    addresses: Sequence[str],
    collection: str,
    going_on: Callable[[int], bool],
    writers: int = 8,
    readers: int = 8,
) -> Ledger:
    """Writes until ``going_on(turn)`` says no, and reads meanwhile.

    Raises:
        Whatever a call raised: no call may fail.
    """
    ledger, writing = Ledger(), threading.Event()
    with _clients(addresses, writers + readers) as clients, ThreadPoolExecutor(writers + readers) as pool:
        reading = [
            pool.submit(
                read, clients[writers + number], collection, ledger, number, lambda: not writing.is_set()
            )
            for number in range(readers)
        ]
        try:
            for done in [
                pool.submit(write, clients[number], collection, ledger, number, going_on)
                for number in range(writers)
            ]:
                done.result()
        finally:
            writing.set()
        for done in reading:
            done.result()
    return ledger


class _clients:  # noqa: N801  a context, used like a function
    def __init__(self, addresses: Sequence[str], count: int) -> None:
        self._clients = [trunkline.Client(addresses[number % len(addresses)]) for number in range(count)]

    def __enter__(self) -> list[Any]:
        return self._clients

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--collection", default="soak")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    with trunkline.Client(arguments.addresses[0]) as client:
        client.create_collection(arguments.collection, dim=DIM, space_id=SPACE)
    ledger = soak(arguments.addresses, arguments.collection, lambda _: time.monotonic() < end)
    sys.stdout.write(
        f"{ledger.writes} rounds of writes, {ledger.searches} searches, {len(ledger.faults)} faults\n"
    )
    for fault in ledger.faults[:10]:
        sys.stdout.write(f"{fault}\n")
    raise SystemExit(1 if ledger.faults else 0)


if __name__ == "__main__":
    main()
