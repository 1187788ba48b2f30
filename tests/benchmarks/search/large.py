"""An index of a million rows: throughput at its recall, with filters, by Lance's own index, and beside others."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tests.benchmarks.search import made
from tests.benchmarks.search.flat import opened
from tests.benchmarks.search.timing import best, child, memory_mib

DIM, BATCH, K = 128, 64, 10
RECALL = 0.99
QUERIES = 1024
PEERS = ("hnswlib", "usearch")


def table(
    home: Path, quick: bool, rows: int, threads: int, flowers: str | None, peers: str | None
) -> Iterator[dict[str, str]]:
    """Rows for each kind of vectors."""
    for name, vectors, queries in _sets(rows, flowers, 128 if quick else QUERIES):
        made.filled(home, name, vectors)
        size = f"{name}, {rows:,} x {DIM}"
        files = _saved(home, name, vectors, queries)
        ours = child("large", data=str(home), name=name, threads=threads, flat_rows=flat_rows(rows), **files)
        del vectors, queries
        yield from _ours(size, ours)
        for peer in PEERS if peers else ():
            yield _peer(size, _run_peer(peers or "", peer, threads, files), ours)


def flat_rows(rows: int) -> int:
    """The server's own, or fewer where the collection is small as well."""
    return min(200_000, rows // 5)


def _sets(rows: int, flowers: str | None, asked: int) -> Iterator[tuple[str, made.Floats, made.Floats]]:
    yield "clustered", made.clustered(rows, DIM, 1), made.clustered(asked, DIM, 2)
    if flowers is not None:
        yield "flowers", made.tiled(flowers, rows, DIM, 1), made.tiled(flowers, asked, DIM, 2)


def _saved(home: Path, name: str, vectors: made.Floats, queries: made.Floats) -> dict[str, str]:
    files = {what: str(home / f"{name}.{what}.npy") for what in ("vectors", "queries", "kth")}
    for file, array in zip(
        files.values(), (vectors, queries, made.kth_scores(vectors, queries, K)), strict=True
    ):
        np.save(file, array)
    return files


def _ours(size: str, found: dict[str, Any]) -> Iterator[dict[str, str]]:
    index = found["index"]
    yield {
        "what": f"{size}, {BATCH} queries: {index['kind']}'s throughput / flat's",
        "measured": f"{found['flat_ms'] / index['ms']:.1f} x ({index['ms']:.2f} ms, {found['flat_ms']:.0f}), recall@"
        f"{K} {index['recall']:.4f}",
        "asked": f">= 20 x at recall >= {RECALL}",
    }
    yield {
        "what": f"{size}: built and tuned",
        "measured": f"{index['seconds']:.1f} s, peak {found['peak_mib']:.0f} MiB; serves in {index['mib']:.0f} MiB "
        f"({index['note']})",
        "asked": "",
    }
    for share, part in found["filters"].items():
        yield {
            "what": f"{size}: a filter that leaves {share}",
            "measured": f"recall@{K} {part['recall']:.4f}, {part['ms']:.1f} ms",
            "asked": f"recall >= {RECALL}",
        }
    lance = found["lance"]
    yield {
        "what": f"{size}: Lance's index, nothing in memory",
        "measured": f"recall@{K} {lance['recall']:.4f}, {lance['ms']:.0f} ms; built and tuned in {lance['seconds']:.0f} "
        f"s, {lance['mib']:.0f} MiB on the disk",
        "asked": f"recall >= {RECALL}",
    }


def _run_peer(python: str, peer: str, threads: int, files: dict[str, str]) -> dict[str, Any]:
    script = Path(__file__).with_name("peers.py")
    command = [python, str(script), peer, json.dumps({**files, "k": K, "recall": RECALL, "threads": threads})]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _peer(size: str, found: dict[str, Any], ours: dict[str, Any]) -> dict[str, str]:
    return {
        "what": f"{size}: our throughput / that of {found['name']}",
        "measured": f"{found['ms'] / ours['index']['ms']:.2f} ({found['ms']:.2f} ms, recall@{K} {found['recall']:.4f}, ef "
        f"{found['ef']}); it is built in {found['seconds']:.0f} s, and takes {found['mib']:.0f} MiB",
        "asked": "",
    }


# In a process of its own -------------------------------------------------------------------------------------


def measure(data: str, name: str, threads: int, flat_rows: int, vectors: str, queries: str, kth: str) -> None:
    """Builds, tunes and searches; prints what was found."""
    asked, least = np.load(queries), np.load(kth)
    found = {"index": _index(data, name, threads, flat_rows, asked, least)}
    found["peak_mib"] = memory_mib("VmHWM")
    with opened(data, threads, flat_rows=flat_rows) as workspace:
        flat = _ms(_search(workspace, name, exact=True), asked[:BATCH], rounds=3)
        found["flat_ms"] = flat
        found["filters"] = _filtered(workspace, name, np.load(vectors, mmap_mode="r"), asked[:256])
    found["lance"] = _lance(data, name, threads, asked, least)
    print(json.dumps(found))


def _index(
    data: str, name: str, threads: int, flat_rows: int, asked: made.Floats, kth: made.Floats
) -> dict[str, Any]:
    from trunkline_service.index.options import IndexOptions

    with opened(data, threads, flat_rows=flat_rows) as workspace:
        started = time.perf_counter()
        workspace.build_index(name, IndexOptions(recall=RECALL, k=K))
        seconds = time.perf_counter() - started
        state = workspace.index(name)
        search = _search(workspace, name)
        recall = made.recall(_all(search, asked), kth, K)
        ms = _ms(search, asked, rounds=3)
        mib = memory_mib()
    return {
        "kind": state.kind,
        "note": state.note,
        "seconds": seconds,
        "recall": recall,
        "ms": ms,
        "mib": mib,
    }


def _filtered(workspace: Any, name: str, vectors: made.Floats, asked: made.Floats) -> dict[str, Any]:
    found = {}
    for share, below in made.SHARES.items():
        search = _search(workspace, name, where="slot < ?", parameters=[below])
        kth = made.kth_scores(vectors, asked, K, below)
        found[share] = {
            "recall": made.recall(_all(search, asked), kth, K),
            "ms": _ms(search, asked, rounds=3),
        }
    return found


def _lance(data: str, name: str, threads: int, asked: made.Floats, kth: made.Floats) -> dict[str, Any]:
    from trunkline_service.collections.store import CollectionStore
    from trunkline_service.index.lance import tuning
    from trunkline_service.index.lance.searching import LanceSearch
    from trunkline_service.index.options import IndexOptions
    from trunkline_service.index.query import SearchOptions
    from trunkline_service.index.workers import Workers

    collection, workers = CollectionStore(data).open(name), Workers(threads)
    options = IndexOptions("lance", recall=RECALL, k=K)
    built = tuning.build(collection, options, clock=time.perf_counter, workers=workers)
    engine = LanceSearch(collection, built.tuned, workers)

    def search(queries: made.Floats) -> list[list[float]]:
        return [[hit.score for hit in hits] for hits in engine.search(queries, SearchOptions(k=K)).hits]

    some = asked[:256]
    found = {
        "seconds": built.seconds,
        "mib": built.nbytes / 2**20,
        "recall": made.recall(_all(search, some), kth[: len(some)], K),
        "ms": _ms(search, some, rounds=2),
    }
    collection.drop_vector_index()
    return found


Search = Callable[[made.Floats], list[list[float]]]


def _search(workspace: Any, name: str, **options: Any) -> Search:
    from trunkline_service.index.query import SearchOptions

    wanted = SearchOptions(k=K, **options)

    def search(queries: made.Floats) -> list[list[float]]:
        hits = workspace.search_vectors(name, queries, made.SPACE, wanted).outcome.hits
        return [[hit.score for hit in row] for row in hits]

    return search


def _all(search: Search, asked: made.Floats) -> list[list[float]]:
    return [hits for start in range(0, len(asked), BATCH) for hits in search(asked[start : start + BATCH])]


def _ms(search: Search, asked: made.Floats, rounds: int) -> float:
    """Milliseconds of a batch, of the fastest round."""
    search(asked[:BATCH])
    return 1000 * best(lambda: _all(search, asked), rounds) / max(1, len(asked) // BATCH)
