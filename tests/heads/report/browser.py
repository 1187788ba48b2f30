"""A real browser, headless, driven over its debugging pipe: no port, no driver to install."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Nothing in the browser may wait for longer; a hung one is killed with the test.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


class Page:
    """One page; methods wait for the browser's answer."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = os.fdopen(commands, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb")
        self._last = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def open(self, path: Path, downloads: Path) -> None:
        """Loads a file; what it saves goes to ``downloads``."""
        self._session, self.events = None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        self.call(
            "Browser.setDownloadBehavior",
            behavior="allow",
            downloadPath=str(downloads),
            eventsEnabled=True,
        )
        self.call("Page.navigate", url=path.as_uri())
        self.wait("Page.loadEventFired")

    def call(self, method: str, **params: Any) -> Any:
        """The result of a command of the DevTools protocol."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, method: str, **expected: Any) -> dict[str, Any]:
        """The first event of a kind, from the beginning on, with these parameters."""

        def fits(event: dict[str, Any]) -> bool:
            params = event.get("params", {})
            return event.get("method") == method and expected.items() <= params.items()

        while not any(fits(event) for event in self.events):
            self.events.append(self._read())
        return next(event["params"] for event in self.events if fits(event))

    def _read(self) -> dict[str, Any]:
        parts = bytearray()
        while not parts.endswith(b"\0"):
            piece = self._answers.read1(1)
            assert piece, "the browser ended"
            parts += piece
        return json.loads(parts[:-1])

    def close(self) -> None:
        self._commands.close()
        self._answers.close()


# The browser reads from 3 and writes to 4: a process of its own numbers them, since a child of this one can't
# without forking, which Lance's threads do not allow.
_LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser with an empty profile; ended afterwards."""
    assert CHROMIUM is not None
    from_us, commands = os.pipe()
    answers, to_us = os.pipe()

    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            _LAUNCH,
            str(from_us),
            str(to_us),
            CHROMIUM,
            *_FLAGS,
            f"--user-data-dir={profile}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(from_us, to_us),
        env=os.environ | {"HOME": str(profile)},
    ) as process:
        os.close(from_us)
        os.close(to_us)
        page = Page(commands, answers)
        try:
            yield page
        finally:
            page.close()
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
