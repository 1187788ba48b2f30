"""The command line in a process that kills itself with SIGKILL, at an instant that hangs on what the job has done.

    python dying_job.py COMMIT PAUSE ARGUMENTS...

It dies PAUSE seconds after its COMMIT-th commit began (0: after the process did), within that commit or behind it.
However long it takes to die, the job commits no more than that, so that it can't end before: how busy the machine
is changes where a commit is hit, and never whether there is a kill. A job that has fewer commits to make ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any


def die_in(pause_s: float) -> None:
    timer = threading.Timer(pause_s, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()


def die_at_commit(number: int, pause_s: float) -> None:
    """From now on commits are counted."""
    from trunkline_service.jobs.commits import Gathered

    store, begun = Gathered.store, 0

    def counted(gathered: Gathered, target: Any) -> None:
        nonlocal begun
        if number:
            begun += 1
            if begun == number:
                die_in(pause_s)
            store(gathered, target)
        if begun == number:
            # Death comes to this thread, too.
            threading.Event().wait()

    Gathered.store = counted  # type: ignore[method-assign]


def main() -> int:
    commit, pause, *arguments = sys.argv[1:]
    if commit == "0":
        die_in(float(pause))
    die_at_commit(int(commit), float(pause))
    from trunkline_service.cli import entry

    sys.argv = ["trunkline", *arguments]
    return entry.main()


if __name__ == "__main__":
    sys.exit(main())
