"""A head as ONNX: its network as a graph of standard operators, which any runtime can serve."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.network import (
    SMALLEST,
    TINY,
    Activation,
    Distance,
    Linear,
    Mlp,
    Neighbours,
    Network,
)
from trunkline_service.heads.serving.graph import Graph
from trunkline_service.heads.task import OUTPUTS, Task

INPUT = "embedding"
DISTANCE = "distance"
# Old enough for every runtime in use, and with ScatterElements that add.
OPSET = 17
IR_VERSION = 8
# Protobuf ends at 2 GiB; what is not weights fits into the rest.
_MAX_BYTES = 2**31 - 2**24
_ACTIVATIONS: dict[Activation, str] = {"softmax": "Softmax", "sigmoid": "Sigmoid", "none": ""}


def build(network: Network, classes: Sequence[str], space_id: str, task: Task) -> bytes:
    """The bytes of an ONNX model that computes what the network does.

    Input ``embedding``: float32 [batch, dim]; output ``probabilities``, ``values`` or ``score``, by the
    task: float32 [batch, K]; and where the network has a distance, output ``distance``: float32 [batch].
    ``batch`` is free. The metadata carry ``trunkline.space_id``, ``trunkline.classes`` (a JSON list) and
    ``trunkline.task``. The same network gives the same bytes.

    Args:
        network: Of the head; all arrays float32 (codes int64).
        classes: K names; none for ``anomaly``.
        space_id: The space of the embeddings.
        task: What the outputs mean.

    Raises:
        ValueError: Shapes or dtypes that do not fit together.
        InvalidArgument: More than 2 GB of weights, which one ONNX file can't hold.
    """
    import onnx
    from onnx import TensorProto, helper

    _check(network, classes, task)
    graph = Graph()
    _write_network(graph, network, OUTPUTS[task])
    if graph.bytes > _MAX_BYTES:
        raise InvalidArgument(
            f"the head's weights take {graph.bytes / 1e9:.1f} GB, and an ONNX file holds 2 GB; fit it on fewer "
            "rows or classes, or choose a kind that keeps no rows, such as logistic"
        )
    outputs = [helper.make_tensor_value_info(OUTPUTS[task], TensorProto.FLOAT, ["batch", network.outputs])]
    if network.distance is not None:
        outputs.append(helper.make_tensor_value_info(DISTANCE, TensorProto.FLOAT, ["batch"]))
    model = helper.make_model(
        helper.make_graph(
            nodes=graph.nodes,
            name="head",
            inputs=[helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", network.dim])],
            outputs=outputs,
            initializer=graph.initializers,
        ),
        producer_name="trunkline",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    labels = json.dumps(list(classes), ensure_ascii=False)
    helper.set_model_props(
        model, {"trunkline.space_id": space_id, "trunkline.classes": labels, "trunkline.task": task}
    )
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _write_network(graph: Graph, network: Network, output: str) -> None:
    rows = INPUT
    if network.normaliser is not None:
        moved = graph.add("Sub", rows, graph.array("centre", network.normaliser.centre))
        largest = graph.add("ReduceMax", graph.add("Abs", moved), axes=[1], keepdims=1)
        least = graph.array("smallest", np.float32(SMALLEST))
        moved = graph.add("Div", moved, graph.add("Max", largest, least))
        length = graph.add("Sqrt", _squared_length(graph, moved, keepdims=1))
        rows = graph.add("Div", moved, graph.add("Max", length, graph.array("tiny", np.float32(TINY))))
    activation = _ACTIVATIONS[network.activation]
    # What a body calls its last result, where nothing follows.
    last = "" if activation else output
    match network.body:
        case Linear() as body:
            outputs = _linear(graph, rows, body, "", last or "logits")
        case Mlp() as body:
            hidden = graph.add("Relu", _linear(graph, rows, body.hidden, "hidden.", "hidden"))
            outputs = _linear(graph, hidden, body.output, "", last or "logits")
        case Neighbours() as body:
            outputs = _neighbours(graph, rows, body, last or "logits")
        case Distance() as body:
            column = graph.add(
                "Unsqueeze", _distance(graph, rows, body, "body."), graph.array("last", _axis(1))
            )
            outputs = graph.add("Identity", column, output=last or "logits")
    if activation:
        graph.add(activation, outputs, output=output, **({"axis": -1} if activation == "Softmax" else {}))
    if network.distance is not None:
        graph.add("Identity", _distance(graph, INPUT, network.distance, "distance."), output=DISTANCE)


def _linear(graph: Graph, rows: str, body: Linear, prefix: str, output: str) -> str:
    weights, bias = graph.array(f"{prefix}W", body.W), graph.array(f"{prefix}b", body.b)
    return graph.add("Gemm", rows, weights, bias, output=output, transB=1)


def _neighbours(graph: Graph, rows: str, body: Neighbours, output: str) -> str:
    """Votes by adding each neighbour's weight in the column of its class: never more than (batch, K)."""
    similarity = graph.add("Gemm", rows, graph.array("rows", body.rows), transB=1)
    values, nearest = graph.add_several(
        "TopK",
        similarity,
        graph.array("k", np.array([body.k], np.int64)),
        outputs=("nearest.values", "nearest.rows"),
        axis=1,
    )
    near = graph.add("Div", values, graph.array("temperature", np.float32(body.temperature)))
    # TopK sorts: the first one is the largest.
    largest = graph.add(
        "Slice",
        near,
        graph.array("from", _axis(0)),
        graph.array("to", _axis(1)),
        graph.array("across", _axis(1)),
    )
    weights = graph.add("Exp", graph.add("Sub", near, largest))
    voted = graph.add("Gather", graph.array("codes", body.codes), nearest, axis=0)
    batch = graph.add("Shape", rows, start=0, end=1)
    shape = graph.add("Concat", batch, graph.array("classes", _axis(body.classes)), axis=0)
    nothing = graph.add("ConstantOfShape", shape)
    votes = graph.add("ScatterElements", nothing, voted, weights, axis=1, reduction="add")
    # The largest weight is 1, so the sum is never 0.
    total = graph.add("ReduceSum", votes, graph.array("voters", _axis(1)), keepdims=1)
    smoothed = graph.add(
        "Add", graph.add("Div", votes, total), graph.array("smoothing", np.float32(body.smoothing))
    )
    logged = graph.add("Log", smoothed)
    return graph.add("Mul", logged, graph.array("sharpness", np.float32(body.sharpness)), output=output)


def _distance(graph: Graph, rows: str, distance: Distance, prefix: str) -> str:
    """(batch,) see `Distance`."""
    moved = graph.add("Sub", rows, graph.array(f"{prefix}mean", distance.mean))
    outside = _squared_length(graph, moved, keepdims=0)
    inside: str | None = None
    if len(distance.directions):
        along = graph.add("Gemm", moved, graph.array(f"{prefix}directions", distance.directions), transB=1)
        squares = graph.add("Mul", along, along)
        axis = graph.array(f"{prefix}axis", _axis(1))
        taken = graph.add("ReduceSum", squares, axis, keepdims=0)
        left = graph.add("Sub", outside, taken)
        outside = graph.add("Max", left, graph.array(f"{prefix}zero", np.float32(0)))
        scaled = graph.add("Div", squares, graph.array(f"{prefix}variances", distance.variances))
        inside = graph.add("ReduceSum", scaled, axis, keepdims=0)
    squared = graph.add("Div", outside, graph.array(f"{prefix}rest", np.float32(distance.rest)))
    if inside is not None:
        squared = graph.add("Add", inside, squared)
    size = graph.array(f"{prefix}dim", np.float32(len(distance.mean)))
    return graph.add("Sqrt", graph.add("Div", squared, size))


def _squared_length(graph: Graph, rows: str, keepdims: int) -> str:
    squares = graph.add("Mul", rows, rows)
    return graph.add("ReduceSum", squares, graph.array(f"{squares}.axis", _axis(1)), keepdims=keepdims)


def _axis(number: int) -> NDArray[np.int64]:
    return np.array([number], np.int64)


def _check(network: Network, classes: Sequence[str], task: Task) -> None:
    """Refuses what a mistake of ours would put together.

    Raises:
        ValueError: Saying which.
    """
    if len(classes) != (0 if task == "anomaly" else network.outputs):
        raise ValueError(f"{network.outputs} outputs and {len(classes)} classes do not fit together")
    parts = [network.body, network.normaliser, network.distance]
    for name, array, shape in (entry for part in parts for entry in _arrays(part, network.dim)):
        if array.shape != shape:
            raise ValueError(
                f"{name} {array.shape} does not fit together with the rest, it should be {shape}"
            )
        wanted = np.int64 if name == "codes" else np.float32
        if array.dtype != wanted:
            raise ValueError(f"{name} is {array.dtype}; it must be {np.dtype(wanted)}")
    body = network.body
    if isinstance(body, Neighbours) and not (
        1 <= body.k <= len(body.rows) and body.codes.min() >= 0 and body.codes.max() < body.classes
    ):
        raise ValueError(f"k {body.k}, {len(body.rows)} rows and {body.classes} classes do not fit together")


def _arrays(part: Any, dim: int) -> list[tuple[str, NDArray[Any], tuple[int, ...]]]:
    """Every array of a part of a network, with its name and the shape that it must have."""
    match part:
        case Linear(W=weights, b=bias):
            return [("W", weights, (len(bias), dim)), ("b", bias, (len(weights),))]
        case Mlp(hidden=hidden, output=last):
            return _arrays(hidden, dim) + _arrays(last, len(hidden.b))
        case Neighbours(rows=rows, codes=codes):
            return [("rows", rows, (len(rows), dim)), ("codes", codes, (len(rows),))]
        case Distance(mean=mean, directions=directions, variances=variances):
            shape = (len(variances), dim)
            return [
                ("mean", mean, (dim,)),
                ("directions", directions, shape),
                ("variances", variances, shape[:1]),
            ]
        case None:
            return []
        case normaliser:
            return [("centre", normaliser.centre, (dim,))]
