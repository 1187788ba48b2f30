"""Rows to look at, made without a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.explore.live import Live, bring_in_range
from trunkline_service.index.metric import prepared


@pytest.fixture(scope="session")
def make_live() -> Callable[..., Live]:
    """``make_live(vectors, labels=, splits=, sizes=, compared=)``; ids are ``r0``, ``r1``, ..."""

    def make(
        vectors: Any,
        labels: Any = None,
        splits: Any = None,
        sizes: Any = None,
        compared: str = "cosine",
    ) -> Live:
        rows = np.array(vectors, np.float32)
        count = len(rows)
        unit = bring_in_range(rows) if compared == "euclidean" else 1.0
        text = pa.large_utf8()
        several = labels is not None and any(isinstance(label, (list, tuple)) for label in labels)
        kind = pa.large_list(text) if several else text
        spec = CollectionSpec(
            space_id="sp1-test",
            dim=rows.shape[1],
            model="m@1",
            artifact_id="ar1-0",
            decode="exact",
            metric=compared,
        )
        return Live(
            name="things",
            spec=spec,
            version=3,
            vectors=prepared(rows, compared),
            ids=pa.array([f"r{at}" for at in range(count)], text),
            labels=pa.array(labels if labels is not None else [None] * count, kind),
            splits=pa.array(splits if splits is not None else [None] * count, text),
            sources=pa.array([f"/images/{at}.jpg" for at in range(count)], text),
            read_sizes=lambda: np.asarray(sizes if sizes is not None else [-1] * count, np.int64),
            unit=unit,
        )

    return make


@pytest.fixture(scope="session")
def clouds() -> Callable[..., Any]:
    """``clouds(counts, dim, spread)``: float32 rows around random centres, and the cloud of each."""

    def make(counts: list[int], dim: int = 16, spread: float = 0.15, seed: int = 0) -> Any:
        generator = np.random.default_rng(seed)
        centres = generator.normal(size=(len(counts), dim))
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        of = np.repeat(np.arange(len(counts)), counts)
        noise = generator.normal(size=(len(of), dim)) * spread / np.sqrt(dim)
        return (centres[of] + noise).astype(np.float32), of

    return make
