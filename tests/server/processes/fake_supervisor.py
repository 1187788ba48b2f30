"""A supervisor of fake children, as a process that a test can kill: ``fake_supervisor.py HOME``."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from trunkline_service.server.processes.supervisor import Supervisor
from trunkline_service.settings import Settings

FAKE_CHILD = Path(__file__).with_name("fake_child.py")


def supervisor_in(home, **changes):
    settings = Settings(
        **{"listen": "127.0.0.1:0", "data": str(home), "frontends": 2, "drain_s": 5.0, **changes}
    )
    return Supervisor(settings, command=(sys.executable, str(FAKE_CHILD)))


if __name__ == "__main__":
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    supervisor = supervisor_in(sys.argv[1])
    supervisor.start()
    sys.stdout.write(f"{supervisor.address}\n")
    sys.stdout.flush()
    ended.wait()
    supervisor.stop()
