"""How many heaps the C library keeps, as it says itself, in processes of their own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from trunkline_service.server.allocator import bound_arenas

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library is not glibc"
)
THREADS = 12
# Threads that are there all at once, each with memory of its own: glibc gives them heaps in turn.
COUNT = f"""
import ctypes, sys, threading
from trunkline_service.server.allocator import bound_arenas

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
bounded = bound_arenas(3) if sys.argv[1] == "bound" else None
together = threading.Barrier({THREADS})

def allocate():
    together.wait()
    libc.malloc(ctypes.c_size_t(10_000))
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range({THREADS})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(bounded, open(sys.argv[2]).read().count("<heap "))
"""


@pytest.fixture
def heaps(tmp_path):
    """``heaps("bound" or "plain", **environment)`` is what `bound_arenas` returned, and the number of heaps."""

    def count(how, **more):
        environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
        environment.pop("GLIBC_TUNABLES", None)
        told = subprocess.run(
            [sys.executable, "-c", COUNT, how, str(tmp_path / "heaps.xml")],
            env=environment | more,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        return told[0], int(told[1])

    return count


def test_threads_share_as_many_heaps_as_it_is_told(heaps):
    assert heaps("plain")[1] > 3
    assert heaps("bound") == ("True", 3)


@pytest.mark.parametrize(
    "said", [{"MALLOC_ARENA_MAX": "5"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=5"}], ids=str
)
def test_what_the_environment_says_goes_before(heaps, said):
    assert heaps("bound", **said) == ("False", 5)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert bound_arenas(4) is False
