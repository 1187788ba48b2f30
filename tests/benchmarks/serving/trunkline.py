"""Trunkline as a process: started, asked whether its vectors are right, stopped."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.benchmarks.serving import made
from tests.benchmarks.serving.processes import Lines, plain_environment

METHODS = {
    "trunkline": "/trunkline.v1.Embedding/Embed",
    "open-inference": "/inference.GRPCInferenceService/ModelInfer",
}
CLI = [sys.executable, "-m", "trunkline_service.cli.entry"]
START_S = 120.0
COSINE = 0.9999


@dataclass(frozen=True)
class Variant:
    """A way in which Trunkline serves.

    Attributes:
        protocol: ``trunkline`` or ``open-inference``.
        frontends: Front processes; 0 for one process that does everything.
    """

    protocol: str = "trunkline"
    frontends: int = 0

    @property
    def name(self) -> str:
        """In tables and for ``--servers``."""
        fronts = f"-{self.frontends}-fronts" if self.frontends else ""
        return f"trunkline{fronts}{'-oip' if self.protocol == 'open-inference' else ''}"


@dataclass(frozen=True)
class Served:
    """A server that is ready.

    Attributes:
        address: ``host:port``.
        pid: Of its first process; the others descend from it.
    """

    address: str
    pid: int

    def url(self, protocol: str) -> str:
        """For the load generator."""
        return f"grpc://{self.address}{METHODS[protocol]}"


def variants(frontends: int) -> tuple[Variant, ...]:
    """All that this version can do."""
    flags = subprocess.run([*CLI, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    numbers = (0, frontends) if frontends and "--frontends" in flags else (0,)
    protocols = ("trunkline", "open-inference") if _speaks_open_inference() else ("trunkline",)
    return tuple(Variant(protocol, number) for number in numbers for protocol in protocols)


def _speaks_open_inference() -> bool:
    from trunkline_service.server import names

    return any("inference." in name for name in names.NAMES)


@contextmanager
def serving(
    home: Path, models: Path, network: str, frontends: int = 0, decode: str = "exact"
) -> Iterator[Served]:
    """A server of one network, until the block ends. No cache of embeddings: the images come again and again."""
    command = [*CLI, "serve", "--models", str(models), "--data", str(home / "data")]
    command += ["--listen", "127.0.0.1:0", "--device", "cpu", "--decode", decode, "--default-model", network]
    if frontends:
        command += ["--frontends", str(frontends)]
    # From a folder without a trunkline.toml.
    process = Lines(command, home / "trunkline.log", environment(home), home)
    try:
        line = process.line(START_S)
        while line is not None and not line.startswith("serving "):
            line = process.line(START_S)
        if line is None:
            raise process.complain()
        found = re.search(r" on (\S+:\d+) ", line)
        assert found is not None, line
        yield Served(found[1], process.pid)
    finally:
        process.end()


def environment(home: Path) -> dict[str, str]:
    """What is measured at a first start is recorded in ``home``, so that a benchmark begins with nothing."""
    return plain_environment(XDG_CACHE_HOME=str(home / "cache"), TRUNKLINE_CACHE_MB="0")


def check(
    served: Served, protocol: str, network: str, images: Sequence[bytes], wanted: list[list[float]]
) -> None:
    """Compares the vectors of a few images with those of the raw session.

    Raises:
        SystemExit: They are others; figures of such a server mean nothing.
    """
    import grpc

    with grpc.insecure_channel(served.address) as channel:
        call = channel.unary_unary(METHODS[protocol])
        for position, vector in enumerate(wanted):
            (request,) = made.requests(protocol, network, images[position : position + 1])
            found = _vector(protocol, call(request, timeout=60))
            cosine = found @ vector / (np.linalg.norm(found) * np.linalg.norm(vector))
            if cosine < COSINE:
                raise SystemExit(
                    f"{network} over {protocol}: image {position} has a cosine of {cosine:.4f} to raw"
                )


def _vector(protocol: str, reply: bytes) -> np.ndarray:
    if protocol == "trunkline":
        from trunkline_protos.v1 import embedding_pb2

        answer = embedding_pb2.EmbedResponse.FromString(reply)
        if answer.errors:
            raise SystemExit(f"an image was refused: {answer.errors[0].message}")
        return np.frombuffer(answer.embeddings.data, np.float32)
    from trunkline_protos.open_inference import inference_pb2

    return np.frombuffer(
        inference_pb2.ModelInferResponse.FromString(reply).raw_output_contents[0], np.float32
    )
