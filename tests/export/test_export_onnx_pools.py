"""Two ways, one answer: pooling written as ONNX, and ``pool.Pool`` in PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import ExportError, InvalidArgument
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.identity import OutputSpec

torch = pytest.importorskip("torch", reason="needs the export extra")

import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from trunkline_export.cutting.pool import Layout, Pool, UnitLength  # noqa: E402
from trunkline_export.gate.candidate import Candidate  # noqa: E402
from trunkline_export.joining.join import Input, join, shape_of  # noqa: E402
from trunkline_export.joining.pool import Feature  # noqa: E402
from trunkline_export.sources.onnx import OnnxRequest, load_onnx  # noqa: E402

SIZE = 4
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
PREPROCESS = Preprocess("none", (SIZE, SIZE), "bilinear", (SIZE, SIZE), MEAN, STD)
PIXELS = np.random.default_rng(3).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


def projection(
    shape: tuple[int, ...], opset: int = 17, layout: str = "NCHW", scale: float = 1.0
) -> onnx.ModelProto:
    """Pixels to a tensor of any shape: flattened, times a random matrix."""
    weight = np.random.default_rng(7).normal(size=(3 * SIZE**2, int(np.prod(shape)))) * scale
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weight"], ["product"]),
        helper.make_node("Reshape", ["product", "target"], ["embedding"]),
    ]
    dims = ["n", 3, SIZE, SIZE] if layout == "NCHW" else ["n", SIZE, SIZE, 3]
    graph = helper.make_graph(
        nodes,
        "projection",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", *shape])],
        [
            numpy_helper.from_array(weight.astype(np.float32), "weight"),
            numpy_helper.from_array(np.array([-1, *shape], np.int64), "target"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def features(model: onnx.ModelProto, layout: str = "NCHW", channels: str = "RGB") -> Any:
    """The same in NumPy."""
    values = (PIXELS / np.float32(255) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    values = values[..., ::-1] if channels == "BGR" else values
    values = values.transpose(0, 3, 1, 2) if layout == "NCHW" else values
    weight, target = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    return torch.from_numpy((values.reshape(5, -1) @ weight).reshape(target).astype(np.float32))


def vectors(model: onnx.ModelProto, feature: Feature, folder: Path, taken: Input) -> Any:
    assert join(model, taken, PREPROCESS, feature, folder / "model.onnx") > 0
    return Candidate(folder / "model.onnx").run(PIXELS)


RGB = Input("image", "NCHW", "RGB")
sides = st.integers(1, 6)
maps = st.tuples(sides, sides, sides)
NORMALIZE = st.sampled_from(["none", "l2"])
tokens = st.tuples(st.integers(2, 7), sides)


def agree(
    shape: tuple[int, ...], pool: str, layout: Layout, normalize: str, folder: Path, **options: Any
) -> None:
    model = projection(shape, **options)
    feature = Feature(OutputSpec("embedding", pool, normalize), shape, layout)
    found = vectors(model, feature, folder, RGB)
    wanted = Pool(pool, layout)(features(model))
    wanted = UnitLength()(wanted) if normalize == "l2" else wanted
    np.testing.assert_allclose(found, wanted.numpy(), rtol=2e-5, atol=2e-5)


@settings(max_examples=60, deadline=None)
@given(
    shape=maps,
    pool=st.sampled_from(["avg", "max", "gem", "flatten"]),
    last=st.booleans(),
    normalize=NORMALIZE,
)
def test_maps(
    shape: tuple[int, ...], pool: str, last: bool, normalize: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    agree(shape, pool, Layout(channels_last=last), normalize, tmp_path_factory.mktemp("maps"))


@settings(max_examples=60, deadline=None)
@given(
    shape=tokens,
    pool=st.sampled_from(["avg", "max", "gem", "flatten", "cls", "cls+avg"]),
    data=st.data(),
    normalize=NORMALIZE,
)
def test_tokens(
    shape: tuple[int, ...], pool: str, data: Any, normalize: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = 1 if pool.startswith("cls") else 0
    prefix = data.draw(st.integers(first, shape[0] - 1))
    agree(shape, pool, Layout(prefix_tokens=prefix), normalize, tmp_path_factory.mktemp("tokens"))


@settings(max_examples=15, deadline=None)
@given(dim=sides, pool=st.sampled_from(["none", "flatten"]), normalize=NORMALIZE)
def test_vectors(dim: int, pool: str, normalize: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    agree((dim,), pool, Layout(), normalize, tmp_path_factory.mktemp("vectors"))


@settings(max_examples=200, deadline=None)
@given(
    shape=st.one_of(maps, tokens, st.tuples(sides)),
    pool=st.sampled_from(["avg", "max", "gem", "flatten", "cls", "cls+avg", "none"]),
    prefix=st.integers(0, 1),
)
def test_the_same_is_refused(shape: tuple[int, ...], pool: str, prefix: int) -> None:
    layout = Layout(prefix_tokens=prefix)

    def refused(make: Callable[[], object]) -> bool:
        try:
            make()
        except ExportError:
            return True
        return False

    here = refused(lambda: Feature(OutputSpec("embedding", pool), shape, layout))
    assert here == refused(lambda: Pool(pool, layout)(torch.zeros(2, *shape)))


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("pool", ["avg", "max", "gem", "flatten", "cls", "cls+avg", "none"])
def test_every_pool_at_every_opset(pool: str, opset: int, tmp_path: Path) -> None:
    shape = {"none": (6,), "cls": (5, 6), "cls+avg": (5, 6)}.get(pool, (6, 2, 3))
    agree(shape, pool, Layout(prefix_tokens=1), "l2", tmp_path, opset=opset)


def test_a_vector_of_zeros_stays_one(tmp_path: Path) -> None:
    agree((6, 2, 3), "avg", Layout(), "l2", tmp_path, scale=0.0)


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pixels_reach_the_network_as_it_takes_them(layout: str, channels: str, tmp_path: Path) -> None:
    model = projection((6,), layout=layout)
    feature = Feature(OutputSpec("embedding", "none"), (6,), Layout())
    found = vectors(model, feature, tmp_path, Input("image", layout, channels))
    wanted = features(model, layout, channels).numpy()
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    other = features(model, layout, "RGB" if channels == "BGR" else "BGR").numpy()
    assert not np.allclose(found, other, atol=0.1)


@pytest.mark.parametrize(
    ("layout", "shape", "dim"),
    [
        # Of a square input, so maps are square: what differs from two equal sides is the channels.
        ("NCHW", (6, 2, 2), 6),
        ("NCHW", (2, 2, 6), 6),
        ("NHWC", (6, 2, 2), 6),
        ("NHWC", (2, 2, 6), 6),
        ("NHWC", (1, 1, 6), 6),
        ("NHWC", (6, 1, 1), 6),
    ],
)
def test_the_channels_of_a_map_are_found(
    layout: str, shape: tuple[int, ...], dim: int, tmp_path: Path
) -> None:
    assert _exported(projection(shape, layout=layout), tmp_path, {}) == dim


def test_a_map_that_does_not_say_where_its_channels_are(tmp_path: Path) -> None:
    model = projection((2, 2, 2))
    with pytest.raises(InvalidArgument, match=r"gives \[2, 2, 2\].*add \"channels_last\": true or false"):
        _exported(model, tmp_path, {})
    assert _exported(model, tmp_path, {"channels_last": True}) == 2


def test_a_user_can_say_where_the_channels_of_a_map_lie(tmp_path: Path) -> None:
    model = projection((6, 2, 2))
    assert _exported(model, tmp_path, {"channels_last": True}) == 2
    assert _exported(model, tmp_path, {"channels_last": False}) == 6


def test_prefix_tokens_are_left_out_of_means_and_can_be_too_many(tmp_path: Path) -> None:
    model = projection((5, 6))
    assert _exported(model, tmp_path, {"prefix_tokens": 4}) == 6
    with pytest.raises(ExportError, match="leaves none behind the 5 prefix_tokens"):
        _exported(model, tmp_path, {"prefix_tokens": 5})


def _exported(model: onnx.ModelProto, folder: Path, fields: dict[str, Any]) -> int:
    (folder / "transform.json").write_text(json.dumps(PREPROCESS.to_json() | fields))
    onnx.save_model(model, folder / "net.onnx")
    network = load_onnx(folder / "net.onnx", OnnxRequest("embedding", folder / "transform.json"))
    return network.write(folder / "model.onnx")


def test_the_shape_is_without_the_batch() -> None:
    assert shape_of(projection((6, 2, 3)), RGB, PREPROCESS, "embedding") == (6, 2, 3)
