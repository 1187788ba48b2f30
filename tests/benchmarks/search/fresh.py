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

Span = tuple[float, float]


def table(home: Path, quick: bool, rows: int, threads: int) -> Iterator[dict[str, str]]:
    """A row for the latency, one for what was seen."""
    import trunkline

    made.filled(home, NAME, made.clustered(rows, DIM, 1))
    with opened(home, threads, flat_rows=flat_rows(rows)) as workspace:
        workspace.build_index(NAME)
    server = Running("serve", data=str(home), threads=threads, flat_rows=flat_rows(rows))
    writer = Running("write", data=str(home))
    writer.line()
    turns, slice_s = (3, 0.5) if quick else (30, 1.0)
    with trunkline.Client(server.line()["address"]) as client:
        readers = Readers(client)
        time.sleep(slice_s)
        between: list[Span] = []
        during: list[Span] = []
        seen, waits, seconds = 0, [], []
        # Taken in turns, so that both meet the same machine.
        for turn in range(turns):
            between.append(waited(slice_s, time.perf_counter()))
            started = time.perf_counter()
            added = writer.ask(start=10_000_000 + turn * ADDED, seed=100 + turn)
            seconds.append(added["seconds"])
            asked = np.array(added["vector"], np.float32)[None]
            acknowledged = time.perf_counter()
            found = client.search(NAME, vectors=asked, space_id=made.SPACE, k=1)
            waits.append(time.perf_counter() - acknowledged)
            seen += found.ids[0] == [added["id"]]
            during.append(waited(slice_s, started))
        spent = readers.end()
        kind = found.index_kind
    writer.end()
    server.end()
    stirred, calm = within(spent, during), within(spent, between)
    p99s = [1000 * percentile(times, 0.99) for times in (stirred, calm)]
    yield {
        "what": f"{ADDED:,} rows at a time into {rows:,} ({kind}): p99 of a search in the second of an addition / "
        "in the seconds between",
        "measured": f"{p99s[0] / p99s[1]:.2f} ({p99s[0]:.1f} ms of {len(stirred)}, {p99s[1]:.1f} of {len(calm)})",
        "asked": "<= 2",
    }
    yield {
        "what": f"of {turns} additions, found by the search that came next",
        "measured": f"{seen} (that search took {1000 * percentile(waits, 0.5):.0f} ms; adding "
        f"{1000 * percentile(seconds, 0.5):.0f} ms; medians)",
        "asked": f"{turns}",
    }


def waited(seconds: float, since: float) -> Span:
    """From then to so many seconds later, or to now."""
    time.sleep(max(0.0, since + seconds - time.perf_counter()))
    return since, time.perf_counter()


def within(searches: list[Span], spans: list[Span]) -> list[float]:
    """Seconds of each search that began in one of some spans."""
    return [end - began for began, end in searches if any(start <= began < stop for start, stop in spans)]


class Readers:
    """Searches without a pause, one query a call, until they are ended."""

    def __init__(self, client: object) -> None:
        self._client = client
        self._stop = threading.Event()
        self._spans: list[Span] = []
        self._threads = [threading.Thread(target=self._read, args=(at,)) for at in range(READERS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> list[Span]:
        """When each search began, and when it ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self._spans

    def _read(self, number: int) -> None:
        queries = made.clustered(256, DIM, 50 + number)
        turn = 0
        while not self._stop.is_set():
            started = time.perf_counter()
            asked = queries[turn % len(queries)][None]
            self._client.search(NAME, vectors=asked, space_id=made.SPACE, k=K)
            self._spans.append((started, time.perf_counter()))
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
