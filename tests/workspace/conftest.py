"""A workspace with the models ``tiny`` and ``double``, in two spaces, and collections to fit heads on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.network import Linear, Network
from trunkline_service.images.inputs import EncodedImage
from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace

DIM = 48
CLASSES = ("dark", "light")


class Told:
    """An observer that remembers what it was told of shadows."""

    def __init__(self) -> None:
        self.shadows: list[tuple[Any, ...]] = []
        self.failed: list[str] = []

    def decoded(self, seconds: float) -> None: ...

    def batch(self, model: str, size: int, seconds: float) -> None: ...

    def dropped(self, reason: str) -> None: ...

    def cached(self, result: str) -> None: ...

    def image_failed(self, reason: str) -> None: ...

    def shadow(self, head: str, serving: int, candidate: int, rows: int, disagreements: int) -> None:
        self.shadows.append((head, serving, candidate, rows, disagreements))

    def shadow_failed(self, head: str) -> None:
        self.failed.append(head)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def workspace(tmp_path, publish_tiny, told) -> Iterator[Workspace]:
    publish_tiny(tmp_path / "models")
    publish_tiny(tmp_path / "models", name="double", scale=2.0)
    settings = Settings(
        models=str(tmp_path / "models"), data=str(tmp_path / "data"), default_model="tiny", device="cpu"
    )
    with Workspace(settings, observer=told) as opened:
        yield opened


def vectors(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Rows of which every second one is light."""
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    rows[1::2] += 3.0
    return rows


@pytest.fixture
def store_rows(workspace) -> Callable[..., Collection]:
    """``store_rows("shades", count=20, model="tiny")``: rows ``r0``, ... of both classes, with a number each."""

    def store(name: str, count: int = 20, model: str = "tiny", **values: Any) -> Collection:
        collection = workspace.open_for(name, model)
        factor = 2.0 if model == "double" else 1.0
        rows = [
            Row(
                f"r{index}",
                vector * np.float32(factor),
                label=CLASSES[index % 2],
                metadata={"price": float(vector.sum())},
                **values,
            )
            for index, vector in enumerate(vectors(count))
        ]
        collection.upsert(rows, space_id=collection.spec.space_id, decode="exact")
        return collection

    return store


@pytest.fixture
def constant(workspace) -> Callable[..., FittedHead]:
    """``constant("dark")`` answers that, whatever it is asked."""

    def make(label: str = "dark", model: str = "tiny", **changes: Any) -> FittedHead:
        card = workspace.models.get(model).card
        bias = np.array([20.0 if label == name else 0.0 for name in CLASSES], np.float32)
        values: dict[str, Any] = {
            "kind": "pretrained",
            "task": "single-label",
            "network": Network(Linear(np.zeros((2, DIM), np.float32), bias), "softmax"),
            "classes": CLASSES,
            "space_id": card.space_id,
            "model": card.reference,
            "collection": "",
            "collection_version": 0,
            "training_hash": "a" * 64,
            "rows": 0,
            "hyper_parameters": {},
            "temperature": 1.0,
            "evaluation": None,
            "notes": (),
        }
        return FittedHead(**values | changes)

    return make


@pytest.fixture
def image(png) -> Callable[[int], EncodedImage]:
    """A picture of one shade."""
    return lambda shade: EncodedImage(png(np.full((32, 32, 3), shade, np.uint8)))
