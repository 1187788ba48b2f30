"""Comparing all, beside FAISS's flat index on the same array; and one query over gRPC."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.search import made
from tests.benchmarks.search.timing import Running, in_turns, percentile, timed

DIM, BATCH, K = 384, 64, 10
NAME = "flat"


def table(home: Path, quick: bool, threads: int) -> Iterator[dict[str, str]]:
    """A row for a batch, one for one query here, one for one query over gRPC."""
    import faiss

    count = 10_000 if quick else 100_000
    vectors, queries = made.scattered(count, DIM, 1), made.scattered(BATCH, DIM, 2)
    made.filled(home, NAME, vectors)
    index = faiss.IndexFlatIP(DIM)
    index.add(vectors)
    faiss.omp_set_num_threads(threads)
    with opened(home, threads) as workspace:

        def ours(asked: made.Floats) -> list[list[Any]]:
            return workspace.search_vectors(NAME, asked, made.SPACE).outcome.hits

        def theirs(asked: made.Floats) -> Any:
            return index.search(asked, K)[1]

        expected = [[f"train/image{at:08d}.jpg" for at in row] for row in theirs(queries).tolist()]
        assert [[hit.id for hit in row] for row in ours(queries)] == expected, "the two do not agree"
        rounds = 3 if quick else 15
        many = in_turns({"ours": lambda: ours(queries), "theirs": lambda: theirs(queries)}, rounds)
        one = in_turns({"ours": lambda: ours(queries[:1]), "theirs": lambda: theirs(queries[:1])}, 5 * rounds)
    size = f"flat, {count:,} x {DIM}"
    yield {
        "what": f"{size}, {BATCH} queries: throughput / FAISS's",
        "measured": f"{many['theirs'] / many['ours']:.2f} ({1000 * many['ours']:.1f} ms, {1000 * many['theirs']:.1f})",
        "asked": ">= 0.9",
    }
    yield {
        "what": f"{size}, one query: throughput / FAISS's",
        "measured": f"{one['theirs'] / one['ours']:.2f} ({1000 * one['ours']:.2f} ms, {1000 * one['theirs']:.2f})",
        "asked": "",
    }
    yield _over_grpc(home, queries, threads, lambda asked: index.search(asked, K), size, 20 if quick else 300)


def _over_grpc(
    home: Path, queries: made.Floats, threads: int, theirs: Any, size: str, rounds: int
) -> dict[str, str]:
    import trunkline

    server = Running("serve", data=str(home), threads=threads)
    address = server.line()["address"]
    with trunkline.Client(address) as client:
        asked = [queries[at : at + 1] for at in range(BATCH)]
        client.search(NAME, vectors=asked[0], space_id=made.SPACE)
        spent, raw = [], []
        for turn in range(rounds):
            query = asked[turn % BATCH]
            spent.append(timed(lambda query=query: client.search(NAME, vectors=query, space_id=made.SPACE)))
            raw.append(timed(lambda query=query: theirs(query)))
    server.end()
    ours, faiss = (1000 * percentile(times, 0.5) for times in (spent, raw))
    return {
        "what": f"{size}, one query over gRPC, above FAISS without (medians)",
        "measured": f"{ours - faiss:.2f} ms ({ours:.2f}, {faiss:.2f})",
        "asked": "<= 1 ms",
    }


def serve(data: str, threads: int, **index: Any) -> None:
    """A server of the folder, until the input ends; prints its address."""
    import json

    from trunkline_service.server.app import Server
    from trunkline_service.settings import IndexSettings, Settings

    searching = IndexSettings(build="never", **index)
    server = Server(Settings(data=data, listen="127.0.0.1:0", device="cpu", threads=threads, index=searching))
    server.start()
    print(json.dumps({"address": str(server.address)}), flush=True)
    sys.stdin.read()
    server.stop()


def opened(data: str | Path, threads: int, **index: Any) -> Any:
    """A workspace of the folder."""
    from trunkline_service.settings import IndexSettings, Settings
    from trunkline_service.workspace import Workspace

    return Workspace(
        Settings(data=str(data), device="cpu", threads=threads, index=IndexSettings(build="never", **index))
    )
