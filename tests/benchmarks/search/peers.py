"""hnswlib or usearch on the same arrays; a script for an interpreter that has them, and nothing of ours."""

import json
import sys
import time
from pathlib import Path

import numpy as np

BATCH = 64
CONNECTIVITY, EXPANSION = 16, 200
EFS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)


def hnswlib_index(vectors, threads):
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=EXPANSION, M=CONNECTIVITY)
    index.set_num_threads(threads)
    index.add_items(vectors, num_threads=threads)

    def search(queries, k, ef):
        index.set_ef(max(ef, k))
        return index.knn_query(queries, k=k, num_threads=threads)[0].astype(np.int64)

    return search, hnswlib.__name__


def usearch_index(vectors, threads):
    import usearch
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=CONNECTIVITY, expansion_add=EXPANSION
    )
    index.add(np.arange(len(vectors)), vectors, threads=threads)

    def search(queries, k, ef):
        index.expansion_search = ef
        return index.search(queries, k, threads=threads).keys.astype(np.int64)

    return search, f"usearch {usearch.__version__}"


def rss_mib():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main():
    make = {"hnswlib": hnswlib_index, "usearch": usearch_index}[sys.argv[1]]
    given = json.loads(sys.argv[2])
    vectors, queries, kth = (np.load(given[name]) for name in ("vectors", "queries", "kth"))
    k = given["k"]
    before = rss_mib()
    started = time.perf_counter()
    search, name = make(vectors, given["threads"])
    seconds = time.perf_counter() - started
    mib = rss_mib() - before

    def everything(ef):
        return np.concatenate(
            [search(queries[start : start + BATCH], k, ef) for start in range(0, len(queries), BATCH)]
        )

    for ef in EFS:
        found = everything(ef)
        scores = np.einsum("qkd,qd->qk", vectors[found], queries)
        recall = float((scores >= kth[:, None] - 1e-6).mean())
        if recall >= given["recall"]:
            break
    rounds = []
    for _ in range(3):
        started = time.perf_counter()
        everything(ef)
        rounds.append(time.perf_counter() - started)
    ms = 1000 * min(rounds) / max(1, len(queries) // BATCH)
    print(json.dumps({"name": name, "seconds": seconds, "mib": mib, "ef": ef, "recall": recall, "ms": ms}))


if __name__ == "__main__":
    main()
