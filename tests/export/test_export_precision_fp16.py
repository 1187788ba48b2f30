"""fp16: really fp16, the same outside; what would overflow stays float32 from one operator to the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import ExportError

onnx = pytest.importorskip("onnx", reason="needs the export extra")
ort = pytest.importorskip("onnxruntime", reason="needs the export extra")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from trunkline_export.precision import fp16  # noqa: E402
from trunkline_export.precision.report import compare  # noqa: E402

SIDE = 16
Array = np.ndarray[Any, np.dtype[Any]]


def network(path: Path, first: float = 1.0, second: float = 1.0, norm: bool = False) -> Path:
    """Two convolutions whose weights are scaled, pooled to 8 values; with ``norm``, of length 1.

    The scales multiply to the scale of what comes out, and ``first`` alone to that of what lies between.
    """
    random = np.random.default_rng(0)
    held = {
        "255": np.array(255.0),
        "std": np.full((1, 3, 1, 1), 0.25),
        "first.weight": random.normal(0, 0.2, (8, 3, 3, 3)) * first,
        "second.weight": random.normal(0, 0.2, (8, 8, 3, 3)) * second,
        "floor": np.array(0.01),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["layout"], name="layout", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["layout"], ["floats"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "255"], ["unit"], name="div"),
        helper.make_node("Div", ["unit", "std"], ["pixels"], name="div_std"),
        helper.make_node("Conv", ["pixels", "first.weight"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "second.weight"], ["c"], name="second"),
        helper.make_node("Add", ["c", "floor"], ["d"], name="shift"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
        helper.make_node("Flatten", ["e"], ["f" if norm else "embedding"], name="flat"),
    ]
    if norm:
        nodes.append(helper.make_node("LpNormalization", ["f"], ["embedding"], name="unit_length", axis=1))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 8])
    constants = [numpy_helper.from_array(np.asarray(v, np.float32), name) for name, v in held.items()]
    graph = helper.make_graph(nodes, "made", [image], [embedding], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def images(count: int, seed: int = 0, side: int = SIDE) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def vectors(path: Path, pixels: Array) -> Array:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(["embedding"], {"image": pixels})
    return found


def types(path: Path) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}


def test_weights_are_fp16_but_for_normalisation(tmp_path: Path) -> None:
    source, target = network(tmp_path / "fp32.onnx"), tmp_path / "fp16.onnx"
    report = fp16.convert(source, target, images(4))
    held = types(target)
    assert {held[name] for name in ("first.weight", "second.weight", "floor")} == {TensorProto.FLOAT16}
    assert {held[name] for name in ("255", "std")} == {TensorProto.FLOAT}
    assert (report.precision, report.images, report.share, report.kept) == ("fp16", 4, 1.0, ())
    assert report.converted == {"Add": 1, "Conv": 2, "Flatten": 1, "GlobalAveragePool": 1, "Relu": 1}
    wanted = vectors(source, images(8, 1))
    np.testing.assert_allclose(vectors(target, images(8, 1)), wanted, rtol=5e-3, atol=1e-3)


def test_normalisation_is_not_rounded_on_its_way(tmp_path: Path) -> None:
    """One cast leads from the normalised pixels into fp16, and none lies before it but the one from uint8."""
    target = tmp_path / "fp16.onnx"
    fp16.convert(network(tmp_path / "fp32.onnx"), target, images(4))
    casts = [node for node in onnx.load(target).graph.node if node.op_type == "Cast"]
    assert [node.attribute[0].i for node in casts] == [
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.FLOAT,
    ]


def test_outside_nothing_changes(small_onnx: Path, tmp_path: Path) -> None:
    target = tmp_path / "fp16.onnx"
    fp16.convert(small_onnx, target, images(4, side=64))
    before, after = onnx.load(small_onnx).graph, onnx.load(target).graph
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)
    onnx.checker.check_model(onnx.load(target), full_check=True)
    assert target.stat().st_size < 0.6 * small_onnx.stat().st_size
    pixels = images(16, 1, side=64)
    found = vectors(target, pixels)
    assert compare(found, vectors(small_onnx, pixels), cosine=0.99999, share=0.01).passed
    for size in (1, 2, 7, 16):
        np.testing.assert_allclose(vectors(target, pixels[:size]), found[:size], rtol=1e-2, atol=1e-3)


def test_weights_beyond_fp16_stay_float_and_whole(tmp_path: Path) -> None:
    """What lies between the two is beyond fp16 too, so nothing there may pass through it."""
    source = network(tmp_path / "fp32.onnx", first=1e6, second=1e-6)
    target = tmp_path / "fp16.onnx"
    report = fp16.convert(source, target, images(4))
    reasons = {kept.name: kept.why for kept in report.kept}
    assert reasons == {
        "first": "a weight of it is beyond 65,504",
        "relu": "values of it come near 65,504 or pass it",
        "second": "values of it come near 65,504 or pass it",
    }
    held = types(target)
    assert held["first.weight"] == TensorProto.FLOAT
    weight = next(t for t in onnx.load(target).graph.initializer if t.name == "first.weight")
    assert np.abs(numpy_helper.to_array(weight)).max() > 65504
    assert held["floor"] == TensorProto.FLOAT16
    pixels = images(8, 1)
    found = vectors(target, pixels)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, vectors(source, pixels), rtol=5e-3, atol=1e-3)
    assert "a weight of it is beyond 65,504: first (Conv)" in str(report)
    assert report.share == 0


def test_values_beyond_fp16_stay_float(tmp_path: Path) -> None:
    """Every weight fits; only running the images shows that what they make does not."""
    source = network(tmp_path / "fp32.onnx", first=5e4, second=1e-4)
    target = tmp_path / "fp16.onnx"
    report = fp16.convert(source, target, images(4))
    assert types(target)["first.weight"] == TensorProto.FLOAT
    assert {kept.name for kept in report.kept} == {"first", "relu", "second"}
    pixels = images(8, 1)
    np.testing.assert_allclose(vectors(target, pixels), vectors(source, pixels), rtol=5e-3, atol=1e-3)


def test_vectors_beyond_fp16_come_out_whole(tmp_path: Path) -> None:
    source = network(tmp_path / "fp32.onnx", second=1e6)
    target = tmp_path / "fp16.onnx"
    fp16.convert(source, target, images(4))
    pixels = images(8, 1)
    wanted = vectors(source, pixels)
    assert np.abs(wanted).max() > 65504
    np.testing.assert_allclose(vectors(target, pixels), wanted, rtol=5e-3)


def test_lengths_are_taken_in_float32(tmp_path: Path) -> None:
    source = network(tmp_path / "fp32.onnx", norm=True)
    report = fp16.convert(source, tmp_path / "fp16.onnx", images(4))
    assert [(kept.name, kept.why) for kept in report.kept] == [("unit_length", "it sums squares")]
    found = vectors(tmp_path / "fp16.onnx", images(8, 1))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_images_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="calibration needs images"):
        fp16.convert(network(tmp_path / "fp32.onnx"), tmp_path / "fp16.onnx", iter(()))


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fp32.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"fp32.onnx can't be read as ONNX"):
        fp16.convert(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx", images(4))


_RUN = """
import sys
from pathlib import Path
import numpy as np
from trunkline_export.precision import fp16
fp16.convert(Path(sys.argv[1]), Path(sys.argv[2]), np.load(sys.argv[3]))
"""


def test_two_runs_give_the_same_bytes(small_onnx: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", images(4, side=64))
    held = []
    for seed in ("1", "2"):
        target = tmp_path / f"{seed}.onnx"
        command = [sys.executable, "-c", _RUN, str(small_onnx), str(target), str(tmp_path / "pixels.npy")]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        held.append(target.read_bytes())
    assert held[0] == held[1]


def test_the_file_says_nothing_about_tools_or_machine(small_onnx: Path, tmp_path: Path) -> None:
    target = tmp_path / "fp16.onnx"
    fp16.convert(small_onnx, target, images(4, side=64))
    model, held = onnx.load(target), target.read_bytes()
    told = (str(Path.cwd()), sys.prefix, str(tmp_path), str(Path.home()), "site-packages", "/tmp")
    assert [text for text in told if text.encode() in held] == []
    assert (model.producer_name, model.producer_version) == ("trunkline", "")
    assert [entry.domain for entry in model.opset_import] == [""]
