"""Rows that another process adds to a served collection: seen by the next search, and felt by none."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tests.benchmarks.search import made
from tests.benchmarks.search.flat import opened
from tests.benchmarks.search.large import flat_rows
from tests.benchmarks.search.timing import Running, percentile

DIM, ADDED, K = 128, 1000, 10
NAME = "fresh"
READERS = 2


def table(home: Path, quick: bool, rows: int, threads: int) -> Iterator[dict[str, str]]:
    """A row for the latency, one for what was seen."""
    import trunkline

    made.filled(home, NAME, made.clustered(rows, DIM, 1))
    with opened(home, threads, flat_rows=flat_rows(rows)) as workspace:
        workspace.build_index(NAME)
    server = Running("serve", data=str(home), threads=threads, flat_rows=flat_rows(rows))
    writer = Running("write", data=str(home))
    writer.line()
    turns, window = (3, 2.0) if quick else (20, 20.0)
    with trunkline.Client(server.line()["address"]) as client:
        before = Readers(client)
        time.sleep(window)
        quiet = before.end()
        during = Readers(client)
        seen, waits, seconds = 0, [], []
        for turn in range(turns):
            started = time.perf_counter()
            added = writer.ask(start=10_000_000 + turn * ADDED, seed=100 + turn)
            seconds.append(added["seconds"])
            asked = np.array(added["vector"], np.float32)[None]
            acknowledged = time.perf_counter()
            found = client.search(NAME, vectors=asked, space_id=made.SPACE, k=1)
            waits.append(time.perf_counter() - acknowledged)
            seen += found.ids[0] == [added["id"]]
            time.sleep(max(0.0, window / turns - (time.perf_counter() - started)))
        busy = during.end()
        kind = found.index_kind
    writer.end()
    server.end()
    calm, stirred = (1000 * percentile(times, 0.99) for times in (quiet, busy))
    yield {
        "what": f"{ADDED:,} rows at a time into {rows:,} ({kind}): p99 of a search meanwhile / before",
        "measured": f"{stirred / calm:.2f} ({stirred:.1f} ms of {len(busy)}, {calm:.1f} of {len(quiet)})",
        "asked": "<= 2",
    }
    yield {
        "what": f"of {turns} additions, found by the search that came next",
        "measured": f"{seen} (that search took {1000 * percentile(waits, 0.5):.0f} ms; adding "
        f"{1000 * percentile(seconds, 0.5):.0f} ms; medians)",
        "asked": f"{turns}",
    }


class Readers:
    """Searches without a pause, one query a call, until they are ended."""

    def __init__(self, client: object) -> None:
        self._client = client
        self._stop = threading.Event()
        self._spent: list[float] = []
        self._threads = [threading.Thread(target=self._read, args=(at,)) for at in range(READERS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> list[float]:
        """Seconds of each search."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self._spent

    def _read(self, number: int) -> None:
        queries = made.clustered(256, DIM, 50 + number)
        turn = 0
        while not self._stop.is_set():
            started = time.perf_counter()
            asked = queries[turn % len(queries)][None]
            self._client.search(NAME, vectors=asked, space_id=made.SPACE, k=K)
            self._spent.append(time.perf_counter() - started)
            turn += 1


def write(data: str) -> None:
    """Adds rows for every line of the input; prints one of them, and how long it took."""
    from trunkline_service.collections.store import CollectionStore

    collection = CollectionStore(data).open(NAME)
    print(json.dumps({"version": collection.version}), flush=True)
    for line in sys.stdin:
        given = json.loads(line)
        added = made.rows(given["start"], made.clustered(ADDED, DIM, given["seed"]))
        started = time.perf_counter()
        collection.upsert(added, space_id=made.SPACE, decode=None)
        seconds = time.perf_counter() - started
        answer = {"id": added[0].id, "vector": added[0].embedding.tolist(), "seconds": seconds}
        print(json.dumps(answer), flush=True)
