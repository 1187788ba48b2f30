"""What one run of the benchmark is told, and what is measured the same way in all its parts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.serving import made
from tests.benchmarks.serving.peers import Peers
from tests.benchmarks.serving.processes import Ended, Hung, Lines, plain_environment, said
from tests.benchmarks.serving.trunkline import Variant

Row = dict[str, Any]
HERE = Path(__file__).parent
START_S = 90.0
EMBEDDING_BYTES = 2048
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Bench:
    """One run.

    Attributes:
        home: A temporary folder.
        models: The model repository.
        images: A folder of JPEGs.
        networks: Which models are measured.
        variants: The ways in which Trunkline serves.
        peers: The other servers' folder, if there is one.
        peer_names: Which of them.
        same_decode: Whether they run with Trunkline's decode too.
        calls: Numbers of callers at once.
        rounds: How often everything is measured; figures are medians.
        seconds: Of one load.
        warm: Seconds before each load that do not count.
        channels: The most gRPC connections of the generator.
        retries: How often a load is repeated while others use the machine.
        record: Takes every row as soon as it is known.
    """

    home: Path
    models: Path
    images: Path
    networks: tuple[str, ...]
    variants: tuple[Variant, ...]
    peers: Peers | None
    peer_names: tuple[str, ...]
    same_decode: bool
    calls: tuple[int, ...]
    rounds: int
    seconds: float
    warm: float
    channels: int
    retries: int
    record: Callable[[Row], None]

    @property
    def patience(self) -> float:
        """Seconds without a word after which a load counts as hung; the last calls of it may take long."""
        return (1 + self.retries) * (self.warm + self.seconds) + 45.0

    @property
    def log(self) -> Path:
        """Where processes write what no one asked for."""
        return self.home / "log.txt"

    def onnx(self, network: str) -> Path:
        """The graph of a model, for those who know no model repository."""
        from trunkline_service.models.repository import ModelRepository

        return ModelRepository(self.models).resolve(network).onnx

    def callers(self, network: str) -> tuple[int, ...]:
        """Numbers of callers for a network; a slow one's single cell says as much as three."""
        return tuple(c for c in self.calls if network != "resnet50" or c == 16) or self.calls[:1]

    def generate(self, **order: Any) -> Iterator[Row]:
        """What the load generator prints.

        Raises:
            Hung: Nothing came for `patience` seconds.
            Ended: It failed.
        """
        python, folder = sys.executable, None
        if self.peers is not None:
            python, folder = str(self.peers.python), str(self.peers.theirs)
        common = {
            "peers": folder,
            "images": str(self.images),
            "seconds": self.seconds,
            "warm": self.warm,
            "channels": self.channels,
            "retries": self.retries,
        }
        command = [python, str(HERE / "generator.py"), json.dumps(common | order)]
        begun = str(order.get("onnx", ""))
        environment = plain_environment(**({"BENCH_MODEL": begun} if begun else {}))
        return said(command, self.log, self.patience, environment)

    def load(
        self, url: str, pid: int, requests: Sequence[bytes], calls: Sequence[int], **more: Any
    ) -> Iterator[Row]:
        """Loads a gRPC server that runs; each call counts once in ``img_s``, whatever is in it."""
        file = made.written(requests, self.home / f"requests-{os.getpid()}-{more.pop('name', 'load')}.bin")
        return self.generate(do="load", url=url, pid=pid, requests=str(file), calls=list(calls), **more)

    def raw(
        self, network: str, decode: str = "exact", way: str | None = None, images: Path | None = None
    ) -> Row:
        """The ceiling by Trunkline's decode, from a process of its own."""
        given = {
            "models": str(self.models),
            "network": network,
            "images": str(images or self.images),
            "decode": decode,
            "seconds": max(1.0, self.seconds / 3) * (2 if network == "resnet50" else 1),
            "cores": CORES,
            "way": way,
            "retries": self.retries,
        }
        command = [sys.executable, "-m", "tests.benchmarks.serving", "--child", json.dumps(given)]
        (found,) = said(command, self.log, START_S * 2)
        return found

    def null(self, c: int, images: int) -> Row:
        """CPU of a gRPC call that does nothing, with requests and replies of the same size."""
        command = [sys.executable, str(HERE / "null_server.py"), str(EMBEDDING_BYTES * images)]
        server = Lines(command, self.log, plain_environment())
        try:
            port = server.line(START_S)
            if port is None:
                raise server.complain()
            requests = made.requests("trunkline", self.networks[0], made.files(self.images), images)
            url = f"grpc://127.0.0.1:{int(port)}/bench.Null/Call"
            (row,) = figures(self.load(url, server.pid, requests, [c], name="null"))
            return row
        finally:
            server.end()


def figures(rows: Iterator[Row]) -> Iterator[Row]:
    """Without the lines that only say what begins."""
    return (row for row in rows if "begins" not in row)


def with_restarts(calls: Sequence[int], attempt: Callable[[Sequence[int]], Iterator[Row]]) -> Iterator[Row]:
    """Rows of all loads of a server. After one that hung the server is started anew for those that are left."""
    left = list(calls)
    while left:
        current = None
        try:
            for row in attempt(left):
                if "begins" in row:
                    current = row["c"]
                else:
                    yield row
            return
        except (Hung, Ended) as trouble:
            said_so = f"{type(trouble).__name__.lower()}: {trouble}"
            if current is None:
                yield from ({"c": c, "failed": f"not started; {said_so}"} for c in left)
                return
            yield {"c": current, "failed": said_so}
            left = left[left.index(current) + 1 :]
