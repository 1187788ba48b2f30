"""What of an ONNX file makes another space, and what it says beside its function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the export extra")

import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.export.onnx_networks import SIZE, Change, space

from trunkline_export.gate.candidate import Candidate


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
