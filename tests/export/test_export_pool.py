"""Pooling: each kind against NumPy, and what has no meaning is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import ExportError

torch = pytest.importorskip("torch", reason="needs the export extra")

from trunkline_export.cutting.pool import POOLS, Layout, Pool, UnitLength  # noqa: E402

SIDES = st.integers(1, 5)
MAPS = ("avg", "max", "gem", "flatten")


def _random(*shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32))


@given(st.integers(1, 3), st.integers(1, 6), SIDES, SIDES)
def test_maps(images: int, channels: int, height: int, width: int) -> None:
    features = _random(images, channels, height, width)
    places = features.numpy().reshape(images, channels, -1)
    wanted = {
        "avg": places.mean(2),
        "max": places.max(2),
        "gem": np.cbrt((np.maximum(places, 1e-6).astype(np.float64) ** 3).mean(2)),
        "flatten": places.reshape(images, -1),
    }
    for kind in MAPS:
        np.testing.assert_allclose(Pool(kind, Layout())(features).numpy(), wanted[kind], rtol=1e-5, atol=1e-6)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4))
def test_channels_last_is_another_layout_of_the_same(images: int, channels: int, side: int) -> None:
    first = _random(images, channels, side, side + 1)
    last = first.permute(0, 2, 3, 1)
    for kind in MAPS:
        assert torch.equal(Pool(kind, Layout(channels_last=True))(last), Pool(kind, Layout())(first))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 6))
def test_tokens(images: int, prefix: int, patches: int, channels: int) -> None:
    tokens = _random(images, prefix + patches, channels)
    layout, values = Layout(prefix_tokens=prefix), tokens.numpy()
    average = values[:, prefix:].mean(1)
    assert np.array_equal(Pool("cls", layout)(tokens), values[:, 0])
    np.testing.assert_allclose(Pool("avg", layout)(tokens), average, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(Pool("max", layout)(tokens), values[:, prefix:].max(1))
    both = Pool("cls+avg", layout)(tokens)
    np.testing.assert_allclose(both, np.concatenate([values[:, 0], average], 1), rtol=1e-5, atol=1e-6)
    assert np.array_equal(Pool("flatten", layout)(tokens), values.reshape(images, -1))


@pytest.mark.parametrize(
    ("kind", "shape", "says"),
    [
        ("none", (2, 3, 4, 4), "pool 'none' takes one vector an image.*--pool avg"),
        ("cls", (2, 3, 4, 4), "needs a class token"),
        ("cls", (2, 5, 4), "needs a class token"),
        ("cls+avg", (2, 5), "needs a class token"),
        ("avg", (2, 5), "takes a feature map.*--pool none"),
        ("gem", (2, 5), "takes a feature map"),
    ],
)
def test_a_pool_that_does_not_fit_is_refused(kind: str, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ExportError, match=says):
        Pool(kind, Layout())(torch.zeros(shape))


@given(st.integers(1, 5), st.integers(1, 20))
def test_unit_length(images: int, dim: int) -> None:
    vectors = UnitLength()(_random(images, dim))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert torch.equal(UnitLength()(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_every_kind_is_known() -> None:
    assert set(POOLS) == {"avg", "max", "gem", "cls", "cls+avg", "flatten", "none"}
