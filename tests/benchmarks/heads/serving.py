"""What a head adds to a call, and what a hundred of them do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fitted import Convergence
from trunkline_service.heads.network import Linear, Network
from trunkline_service.heads.serving import onnx_head
from trunkline_service.heads.serving.loaded import LoadedHead
from trunkline_service.heads.serving.stacked import StackedHeads

DIM, CLASSES = 384, 10
SPACE = "sp1-" + "0" * 32


def head(number: int) -> LoadedHead:
    """A linear head of random weights."""
    chance = np.random.default_rng(number)
    body = Linear(
        chance.normal(size=(CLASSES, DIM)).astype(np.float32), chance.normal(size=CLASSES).astype(np.float32)
    )
    classes = tuple(f"class {k}" for k in range(CLASSES))
    card = HeadCard(
        name=f"head{number}",
        version=1,
        kind="pretrained",
        task="single-label",
        space_id=SPACE,
        dim=DIM,
        model="made@1",
        decode="exact",
        classes=classes,
        target="label",
        collection="",
        collection_version=0,
        training_hash="0" * 64,
        rows=0,
        hyper_parameters={},
        temperature=1.0,
        convergence=Convergence(),
        metrics=None,
        test_metrics=None,
        distance_quantiles={},
        curves={},
        notes=(),
        head_sha256="0" * 64,
        created_at="2026-01-01T00:00:00+00:00",
        trunkline_version="0",
    )
    return LoadedHead(card, onnx_head.build(Network(body, "softmax"), classes, SPACE, "single-label"))


def table(quick: bool) -> Iterator[dict[str, str]]:
    """A row for each batch size."""
    heads = [head(number) for number in range(10 if quick else 100)]
    for images in (1, 16, 64):
        rows = np.random.default_rng(0).normal(size=(images, DIM)).astype(np.float32)
        one = _microseconds(lambda rows=rows: heads[0].answer(rows, SPACE))
        stack = StackedHeads(heads)
        every = _microseconds(lambda rows=rows, stack=stack: stack.outputs(rows, SPACE))
        yield {
            "what": f"a head of {CLASSES} classes on {images} embeddings of {DIM}",
            "measured": f"{one:.0f} us, {one / images:.2f} us an image",
            "asked": "50 us an image",
        }
        yield {
            "what": f"{len(heads)} heads at once on {images} embeddings",
            "measured": f"{every / one:.1f} x one ({every:.0f} us); {every / images:.1f} us an image for all",
            "asked": "10 x one",
        }


def _microseconds(call: Callable[[], object], rounds: int = 7) -> float:
    def timed() -> float:
        count = 100
        started = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - started) / count

    call()
    return min(timed() for _ in range(rounds)) * 1e6
