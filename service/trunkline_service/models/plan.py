"""How a model is run on a device: measured, not assumed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExecutionPlan:
    """What a session is opened with, and how many of its runs go at once.

    On a CPU two runs of one image, each on a thread of its own, can beat one run of sixteen images on two
    threads; which is so depends on the network and on the machine.

    Attributes:
        threads: Threads inside one run (ONNX Runtime's intra-op threads).
        runs: Runs at once, each from a thread of its own.
        batch: The most images in one run.

    Raises:
        ValueError: One of them is below 1.
    """

    threads: int
    runs: int
    batch: int

    def __post_init__(self) -> None:
        for name in ("threads", "runs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"an execution plan's {name} is {getattr(self, name)}; it must be at least 1"
                )
