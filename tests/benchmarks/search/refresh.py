"""What asking the store for a newer version costs each search: in a folder, and in an object store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.search import made
from tests.benchmarks.search.flat import opened
from tests.benchmarks.search.timing import percentile, timed

DIM = 128
NAME = "refresh"


def table(home: Path, quick: bool, threads: int) -> Iterator[dict[str, str]]:
    """A row for each place."""
    count, rounds = (1000, 20) if quick else (20_000, 300)
    yield _row("a folder", home, count, rounds, threads)
    server = shutil.which(
        "moto_server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if server is None:
        yield {
            "what": "a search's look for a newer version: moto's S3",
            "measured": "moto is not installed",
            "asked": "",
        }
        return
    with _bucket(server) as place:
        yield _row("moto's S3 on this machine", place, count, max(10, rounds // 5), threads)


def _row(where: str, data: Path | str, count: int, rounds: int, threads: int) -> dict[str, str]:
    made.filled(data, NAME, made.scattered(count, DIM, 1))  # type: ignore[arg-type]
    queries = made.scattered(rounds, DIM, 2)
    spent: dict[float, float] = {}
    for refresh_s in (0.0, 3600.0):
        with opened(data, threads, refresh_s=refresh_s) as workspace:
            workspace.search_vectors(NAME, queries[:1], made.SPACE)
            times = [
                timed(lambda at=at: workspace.search_vectors(NAME, queries[at : at + 1], made.SPACE))
                for at in range(rounds)
            ]
        spent[refresh_s] = 1000 * percentile(times, 0.5)
    always, seldom = spent[0.0], spent[3600.0]
    return {
        "what": f"a search's look for a newer version: {where}",
        "measured": f"{always - seldom:.2f} ms ({always:.2f} with --refresh 0, {seldom:.2f} with 3600; medians)",
        "asked": "",
    }


@contextmanager
def _bucket(server: str) -> Iterator[str]:
    """moto's S3 in a process of its own, and a bucket in it."""
    from pyarrow import fs

    process = subprocess.Popen([server, "-p", "0"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        address = next(line.split()[-1] for line in process.stderr if "Running on" in line)
        # What it logs from now on must not fill the pipe.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        os.environ |= {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }
        store, _ = fs.FileSystem.from_uri("s3://bench?allow_bucket_creation=true")
        store.create_dir("bench")
        yield "s3://bench/data"
    finally:
        process.terminate()
        process.wait(timeout=30)
