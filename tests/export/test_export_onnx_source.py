"""Networks that exist only as ONNX: what is read, what is refused, what makes another space."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import ExportError, InvalidArgument, UnknownBackbone
from trunkline_service.models.identity import space_id

pytest.importorskip("torch", reason="needs the export extra")

import onnx
from onnx import TensorProto, helper, numpy_helper

from trunkline_export.gate.candidate import Candidate
from trunkline_export.joining.network import OnnxNetwork
from trunkline_export.sources import onnx as source
from trunkline_export.sources.onnx import OnnxRequest, load_onnx

SIZE = 32
TRANSFORM = {
    "resize": "shorter",
    "resize_size": [36, 36],
    "interpolation": "bicubic",
    "crop_size": [SIZE, SIZE],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
Change = Callable[[onnx.ModelProto], None]


def network(
    seed: int = 0, opset: int = 17, size: Any = SIZE, kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """x -> map [N, 8, 16, 16] -> gap [N, 8, 1, 1] -> vector [N, 8] -> logits [N, 5]; ``idle`` reads no image."""
    random = np.random.default_rng(seed)
    weights = {
        "conv.weight": random.normal(size=(8, 3, 3, 3)) / 5,
        "conv.bias": random.normal(size=8) / 5,
        "fc.weight": random.normal(size=(8, 5)),
        "fc.bias": random.normal(size=5),
    }
    nodes = [
        helper.make_node(
            "Conv", ["x", "conv.weight", "conv.bias"], ["conv"], "conv", strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["conv"], ["map"], "relu"),
        helper.make_node("GlobalAveragePool", ["map"], ["gap"], "gap_node"),
        helper.make_node("Flatten", ["gap"], ["vector"], "flatten"),
        helper.make_node("Gemm", ["vector", "fc.weight", "fc.bias"], ["logits"], "fc"),
        helper.make_node("ArgMax", ["logits"], ["best"], "argmax", axis=1, keepdims=0),
        helper.make_node("Split", ["vector"], ["left", "right"], "split", axis=1, **_halves(opset)),
        helper.make_node("Neg", ["fc.bias"], ["idle"], "idle_node"),
        helper.make_node("Shape", ["x"], ["shape"], "shape_node"),
        helper.make_node("Cast", ["shape"], ["sizes"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["vector", "zero"], ["dead"], "dead_node"),
    ]
    weights["zero"] = np.zeros(1)
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", kind, ["n", 3, size, size])],
        [helper.make_tensor_value_info("logits", kind, ["n", 5])],
        [
            numpy_helper.from_array(value.astype(helper.tensor_dtype_to_np_dtype(kind)), name)
            for name, value in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _halves(opset: int) -> dict[str, int]:
    return {"num_outputs": 2} if opset >= 18 else {}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Saves a network, changed if wanted."""

    def save(change: Change | None = None, name: str = "net.onnx", **options: Any) -> Path:
        model = network(**options)
        if change is not None:
            change(model)
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        onnx.save_model(model, path)
        return path

    return save


@pytest.fixture
def transform(tmp_path: Path) -> Callable[..., Path]:
    """Writes the --preprocess file; fields that are None are left out."""

    def save(**fields: Any) -> Path:
        path = tmp_path / "transform.json"
        found = {key: value for key, value in (TRANSFORM | fields).items() if value is not None}
        path.write_text(json.dumps(found))
        return path

    return save


@pytest.fixture
def load(write: Any, transform: Any) -> Callable[..., OnnxNetwork]:
    """Loads the small network, cut at its vector."""

    def read(
        path: Path | None = None,
        output: str | None = "vector",
        fields: dict[str, Any] | None = None,
        **request: Any,
    ) -> OnnxNetwork:
        return load_onnx(path or write(), OnnxRequest(output, transform(**(fields or {})), **request))

    return read


def space(found: OnnxNetwork) -> str:
    return space_id(found.tensors(), found.architecture, found.preprocess, found.output)


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


# What a file says beside its function.


def _words(model: onnx.ModelProto) -> None:
    model.producer_name, model.producer_version, model.doc_string = "someone", "9", "on a machine"
    model.graph.name, model.graph.doc_string = "other", "words"
    model.metadata_props.add(key="path", value="/home/someone")
    for number, node in enumerate(model.graph.node):
        node.name, node.doc_string = f"node {number}", "traced in train.py"
        for attribute in node.attribute:
            attribute.doc_string = "words"
    for tensor in model.graph.initializer:
        tensor.doc_string = "words"


def _other_fields(model: onnx.ModelProto) -> None:
    """Weights as floats rather than as raw bytes."""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, values.shape, values.flatten()))


def _as_nodes(model: onnx.ModelProto) -> None:
    """Weights as nodes, as some exporters write them."""
    tensors = list(model.graph.initializer)
    model.graph.ClearField("initializer")
    for tensor in tensors:
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))


def _old_style(model: onnx.ModelProto) -> None:
    """Initializers are inputs, too, as they had to be once."""
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))


def _other_classifier(model: onnx.ModelProto) -> None:
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.ones((8, 5), np.float32), "fc.weight"))


@pytest.mark.parametrize("change", [_words, _other_fields, _as_nodes, _old_style, _other_classifier])
def test_one_function_is_one_space(load: Any, write: Any, change: Change, tmp_path: Path) -> None:
    again = load(write(change, name="elsewhere/other.onnx"))
    assert space(again) == space(load())
    assert again.parameters == load().parameters
    assert again.write(tmp_path / "model.onnx") == 8


def test_paths_and_the_way_an_output_is_named_make_no_space(load: Any, write: Any) -> None:
    assert space(load(write(name="b/copy.onnx"), output="flatten")) == space(load())
    assert space(load(fields={"layout": "NCHW", "channels": "RGB", "channels_last": True})) == space(load())


def test_everything_that_decides_a_vector_makes_a_space(load: Any, write: Any) -> None:
    def strides(model: onnx.ModelProto) -> None:
        next(a for a in model.graph.node[0].attribute if a.name == "strides").ints[:] = [1, 1]

    def weight(model: onnx.ModelProto) -> None:
        values = numpy_helper.to_array(model.graph.initializer[0]).copy()
        values[0, 0, 0, 0] += 1e-4
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "conv.weight"))

    def layout(model: onnx.ModelProto) -> None:
        """The same convolution behind a Transpose, over an input that lies otherwise."""
        for dim, size in zip(
            model.graph.input[0].type.tensor_type.shape.dim[1:], (SIZE, SIZE, 3), strict=True
        ):
            dim.dim_value = size

    spaces = [
        space(load()),
        space(load(output="gap")),
        space(load(output="gap", pool="max")),
        space(load(output="map")),
        space(load(output="map", fields={"channels_last": True})),
        space(load(normalize="l2")),
        space(load(write(weight))),
        space(load(write(strides))),
        space(load(write(opset=18))),
        space(load(fields={"channels": "BGR"})),
        space(load(fields={"interpolation": "bilinear"})),
        space(load(fields={"mean": [0.5, 0.5, 0.5]})),
        space(load(fields={"resize_size": [40, 40]})),
    ]
    assert len(set(spaces)) == len(spaces)
    both = write(size="side", name="free.onnx")
    ambiguous = [
        space(load(both, fields={"crop_size": [3, 3], "layout": layout})) for layout in ("NCHW", "NHWC")
    ]
    assert len(set(ambiguous)) == 2


def _with_branch(constant: float) -> Change:
    def change(model: onnx.ModelProto) -> None:
        """vector -> If(true, vector + constant, vector), the constant within the branch."""
        value = helper.make_tensor("inner", TensorProto.FLOAT, [1], [constant])
        out = helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)
        other = helper.make_tensor_value_info("kept", TensorProto.FLOAT, None)
        branches = {
            "then_branch": helper.make_graph(
                [helper.make_node("Add", ["vector", "inner"], ["chosen"])], "t", [], [out], [value]
            ),
            "else_branch": helper.make_graph(
                [helper.make_node("Identity", ["vector"], ["kept"])], "e", [], [other]
            ),
        }
        model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
        model.graph.node.append(helper.make_node("If", ["yes"], ["branched"], "if", **branches))

    return change


def test_inner_graphs_count_and_their_words_do_not(load: Any, write: Any) -> None:
    def worded(model: onnx.ModelProto) -> None:
        _with_branch(1.0)(model)
        branch = model.graph.node[-1].attribute[0].g
        branch.doc_string, branch.name, branch.node[0].name = "words", "other", "other"

    one, two, words = (
        space(load(write(change), output="branched"))
        for change in (_with_branch(1.0), _with_branch(2.0), worded)
    )
    assert one == words != two


def test_an_inner_graph_reads_what_lies_outside(load: Any, write: Any, tmp_path: Path) -> None:
    def outer(model: onnx.ModelProto) -> None:
        _with_branch(1.0)(model)
        branch = next(entry.g for entry in model.graph.node[-1].attribute if entry.name == "then_branch")
        branch.node[0].input[1] = "alone"
        branch.ClearField("initializer")
        model.graph.initializer.append(numpy_helper.from_array(np.float32([2.0]), "alone"))
        # Reshaped by a target that is computed, as PyTorch writes it.
        shape = [
            helper.make_node("Shape", ["vector"], ["vector_shape"]),
            helper.make_node("Reshape", ["vector", "vector_shape"], ["again"]),
        ]
        branch.node[0].input[0] = "again"
        for node in shape:
            model.graph.node.insert(len(model.graph.node) - 1, node)

    path = write(outer)
    load(path, output="branched").write(tmp_path / "branched.onnx")
    load(path).write(tmp_path / "vector.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    branched, vector = (Candidate(tmp_path / f"{name}.onnx").run(pixels) for name in ("branched", "vector"))
    np.testing.assert_allclose(branched, vector + 2, rtol=1e-6)


def test_functions_of_a_file_count(load: Any, write: Any) -> None:
    def calling(operator: str) -> Change:
        def change(model: onnx.ModelProto) -> None:
            body = [helper.make_node(operator, ["a"], ["b"])]
            opset = [helper.make_opsetid("", 17)]
            model.functions.append(helper.make_function("mine", "Bend", ["a"], ["b"], body, opset))
            model.opset_import.append(helper.make_opsetid("mine", 1))
            model.graph.node.append(helper.make_node("Bend", ["vector"], ["bent"], "bend", domain="mine"))

        return change

    found = [load(write(calling(operator)), output="bent") for operator in ("Neg", "Abs")]
    assert len({space(entry) for entry in found}) == 2
    assert not found[0].graph.functions
