"""A child process whose role does nothing but tell a test what becomes of it.

The test reads the named pipe ``events`` in the folder of ``settings.data``. A file there whose name
is that of a part decides what is wrong with it; see `FakeRole.start`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from trunkline_service.errors import ModelFileError
from trunkline_service.server.metrics import Metrics
from trunkline_service.server.processes import child
from trunkline_service.server.started import Started


class FakeRole:
    def __init__(self, start):
        self._start = start
        self._home = Path(start.settings.data)
        self._events = os.open(self._home / "events", os.O_RDWR)
        self._troubles = {"device": "unknown"} if start.role == "front" else {}
        self._metrics = Metrics()
        if (self._home / f"{start.part}-is-made").exists():
            self._tell("making")
            threading.Event().wait()

    def _tell(self, event, **details):
        # So short a line is written whole, whoever else writes.
        os.write(self._events, json.dumps([self._start.part, event, details]).encode() + b"\n")

    def start(self, stopping):
        self._tell("started", pid=os.getpid())
        wrong = self._home / self._start.part
        what = wrong.read_text() if wrong.exists() else ""
        if what == "error":
            raise ModelFileError("the card does not match")
        if what == "defect":
            logging.getLogger().setLevel(logging.CRITICAL)
            raise RuntimeError("secret")
        if what == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "loads":
            self._tell("loads")
            while not stopping():
                signal.pause()
        self._metrics.call("/trunkline.v1.Fake/Call", "OK", 1.0)
        self._metrics.ready(True)
        return Started({"tiny@1": True}, "cpu") if self._start.role == "device" else None

    def trouble(self):
        return "; ".join(self._troubles) or None

    def parts(self, troubles):
        self._troubles = troubles
        self._tell("parts", **troubles)
        if "hang" in troubles:
            threading.Event().wait()

    def metrics(self):
        from prometheus_client import generate_latest

        return generate_latest(self._metrics.registry).decode()

    def ending(self):
        self._tell("ending")

    def stop(self, drain_s):
        if (self._home / f"{self._start.part}-hangs").exists():
            self._tell("hangs")
            while True:
                signal.pause()
        self._tell("stopped", drain_s=drain_s)


if __name__ == "__main__":
    sys.exit(child.main(sys.argv[1:], dict.fromkeys(("device", "data", "front"), FakeRole)))
