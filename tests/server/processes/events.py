"""What fake children tell a test through the named pipe ``events`` of its folder; see `fake_child.py`."""

from __future__ import annotations

import json
import os
import select

PATIENCE_S = 60


class Events:
    """What fake children tell, one after the other."""

    def __init__(self, home):
        os.mkfifo(home / "events")
        self._pipe = os.open(home / "events", os.O_RDWR)
        self._lines = os.fdopen(self._pipe, "rb", buffering=0)
        self.seen = []

    def _waits(self, seconds):
        return bool(select.select([self._pipe], [], [], seconds)[0])

    def next(self):
        assert self._waits(PATIENCE_S), f"nothing came after {self.seen}"
        event = json.loads(self._lines.readline())
        self.seen.append(event)
        return event

    def until(self, part, kind, **details):
        """Reads on until this event; returns its details."""
        while True:
            found_part, found_kind, found = self.next()
            if (found_part, found_kind) == (part, kind) and all(
                found.get(k) == v for k, v in details.items()
            ):
                return found

    def rest(self):
        """What is left, when nobody tells anything any more."""
        while self._waits(0):
            self.next()
        return self.seen

    def close(self):
        self._lines.close()
