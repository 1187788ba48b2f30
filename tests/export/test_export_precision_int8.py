"""int8: really int8, with parity; what int8 ruins stays float32, and is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import ExportError, ParityError

onnx = pytest.importorskip("onnx", reason="needs the export extra")
ort = pytest.importorskip("onnxruntime", reason="needs the export extra")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from trunkline_export.precision import int8  # noqa: E402
from trunkline_export.precision.report import Agreement, compare  # noqa: E402

SIDE = 24
Judge = Callable[[Path], Agreement]


class Maker:
    """Builds a graph behind an exported graph's front, node by node."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes = [
            helper.make_node("Transpose", ["image"], ["layout"], name="layout", perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["layout"], ["floats"], name="cast", to=TensorProto.FLOAT),
            helper.make_node("Div", ["floats", "255"], ["unit"], name="div"),
            helper.make_node("Sub", ["unit", "mean"], ["centred"], name="sub"),
            helper.make_node("Div", ["centred", "std"], ["pixels"], name="div_std"),
        ]
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        self.constants = {
            "255": np.array(255.0),
            "mean": mean.reshape(1, 3, 1, 1),
            "std": std.reshape(1, 3, 1, 1),
        }

    def conv(self, name: str, source: str, weight: np.ndarray[Any, Any]) -> str:
        self.constants[f"{name}.weight"] = weight
        self.constants[f"{name}.bias"] = self.random.normal(0, 0.1, len(weight))
        inputs = [source, f"{name}.weight", f"{name}.bias"]
        self.nodes.append(helper.make_node("Conv", inputs, [f"{name}.out"], name=name, pads=[1, 1, 1, 1]))
        return self.node("Relu", f"{name}.relu", f"{name}.out")

    def filters(self, out: int, read: int) -> np.ndarray[Any, Any]:
        return self.random.normal(0, (2 / (9 * read)) ** 0.5, (out, read, 3, 3))

    def product(self, name: str, source: str, read: int, out: int) -> str:
        self.constants[f"{name}.weight"] = self.random.normal(0, read**-0.5, (read, out))
        return self.node("MatMul", name, source, f"{name}.weight")

    def node(self, op_type: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, list(inputs), [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def pooled(self, source: str) -> str:
        """The mean and the largest value of each channel, [batch, 2 x channels]."""
        parts = [self.node(kind, kind, source) for kind in ("GlobalAveragePool", "GlobalMaxPool")]
        return self.node("Flatten", "flat", self.node("Concat", "both", *parts, axis=1))

    def save(self, path: Path, last: str, dim: int) -> Path:
        self.nodes.append(helper.make_node("Identity", [last], ["embedding"], name="last"))
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
        embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dim])
        constants = [
            numpy_helper.from_array(np.asarray(values, np.float32), name)
            for name, values in self.constants.items()
        ]
        graph = helper.make_graph(self.nodes, "made", [image], [embedding], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return path


def images(count: int, seed: int, side: int = SIDE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Blobs of colour under noise."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (count, 4, 4, 3)).repeat(side // 4, axis=1).repeat(side // 4, axis=2)
    return np.clip(coarse + random.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def vectors(path: Path, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    (found,) = session(path).run(["embedding"], {"image": pixels})
    return found


def judge_of(source: Path, cosine: float = 0.99, share: float = 0.05, side: int = SIDE) -> Judge:
    pixels = images(16, seed=1, side=side)
    reference = vectors(source, pixels)
    return lambda path: compare(vectors(path, pixels), reference, cosine=cosine, share=share)


def lowered(path: Path, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime makes of a file."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


@pytest.fixture
def convolutional(tmp_path: Path) -> Path:
    """Two convolutions with a residual connection over a third."""
    made = Maker()
    first = made.conv("first", "pixels", made.filters(16, 3))
    second = made.conv("second", first, made.filters(16, 16))
    joined = made.node("Add", "join", first, second)
    return made.save(
        tmp_path / "fp32.onnx", made.pooled(made.conv("third", joined, made.filters(24, 16))), 48
    )


@pytest.fixture
def ruined(tmp_path: Path) -> Path:
    """One channel between ``wide`` and ``narrow`` reaches a million times as far as what matters beside it."""
    made = Maker()
    first = made.conv("second", made.conv("first", "pixels", made.filters(16, 3)), made.filters(16, 16))
    wide, narrow = made.filters(16, 16), made.filters(16, 16)
    wide[0] *= 1e6
    narrow[:, 0] *= 1e-6
    narrowed = made.conv("narrow", made.conv("wide", first, wide), narrow)
    third = made.conv("third", narrowed, made.filters(16, 16))
    return made.save(
        tmp_path / "fp32.onnx", made.pooled(made.conv("fourth", third, made.filters(16, 16))), 32
    )


@pytest.mark.parametrize("portable", [True, False])
def test_weights_are_int8_with_a_scale_a_channel(convolutional: Path, tmp_path: Path, portable: bool) -> None:
    target = tmp_path / "int8.onnx"
    report = int8.quantize(convolutional, target, images(8, 0), judge_of(convolutional), portable=portable)
    graph = onnx.load(target).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in held and held[node.input[0]].ndim == 4:
            found[node.output[0]] = held[node.input[0]], held[node.input[1]], held[node.input[2]]
    assert len(found) == 3
    for weight, scale, zero in found.values():
        assert weight.dtype == np.int8
        assert scale.shape == (len(weight),)
        assert not zero.any()
        assert np.abs(weight).reshape(len(weight), -1).max(axis=1).tolist() == [
            64 if portable else 127
        ] * len(weight)
    assert not any(
        values.dtype == np.float32 and values.ndim == 4 and len(values) > 3 for values in held.values()
    )
    assert target.stat().st_size < 0.6 * convolutional.stat().st_size
    assert (report.share, report.images, report.kept) == (1.0, 8, ())
    assert report.converted["Conv"] == 3
    assert ("7 bits" in report.method) is portable


def test_the_runtime_computes_in_int8(convolutional: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    report = int8.quantize(convolutional, target, images(8, 0), judge_of(convolutional))
    kernels = lowered(target, tmp_path)
    assert (kernels["QLinearConv"], kernels["QLinearAdd"]) == (3, 1)
    # The normalisation, as one float operator.
    assert kernels["Conv"] + kernels["FusedConv"] == 1
    assert not kernels.keys() & {"Div", "Sub"}
    assert report.agreement is not None
    assert report.agreement.cosine_mean > 0.999


def test_outside_nothing_changes(small_onnx: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    int8.quantize(small_onnx, target, images(8, 0, side=64), judge_of(small_onnx, side=64))
    before, after = onnx.load(small_onnx).graph, onnx.load(target).graph
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)
    onnx.checker.check_model(onnx.load(target), full_check=True)


def test_any_batch_gives_the_vectors_of_its_images(small_onnx: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    int8.quantize(small_onnx, target, images(8, 0, side=64), judge_of(small_onnx, side=64))
    pixels = images(16, 2, side=64)
    alone = np.concatenate([vectors(target, pixels[row : row + 1]) for row in range(16)])
    for size in (1, 2, 7, 16):
        np.testing.assert_allclose(vectors(target, pixels[:size]), alone[:size], atol=1e-5)


def test_what_int8_ruins_stays_float_and_is_named(ruined: Path, tmp_path: Path) -> None:
    target, judge = tmp_path / "int8.onnx", judge_of(ruined)
    told: list[str] = []
    report = int8.quantize(ruined, target, images(8, 0), judge, progress=told.append)
    assert {kept.name for kept in report.kept} == {"wide", "narrow"}
    assert {(kept.op_type, kept.why) for kept in report.kept} == {("Conv", "int8 costs parity there")}
    assert judge(target).passed
    assert judge(target) == report.agreement
    assert lowered(target, tmp_path)["QLinearConv"] == report.converted["Conv"] == 4
    assert 0.5 < report.share < 1
    assert "int8 costs parity there: wide (Conv), narrow (Conv)" in str(report)
    assert told[0] == "calibrating"
    assert any("one by one" in words for words in told)


def test_as_few_operators_as_pass_stay_float(ruined: Path, tmp_path: Path) -> None:
    loose = int8.quantize(ruined, tmp_path / "loose.onnx", images(8, 0), judge_of(ruined))
    assert loose.agreement is not None
    strict = judge_of(ruined, share=loose.agreement.share * 0.999)
    tight = int8.quantize(ruined, tmp_path / "tight.onnx", images(8, 0), strict)
    assert {kept.name for kept in loose.kept} < {kept.name for kept in tight.kept}
    assert tight.share < loose.share
    assert strict(tmp_path / "tight.onnx").passed


def test_the_hopeless_is_refused_with_figures(convolutional: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    with pytest.raises(ParityError) as caught:
        int8.quantize(convolutional, target, images(8, 0), judge_of(convolutional, cosine=1.1))
    message = str(caught.value)
    assert re.search(r"cosine mean 0\.\d{4}.* with all of 3 operators in int8; cosine mean", message)
    assert re.search(r"Worst alone \(1 - cosine\): \w+ \(\d\.\de-\d\d\), ", message)
    assert not target.exists()


def test_a_network_without_weights_is_refused(tmp_path: Path) -> None:
    made = Maker()
    source = made.save(tmp_path / "fp32.onnx", made.pooled("pixels"), 6)
    with pytest.raises(ParityError, match=r"fp32.onnx has no operator that int8 makes faster"):
        int8.quantize(source, tmp_path / "int8.onnx", images(4, 0), judge_of(source))


def test_calibration_without_images_is_refused(convolutional: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="calibration needs images"):
        int8.quantize(convolutional, tmp_path / "int8.onnx", iter(()), judge_of(convolutional))


def test_an_old_operator_set_is_refused(convolutional: Path, tmp_path: Path) -> None:
    model = onnx.load(convolutional)
    model.opset_import[0].version = 12
    onnx.save(model, tmp_path / "old.onnx")
    with pytest.raises(ExportError, match=r"old.onnx is written in ONNX operator set 12; int8 needs 13"):
        int8.quantize(tmp_path / "old.onnx", tmp_path / "int8.onnx", images(4, 0), judge_of(convolutional))


def test_batches_and_one_array_calibrate_alike(convolutional: Path, tmp_path: Path) -> None:
    pixels, judge = images(10, 0), judge_of(convolutional)
    whole = int8.quantize(convolutional, tmp_path / "whole.onnx", pixels, judge)
    parts = int8.quantize(convolutional, tmp_path / "parts.onnx", iter(np.array_split(pixels, 3)), judge)
    assert whole == parts
    assert (tmp_path / "whole.onnx").read_bytes() == (tmp_path / "parts.onnx").read_bytes()


def tokens(made: Maker) -> str:
    """Rows of the image as a sequence, [batch, SIDE, 3 x SIDE]."""
    made.nodes.append(
        helper.make_node("Constant", [], ["shape"], name="shape", value_ints=[0, SIDE, 3 * SIDE])
    )
    return made.node("Reshape", "rows", made.node("Transpose", "turn", "pixels", perm=[0, 2, 1, 3]), "shape")


def test_products_are_int8_and_their_residual_stream_is_not(tmp_path: Path) -> None:
    """As in a transformer: what a product reads rounded, the addition beside it reads whole."""
    made = Maker()
    stream = made.node("Tanh", "stream", made.product("widen", tokens(made), 3 * SIDE, 64))
    joined = made.node("Add", "join", stream, made.product("mix", stream, 64, 64))
    last = made.node("Flatten", "flat", made.node("ReduceMean", "mean_row", joined, "one", keepdims=0))
    made.nodes.insert(0, helper.make_node("Constant", [], ["one"], name="one", value_ints=[1]))
    source = made.save(tmp_path / "fp32.onnx", last, 64)
    report = int8.quantize(source, tmp_path / "int8.onnx", images(8, 0), judge_of(source))
    assert report.converted == {"MatMul": 2}
    graph = onnx.load(tmp_path / "int8.onnx").graph
    (join,) = (node for node in graph.node if node.name == "join")
    makers = {name: node.op_type for node in graph.node for name in node.output}
    assert [makers[name] for name in join.input] == ["Tanh", "MatMul"]
    assert lowered(tmp_path / "int8.onnx", tmp_path)["MatMulIntegerToFloat"] == 2


def test_a_patch_embedding_stays_float(tmp_path: Path) -> None:
    made = Maker()
    made.constants["patch.weight"] = made.random.normal(0, 0.1, (32, 3, 8, 8))
    patches = made.node("Conv", "patch", "pixels", "patch.weight", strides=[8, 8])
    made.constants["gain"] = np.ones((3, 3))
    evened = made.node("Flatten", "flat", made.node("LayerNormalization", "norm", patches, "gain", axis=-2))
    source = made.save(tmp_path / "fp32.onnx", made.product("mix", evened, 32 * 9, 64), 64)
    report = int8.quantize(source, tmp_path / "int8.onnx", images(8, 0), judge_of(source))
    assert [(kept.name, kept.why) for kept in report.kept] == [
        ("patch", "it reads the pixels and nothing after it is int8")
    ]
    assert report.converted == {"MatMul": 1}
    assert lowered(tmp_path / "int8.onnx", tmp_path)["QLinearConv"] == 0


_TWICE = """
import sys
from pathlib import Path
import numpy as np
from trunkline_export.precision import int8
from trunkline_export.precision.report import Agreement
source, target, pixels = sys.argv[1:]
int8.quantize(Path(source), Path(target), np.load(pixels), lambda _: Agreement(True, 1.0, 1.0, 0.0))
"""


def test_two_runs_give_the_same_bytes(ruined: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", images(6, 0))
    held = []
    for seed in ("1", "2"):
        target = tmp_path / f"{seed}.onnx"
        command = [sys.executable, "-c", _TWICE, str(ruined), str(target), str(tmp_path / "pixels.npy")]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        held.append(target.read_bytes())
    assert held[0] == held[1]


def test_a_search_repeats_itself(ruined: Path, tmp_path: Path) -> None:
    judge = judge_of(ruined)
    one, two = (int8.quantize(ruined, tmp_path / f"{run}.onnx", images(8, 0), judge) for run in (1, 2))
    assert one == two
    assert (tmp_path / "1.onnx").read_bytes() == (tmp_path / "2.onnx").read_bytes()


def test_the_file_says_nothing_about_tools_or_machine(small_onnx: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    int8.quantize(small_onnx, target, images(8, 0, side=64), judge_of(small_onnx, side=64))
    model, held = onnx.load(target), target.read_bytes()
    told = (
        str(Path.cwd()),
        sys.prefix,
        str(tmp_path),
        str(Path.home()),
        "site-packages",
        "onnx.quantize",
        "/tmp",
    )
    assert [text for text in told if text.encode() in held] == []
    assert (model.producer_name, model.producer_version, model.graph.name) == ("trunkline", "", "backbone")
    assert not model.metadata_props
    assert [entry.domain for entry in model.opset_import] == [""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8.onnx"]


def test_a_report_reads_as_a_sentence(ruined: Path, tmp_path: Path) -> None:
    words = str(int8.quantize(ruined, tmp_path / "int8.onnx", images(8, 0), judge_of(ruined)))
    assert words.startswith("static int8 (QDQ): weights symmetric with a scale an output channel, ")
    assert "; 8 calibration images; int8: 4 Conv, " in words
    assert str(tmp_path) not in words
