"""Writers at once, threads and processes: no row is lost and none is doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row

SHARED = [f"shared{number}" for number in range(20)]
WRITER = """
import sys
import numpy as np
from trunkline_service.collections.rows import Row
from trunkline_service.collections.store import CollectionStore
from trunkline_service.collections.spec import CollectionSpec

data, writer, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
spec = CollectionSpec(space_id="sp1-a", dim=4, model="tiny@1", artifact_id="ar1-a", decode="exact")
print("ready", flush=True)
sys.stdin.readline()
collection = CollectionStore(data).open_or_create("raced", spec)
for turn in range(rounds):
    shared = [f"shared{(turn * 5 + number) % 20}" for number in range(12)]
    rows = [Row(name, np.full(4, 1, np.float32), label=writer) for name in [*shared, f"{writer}-{turn}"]]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
print(collection.revision.uid)
"""


def every_id(collection: Collection) -> Counter[str]:
    return Counter(name for batch in collection.scan(["id"]) for name in batch.column("id").to_pylist())


def test_threads_that_write_overlapping_ids(collection: Collection) -> None:
    start = threading.Barrier(6)
    versions: list[int] = []

    def write(writer: int) -> None:
        start.wait()
        for turn in range(4):
            rows = [Row(name, np.ones(4, np.float32), label=str(writer)) for name in SHARED[turn : turn + 10]]
            rows.append(Row(f"{writer}-{turn}", np.ones(4, np.float32)))
            versions.append(collection.upsert(rows, space_id="sp1-a", decode="exact"))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = {f"{writer}-{turn}" for writer in range(6) for turn in range(4)}
    assert every_id(collection) == Counter({*SHARED[:13], *own})
    assert len(set(versions)) == 24


def test_deletes_and_upserts_at_once_keep_ids_unique(collection: Collection) -> None:
    start = threading.Barrier(4)

    def write(writer: int) -> None:
        start.wait()
        for _ in range(4):
            if writer % 2:
                collection.delete(SHARED[:10])
            else:
                rows = [Row(name, np.ones(4, np.float32)) for name in SHARED]
                collection.upsert(rows, space_id="sp1-a", decode="exact")

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = every_id(collection)
    assert set(found.values()) == {1}
    assert set(SHARED[10:]) <= set(found)


def test_processes_that_create_and_write_at_once(tmp_path: Path) -> None:
    from trunkline_service.collections.store import CollectionStore

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen(
            [*command, name, "6"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for name in ("left", "right")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    outputs = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert outputs[0] == outputs[1]
    own = {f"{name}-{turn}" for name in ("left", "right") for turn in range(6)}
    collection = CollectionStore(tmp_path).open("raced")
    assert every_id(collection) == Counter({*SHARED, *own})
    assert len(collection.matrix()) == 32
