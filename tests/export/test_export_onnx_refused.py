"""ONNX files that are refused: other inputs, other types, no network at all, weights that are elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import ExportError, InvalidArgument, UnknownBackbone

pytest.importorskip("torch", reason="needs the export extra")

import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.export.onnx_networks import network, space

from trunkline_export.sources import onnx as source


def _second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n"]))


def _quantised(model: onnx.ModelProto) -> None:
    scale, zero = np.array(0.1, np.float32), np.array(0, np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(scale, "scale"))
    model.graph.initializer.append(numpy_helper.from_array(zero, "zero_point"))
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["xq"]))
    model.graph.node.insert(1, helper.make_node("DequantizeLinear", ["xq", "scale", "zero_point"], ["xd"]))
    model.graph.node[2].input[0] = "xd"


def _half_weights(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), "half"))
    model.graph.node.insert(0, helper.make_node("Cast", ["half"], ["conv.weight"], to=TensorProto.FLOAT))


def _grey(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1


def _flat_input(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[2:]


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (_second_input, {}, r"one image batch.*it takes x \['n', 3, 32, 32\], mask \['n'\]"),
        (_flat_input, {}, r"one image batch.*it takes x \['n', 3\]"),
        (None, {"kind": TensorProto.FLOAT16}, "must take float32 pixels; its input .* is FLOAT16"),
        (None, {"kind": TensorProto.DOUBLE}, "must take float32 pixels; its input .* is DOUBLE"),
        (_half_weights, {}, r"holds weights of type FLOAT16 \(half\); give it in float32, and --precision"),
        (_quantised, {}, "quantised already .QuantizeLinear.; give it in float32"),
        (None, {"opset": 12}, "operator set 12; 13 or newer is needed"),
    ],
)
def test_networks_of_another_kind_are_refused(
    load: Any, write: Any, change: Any, options: Any, says: str
) -> None:
    with pytest.raises(ExportError, match=says):
        load(write(change, **options))


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.UINT8])
def test_integer_inputs_are_refused(load: Any, write: Any, kind: int) -> None:
    def integers(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = kind
        model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT))
        model.graph.node[1].input[0] = "floats"

    with pytest.raises(
        ExportError, match=f"is {TensorProto.DataType.Name(kind)}: export it again with a float32"
    ):
        load(write(integers))


def test_a_channel_count_or_layout_that_contradicts_the_network(load: Any, write: Any) -> None:
    with pytest.raises(
        InvalidArgument, match=r"\[n, 1, 32, 32\], which does not say where three channels lie"
    ):
        load(write(_grey))
    with pytest.raises(ExportError, match="no batch of RGB images in NCHW"):
        load(write(_grey), fields={"layout": "NCHW"})
    with pytest.raises(ExportError, match="no batch of RGB images in NHWC"):
        load(fields={"layout": "NHWC"})


def test_files_that_are_no_network(
    load: Any, tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownBackbone, match=r"none.onnx: there is no such file; write onnx:PATH"):
        load(tmp_path / "none.onnx")
    text = tmp_path / "text.json"
    text.write_text("{}")
    with pytest.raises(ExportError, match=r"onnx:text.json is no valid ONNX file"):
        load(text)

    def dangling(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "y"

    with pytest.raises(ExportError, match=r"onnx:net.onnx is no valid ONNX file.*y"):
        load(write(dangling))
    monkeypatch.setattr(source, "_MOST_BYTES", 1000)
    with pytest.raises(ExportError, match=r"holds [\d,]+ bytes of weights; one published file holds 2 GiB"):
        load(write())


def test_weights_beside_the_file(load: Any, tmp_path: Path, write: Any) -> None:
    path = tmp_path / "apart" / "net.onnx"
    path.parent.mkdir()
    onnx.save_model(network(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert (path.parent / "net.data").is_file()
    assert space(load(path)) == space(load(write()))
    (path.parent / "net.data").unlink()
    with pytest.raises(ExportError, match=r"onnx:net.onnx is no valid ONNX file.*net.data"):
        load(path)


def test_weights_outside_the_folder_are_not_read(load: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4 * 8 * 27))
    model = network()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret")
    path = tmp_path / "inner" / "net.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="is no valid ONNX file"):
        load(path)
