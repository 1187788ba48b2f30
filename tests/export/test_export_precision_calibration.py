"""Calibration: images that are made, ranges that are measured, the front that is folded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

onnx = pytest.importorskip("onnx", reason="needs the export extra")
ort = pytest.importorskip("onnxruntime", reason="needs the export extra")

from onnx import TensorProto, helper, numpy_helper, shape_inference  # noqa: E402

from trunkline_export.gate import images as gate_images  # noqa: E402
from trunkline_export.precision import blame, calibration, front, ranges  # noqa: E402
from trunkline_service.errors import EmptyImage  # noqa: E402
from trunkline_service.images.preprocess import Preprocess  # noqa: E402

SPEC = Preprocess("shorter", (40, 40), "bilinear", (32, 32), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
FLOATS = st.floats(-1e6, 1e6, width=32)


def test_made_images_are_the_same_every_time_and_unlike_each_other() -> None:
    files = calibration.made(6)
    assert files == calibration.made(6)
    assert len(set(files)) == 6
    pixels = np.concatenate(list(calibration.prepared(files, SPEC))).astype(np.float64)
    # Brightness and contrast vary, and no image is one colour.
    assert np.ptp(pixels.mean(axis=(1, 2, 3))) > 30
    assert pixels.std(axis=(1, 2, 3)).min() > 5


def test_no_image_calibrates_and_judges() -> None:
    decoded = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in calibration.made(4)]
    judged = [np.asarray(Image.open(io.BytesIO(image.data)).convert("RGB")) for image in gate_images.made()]
    assert not any(np.array_equal(ours, theirs) for ours in decoded for theirs in judged)


def test_images_are_prepared_in_small_batches() -> None:
    files = calibration.made(2) * 9
    batches = list(calibration.prepared(iter(files), SPEC))
    assert [batch.shape for batch in batches] == [(16, 32, 32, 3), (2, 32, 32, 3)]
    assert all(batch.dtype == np.uint8 for batch in batches)
    assert (batches[0][0] == batches[1][0]).all()


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(EmptyImage):
        list(calibration.prepared([b""], SPEC))


@given(
    st.lists(st.tuples(FLOATS, FLOATS).map(sorted), min_size=1, max_size=30),
    st.floats(0.5, 1),
    st.floats(0.5, 1),
)
def test_a_range_holds_zero_and_grows_with_what_it_covers(
    pairs: list[list[float]], some: float, more: float
) -> None:
    lowest, highest = np.array(pairs, np.float32).T
    extremes = ranges.Extremes(lowest, highest)
    low, high = extremes.covering(min(some, more))
    lower, higher = extremes.covering(max(some, more))
    assert lower <= low <= 0 <= high <= higher
    assert extremes.covering(1.0) == (min(lowest.min(), 0), max(highest.max(), 0))
    assert extremes.magnitude == max(np.abs(lowest).max(), np.abs(highest).max())


def graph_of(nodes: list[Any], constants: dict[str, Any], opset: int = 20) -> Any:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 4, 4, 3])
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3, 4, 4])
    held = [
        numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in constants.items()
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "made", [image], [out], held),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )
    return shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def chain(*steps: tuple[str, str]) -> list[Any]:
    """Layout and type, then arithmetic: each step takes the one before and a constant."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["layout"], name="layout", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["layout"], ["step_0"], name="cast", to=TensorProto.FLOAT),
    ]
    for number, (op_type, constant) in enumerate(steps):
        inputs = [f"step_{number}", constant]
        nodes.append(helper.make_node(op_type, inputs, [f"step_{number + 1}"], name=f"node_{number}"))
    nodes.append(helper.make_node("Relu", [f"step_{len(steps)}"], ["embedding"], name="relu"))
    return nodes


CHANNELS = {
    name: np.array(v).reshape(1, 3, 1, 1) for name, v in (("mean", [0.5, 0.4, 0.3]), ("std", [0.2, 0.3, 0.4]))
}


def run(model: Any, pixels: Any) -> Any:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": pixels})[0]


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
def test_extremes_are_those_of_each_image(opset: int) -> None:
    model = graph_of(chain(("Div", "255"), ("Sub", "mean")), {"255": 255.0, **CHANNELS}, opset)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    found, images = ranges.measure(model, iter([pixels[:2], pixels[2:]]))
    wanted = pixels / 255 - CHANNELS["mean"].reshape(3)
    assert images == 5
    np.testing.assert_allclose(found["step_2"].lowest, wanted.min(axis=(1, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(found["step_2"].highest, wanted.max(axis=(1, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(found["embedding"].lowest, wanted.clip(0).min(axis=(1, 2, 3)), atol=1e-6)
    # Of floats alone.
    assert set(found) == {"step_0", "step_1", "step_2", "embedding"}


def test_the_front_becomes_one_operator() -> None:
    constants = {"255": 255.0, **CHANNELS, "two": np.array([2.0])}
    steps = (("Div", "255"), ("Sub", "mean"), ("Div", "std"), ("Mul", "two"), ("Add", "mean"))
    model = graph_of(chain(*steps), constants)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    before = run(model, pixels)
    front.fold(model.graph)
    assert [node.op_type for node in model.graph.node] == ["Transpose", "Cast", "Conv", "Relu"]
    assert {tensor.name for tensor in model.graph.initializer} == {"normalise.weight", "normalise.bias"}
    np.testing.assert_allclose(run(model, pixels), before, atol=2e-6)


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ((), []),
        ((("Div", "plane"),), ["Div"]),
        ((("Div", "255"), ("Mul", "plane")), ["Conv", "Mul"]),
    ],
    ids=["no arithmetic", "a value a pixel", "a value a pixel after a value a channel"],
)
def test_only_what_is_the_same_for_all_of_a_channel_is_folded(
    steps: tuple[tuple[str, str], ...], left: list[str]
) -> None:
    model = graph_of(chain(*steps), {"255": 255.0, "plane": np.arange(1, 17).reshape(1, 1, 4, 4)})
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    before = run(model, pixels)
    front.fold(model.graph)
    assert [node.op_type for node in model.graph.node] == ["Transpose", "Cast", *left, "Relu"]
    np.testing.assert_allclose(run(model, pixels), before, rtol=1e-6)


def test_a_value_that_others_read_is_not_folded_away() -> None:
    nodes = chain(("Div", "255"), ("Sub", "mean"))
    nodes[-1] = helper.make_node("Add", ["step_1", "step_2"], ["embedding"], name="both")
    model = graph_of(nodes, {"255": 255.0, **CHANNELS})
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    before = run(model, pixels)
    front.fold(model.graph)
    np.testing.assert_allclose(run(model, pixels), before, atol=1e-6)


def test_a_front_in_the_image_s_own_layout_is_left_alone() -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "255"], ["unit"], name="div"),
        helper.make_node("Transpose", ["unit"], ["embedding"], name="layout", perm=[0, 3, 1, 2]),
    ]
    model = graph_of(nodes, {"255": 255.0})
    front.fold(model.graph)
    assert [node.op_type for node in model.graph.node] == ["Cast", "Div", "Transpose"]


@given(st.integers(1, 40), st.integers(1, 10), st.integers(1, 12))
def test_a_sample_is_of_the_stream_and_the_stream_is_whole(total: int, count: int, size: int) -> None:
    pixels = np.arange(total, dtype=np.uint8).reshape(total, 1, 1, 1)
    parts = [pixels[start : start + size] for start in range(0, total, size)]
    samples = []
    for _ in range(2):
        sample = blame.Sample(count)
        np.testing.assert_array_equal(np.concatenate(list(sample.passing(parts))), pixels)
        samples.append(sample.images().reshape(-1).tolist())
    assert samples[0] == samples[1]
    assert len(set(samples[0])) == min(count, total)


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trunkline_export.precision import prepare

    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    onnx.save(graph_of(chain(("Div", "255")), {"255": 255.0}), tmp_path / "fp32.onnx")
    names = [node.name for node in prepare.load_folded(tmp_path / "fp32.onnx").graph.node]
    assert len(set(names)) == len(names)
    assert not list((tmp_path / "temporary").iterdir())
