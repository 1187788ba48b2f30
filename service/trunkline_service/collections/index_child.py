"""The program that makes Lance's index of vectors and ends; `index_process` starts it and listens to it.

One line of JSON comes in: ``{"uri", "version", "scratch", "arguments"}``. Lines of JSON go out: ``{"cpu": seconds}``
every now and then, ``{"progress": [stage, completed, total]}``, and last ``{"made": true}`` or
``{"failed": [kind, text]}``. The standard input stays open as long as the other process lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_BEAT_S = 5.0
_NICE = 10
# Of -1000 to 1000: where memory runs out, this process ends and not the server.
_OOM_SCORE = "800"
_KINDS = (OSError, ValueError, RuntimeError)

Say = Callable[[str, Any], None]


def main() -> None:
    """Reads the task, does it, and says how it went."""
    say = _saying()
    task = json.loads(sys.stdin.readline())
    _ends_with_its_parent(task["scratch"])
    _gives_way()
    threading.Thread(target=_beat, args=(say,), name="beat", daemon=True).start()
    try:
        _make(task, say)
    except Exception as exc:  # noqa: BLE001  whatever it is, it is told to who knows what to do about it
        if not isinstance(exc, _KINDS):
            traceback.print_exc()
        kind = next((kind.__name__ for kind in _KINDS if isinstance(exc, kind)), type(exc).__name__)
        say("failed", [kind, str(exc)])
    else:
        say("made", True)
    # Not by the interpreter's end, which waits for Lance's threads.
    os._exit(0)


def _make(task: dict[str, Any], say: Say) -> None:
    import lance

    def heard(event: Any) -> None:
        say("progress", [event.stage, event.completed, event.total])

    dataset = lance.dataset(task["uri"], version=task["version"])
    dataset.create_index("embedding", **task["arguments"], progress_callback=heard)


def _saying() -> Say:
    """Says a line at a time, on what was the standard output; what libraries print goes to the error output."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    lock = threading.Lock()

    def say(word: str, value: Any) -> None:
        with lock, contextlib.suppress(BrokenPipeError):
            out.write(json.dumps({word: value}) + "\n")

    return say


def _ends_with_its_parent(scratch: str) -> None:
    def watch() -> None:
        sys.stdin.read()
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _gives_way() -> None:
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        # Not every system has it.
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def _beat(say: Say) -> None:
    while True:
        say("cpu", time.process_time())
        time.sleep(_BEAT_S)


if __name__ == "__main__":
    main()
