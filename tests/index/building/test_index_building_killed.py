"""A builder that is killed, at an instant of its own, leaves the old index or the new one, and no mess."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.index.building.conftest import write

from trunkline_service.collections.collection import Collection
from trunkline_service.index.card import IndexCard
from trunkline_service.index.storage.base import load_base
from trunkline_service.index.storage.store import IndexStore

ROUNDS = 5
# Counts what the builder does to files of indexes, and each time that it tells progress; dies of itself.
BUILDER = """
import os, signal, sys, time
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index.building.builder import build
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage.store import IndexStore

count, last = 0, int(sys.argv[2])

def tick(*_):
    global count
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)

def hook(event, args):
    if event != "compile" and any("/indexes/" in str(arg) for arg in args):
        tick()

sys.addaudithook(hook)
build(
    CollectionStore(sys.argv[1]).open("flowers"),
    IndexStore(sys.argv[1]),
    IndexOptions("ivf_flat", recall=0.8),
    flat_rows=100,
    threads=1,
    clock=time.monotonic,
    progress=tick,
)
print(count)
"""


def run(data: Path, last: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BUILDER, str(data), str(last)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_killed_builder_leaves_the_old_index_or_the_new_one(
    collection: Collection, data: Path, store: IndexStore, built: Callable[..., IndexCard]
) -> None:
    uninterrupted = run(data, 0)
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    instants = int(uninterrupted.stdout)
    assert instants > 30
    uid, spec = collection.revision.uid, collection.spec
    old = store.newest("flowers", uid, spec)
    chosen = random.Random(6)
    for turn in range(ROUNDS):
        write(collection, range(turn, turn + 5))
        killed = run(data, chosen.randrange(1, instants))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        card = store.newest("flowers", uid, spec)
        assert card is not None
        assert card == old or card.version == collection.version
        assert len(load_base(store.open(card), card).ids) == 600
        assert not store.building("flowers", uid)
        old = built(collection)
        left = {path.name for path in (data / "indexes" / "flowers" / uid).iterdir()}
        assert left == {old.build}
        assert {path.name for path in (data / "indexes").iterdir()} == {"flowers"}
