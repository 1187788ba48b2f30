"""A server in this process with the tiny model, and time that only waiting moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from trunkline_service.bench.loops import Rim
from trunkline_service.server.app import Server
from trunkline_service.settings import Settings


class FakeTime:
    """A clock that moves on when every task waits for it: by as much as the first of them waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cpu = 0.0
        self.stop = asyncio.Event()
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    @property
    def rim(self) -> Rim:
        return Rim(lambda: self.now, lambda: self.cpu, self.until, self.stop)

    async def until(self, instant: float) -> None:
        if instant > self.now:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((instant, future))
            await future
        else:
            await asyncio.sleep(0)

    async def drive(self, work: Any) -> Any:
        """The result of a coroutine, while time moves."""
        task = asyncio.create_task(work)
        while not task.done():
            # Long enough for whatever can run to come to its next wait.
            for _ in range(20):
                await asyncio.sleep(0)
            self._waiting = [entry for entry in self._waiting if not entry[1].done()]
            if self._waiting and not task.done():
                first = min(self._waiting, key=lambda entry: entry[0])
                self.now = max(self.now, first[0])
                first[1].set_result(None)
        return task.result()


@pytest.fixture
def in_fake_time() -> Callable[..., Any]:
    """``in_fake_time(lambda time: coroutine)``: its result."""

    def run(make: Callable[[FakeTime], Any]) -> Any:
        async def main() -> Any:
            time = FakeTime()
            return await time.drive(make(time))

        return asyncio.run(main())

    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, publish_tiny: Callable[..., Any]) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("bench")
    publish_tiny(home / "models")
    built = Server(
        Settings(
            models=str(home / "models"),
            data=str(home / "data"),
            default_model="tiny",
            listen="127.0.0.1:0",
            device="cpu",
            threads=1,
        )
    )
    built.start()
    yield built
    built.stop()
