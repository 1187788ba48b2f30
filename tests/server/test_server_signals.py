"""A signal may come while the main thread holds the very lock that heeding it needs."""

from __future__ import annotations

import subprocess
import sys

HOLDS_THE_LOCK = """
import os, signal, threading
from trunkline_service.server.signals import heed

lock, heeded = threading.Lock(), threading.Semaphore(0)

def act():
    with lock:
        heeded.release()

heed((signal.SIGTERM, signal.SIGINT), act)
with lock:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
assert heeded.acquire(timeout=60) and heeded.acquire(timeout=60)
print("both were heeded")
"""


def test_signals_are_heeded_though_the_main_thread_holds_the_lock():
    done = subprocess.run(
        [sys.executable, "-c", HOLDS_THE_LOCK], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "both were heeded\n", done.stderr
