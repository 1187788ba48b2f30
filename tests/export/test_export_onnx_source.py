"""Networks that exist only as ONNX: what is read, which outputs, pools and transforms can be asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import ExportError, InvalidArgument

pytest.importorskip("torch", reason="needs the export extra")

import onnx
from onnx import helper, numpy_helper
from tests.export.onnx_networks import SIZE, TRANSFORM

from trunkline_export.sources.onnx import OnnxRequest, load_onnx


def test_what_is_read(load: Any) -> None:
    found = load()
    assert (found.source, found.name) == ("onnx:net.onnx", "net")
    assert (found.output.node, found.output.pool, found.feature.shape) == ("vector", "none", (8,))
    assert (found.input.layout, found.input.channels) == ("NCHW", "RGB")
    assert found.preprocess.to_json() == TRANSFORM
    assert found.weights.startswith("net.onnx (sha256 ")
    # Nothing behind the cut is kept, and no weight of it.
    assert sorted(found.tensors()) == ["conv.bias", "conv.weight"]
    assert found.parameters == 8 * 27 + 8


@pytest.mark.parametrize(("output", "pool"), [("vector", "none"), ("gap", "avg"), ("map", "avg")])
def test_the_usual_pool_follows_the_shape(load: Any, output: str, pool: str) -> None:
    assert load(output=output).output.pool == pool


@pytest.mark.parametrize(
    ("output", "tensor"), [("flatten", "vector"), ("gap_node", "gap"), ("vector", "vector")]
)
def test_an_output_is_a_tensor_or_the_node_that_makes_it(load: Any, output: str, tensor: str) -> None:
    assert load(output=output).output.node == tensor


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (
            "vectr",
            r"no tensor or node.*did you mean 'vector'\? Its last tensors are conv \(Conv\), .*dead \(Mul\)",
        ),
        ("???", r"no tensor or node of the graph\. Its last tensors are conv"),
        ("split", "'split' is a node that gives left, right; name one"),
        ("idle", "'idle' does not depend on the input 'x'"),
        ("best", r"'best' gives int64 \[1\] for a batch of 1; a feature is float32 \[1, ...\]"),
        ("sizes", r"'sizes' gives float32 \[4\] for a batch of 1"),
    ],
)
def test_outputs_that_cannot_be_one(load: Any, output: str, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        load(output=output)


@pytest.mark.parametrize(
    ("output", "pool", "says"),
    [
        ("map", "none", r"one vector an image, and the output 'map' gives \[8, 16, 16\].*--pool avg"),
        ("vector", "avg", r"'avg' takes a feature map.*gives \[8\] for an image; give --pool none"),
        ("vector", "gem", "give --pool none"),
        ("map", "cls", 'needs a class token.*"prefix_tokens": 1 in the preprocess file'),
        ("vector", "cls+avg", "needs a class token"),
    ],
)
def test_a_pool_that_does_not_fit_says_which_does(load: Any, output: str, pool: str, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        load(output=output, pool=pool)


def test_missing_options_say_what_to_write(write: Any, transform: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"needs --preprocess FILE.*e\.g\. \{") as caught:
        load_onnx(write(), OnnxRequest("vector", None))
    example = json.loads(caught.value.message.partition("e.g. ")[2])
    path = transform()
    path.write_text(json.dumps(example | {"crop_size": [SIZE, SIZE]}))
    assert load_onnx(write(), OnnxRequest("vector", path)).preprocess.resize == "shorter"
    with pytest.raises(InvalidArgument, match=r"needs --output NODE.*logits \(Gemm\)"):
        load_onnx(write(), OnnxRequest(None, transform()))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"layuot": "NCHW"}, "no field 'layuot'; did you mean 'layout'.*prefix_tokens"),
        ({"mean": None, "std": None}, r'mean, std is missing, e.g. {"mean": \[0.485'),
        ({"interpolation": "cubic"}, "interpolation is 'cubic'; it must be one of"),
        ({"mean": [123.7, 116.8, 103.9]}, "mean is .*of values scaled to 0..1"),
        ({"layout": "HWC"}, 'layout is "HWC"; it must be "NCHW" or "NHWC"'),
        ({"layout": ""}, 'layout is ""'),
        ({"channels": "rgb"}, 'channels is "rgb"; it must be "RGB" or "BGR"'),
        ({"channels_last": 1}, "channels_last is 1; it must be true or false"),
        ({"prefix_tokens": -1}, "prefix_tokens is -1"),
        ({"prefix_tokens": True}, "prefix_tokens is true"),
        ({"crop_size": [64, 64]}, r"takes \[n, 3, 32, 32\], and crop_size in transform.json is \[64, 64\]"),
    ],
)
def test_a_transform_that_cannot_be_used_names_the_field(load: Any, fields: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        load(fields=fields)
    assert "export the model again" not in caught.value.message


@pytest.mark.parametrize(("text", "says"), [("{", "can't be read as JSON"), ("[1]", "no JSON object")])
def test_a_transform_that_is_no_json_object(write: Any, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "transform.json"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=says):
        load_onnx(write(), OnnxRequest("vector", path))


def test_a_wrong_size_of_a_network_that_does_not_say_its_own(load: Any, write: Any) -> None:
    def fixed_inside(model: onnx.ModelProto) -> None:
        shape = numpy_helper.from_array(np.array([-1, 8 * 16 * 16], np.int64), "flat_shape")
        model.graph.initializer.append(shape)
        model.graph.node.insert(2, helper.make_node("Reshape", ["map", "flat_shape"], ["flat"]))

    path = write(fixed_inside, size="side")
    assert load(path, output="flat").feature.shape == (2048,)
    with pytest.raises(
        ExportError, match=r"input of \[1, 3, 40, 40\] \(NCHW\).*is crop_size in the preprocess file"
    ):
        load(path, output="flat", fields={"crop_size": [40, 40]})
