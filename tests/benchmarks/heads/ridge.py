"""A path of 50 penalties with leave-one-out errors, beside RidgeCV."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.benchmarks.heads import made

Floats = NDArray[Any]
ALPHAS = np.logspace(-3, 6, 50)
SHAPES = ((4317, 192, 5), (10_000, 384, 1), (10_000, 384, 10), (2000, 2048, 1))


def table(quick: bool) -> Iterator[dict[str, str]]:
    """A row for each shape."""
    from sklearn.linear_model import RidgeCV

    from trunkline_service.heads.solver.ridge import LeaveOneOut
    from trunkline_service.heads.solver.workers import workers

    def path(rows: Floats, targets: Floats) -> None:
        # As `kinds/ridge.py`: where the decomposition is most of it, BLAS has all cores.
        if len(rows) <= rows.shape[1]:
            LeaveOneOut(rows, targets).errors(ALPHAS)
            return
        with workers() as (executor, _):
            LeaveOneOut(rows, targets, executor=executor).errors(ALPHAS)

    for n, dim, outputs in SHAPES[: 1 if quick else None]:
        rows, _ = made.embeddings(n, dim, 10, 0.3)
        chance = np.random.default_rng(2)
        targets = rows @ chance.normal(size=(dim, outputs)) / dim**0.5 + chance.normal(size=(n, outputs))
        ours = _best(lambda rows=rows, targets=targets: path(rows, targets))
        theirs = _best(lambda rows=rows, targets=targets: RidgeCV(ALPHAS).fit(rows, targets))
        yield {
            "what": f"ridge, {n:,} x {dim}, {outputs} outputs, 50 penalties with leave-one-out: RidgeCV",
            "measured": f"{theirs / ours:.1f} x ({ours:.2f} s, {theirs:.2f} s)",
            "asked": "1 x",
        }


def _best(call: Callable[[], object]) -> float:
    def timed() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    return min(timed() for _ in range(3))
