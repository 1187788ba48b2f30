"""Real server processes on loopback, started as a user starts them, and stopped."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CLI = (sys.executable, "-m", "trunkline_service.cli.entry")


@dataclass
class Running:
    """A server process."""

    process: subprocess.Popen[str]
    address: str
    line: str
    stderr: Path

    def terminate(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def running(tmp_path: Path, *arguments: str, environment: dict[str, str] | None = None) -> Iterator[Running]:
    stderr = tmp_path / "server.stderr"
    with stderr.open("w") as errors:
        process = subprocess.Popen(
            [*CLI, "serve", "--listen", "127.0.0.1:0", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r" on (\S+:\d+) ", line)
            assert found, f"no address in {line!r}; stderr: {stderr.read_text()}"
            yield Running(process, found.group(1), line, stderr)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="session")
def start_server() -> Callable[..., Any]:
    """``with start_server(tmp_path, "--models", ...) as server: server.address``."""
    return running


@pytest.fixture(scope="session")
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in a process of its own."""

    def run(*arguments: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *arguments], capture_output=True, text=True, cwd=cwd, timeout=300, check=False, **options
        )

    return run


@pytest.fixture(scope="module")
def tiny_server(
    tmp_path_factory: pytest.TempPathFactory, publish_tiny: Callable[..., Any]
) -> Iterator[Running]:
    """A server with the models ``tiny`` (the default) and ``double``, in different spaces."""
    home = tmp_path_factory.mktemp("server")
    publish_tiny(home / "models")
    publish_tiny(home / "models", name="double", scale=2.0, space_id="sp1-" + "d" * 32)
    with running(home, "--models", "models", "--data", "data", "--default-model", "tiny") as server:
        yield server
