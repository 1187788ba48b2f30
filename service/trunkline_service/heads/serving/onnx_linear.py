"""The weights of a linear head, read back from its ONNX file: the one place where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.network import Activation, Distance, Linear, Network
from trunkline_service.heads.serving.onnx_head import DISTANCE, INPUT

_ACTIVATION_OF: dict[str, Activation] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_DISTANCE_ARRAYS = ("distance.mean", "distance.rest", "distance.directions", "distance.variances")


def linear_network(model: bytes, output: str) -> Network | None:
    """The network of ``onnx_head.build``'s bytes where it is one affine map of the embedding; else None.

    Args:
        model: Bytes of ``head.onnx``.
        output: Name of the first output.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(model).graph
    made_by = {name: node for node in graph.node for name in node.output}
    last = made_by[output]
    activation = _ACTIVATION_OF.get(last.op_type, "none")
    gemm = last if activation == "none" else made_by.get(last.input[0])
    if gemm is None or gemm.op_type != "Gemm" or list(gemm.input) != [INPUT, "W", "b"]:
        return None
    wanted = ("W", "b", *_DISTANCE_ARRAYS)
    arrays = {
        entry.name: _floats(numpy_helper.to_array(entry))
        for entry in graph.initializer
        if entry.name in wanted
    }
    has_distance = any(entry.name == DISTANCE for entry in graph.output)
    distance = _distance(arrays) if has_distance else None
    return Network(Linear(arrays["W"], arrays["b"]), activation, distance=distance)


def _distance(arrays: dict[str, NDArray[np.float32]]) -> Distance:
    mean = arrays["distance.mean"]
    return Distance(
        mean=mean,
        directions=arrays.get("distance.directions", np.empty((0, len(mean)), np.float32)),
        variances=arrays.get("distance.variances", np.empty(0, np.float32)),
        rest=float(arrays["distance.rest"]),
    )


def _floats(array: Any) -> NDArray[np.float32]:
    # A copy, so that the parsed file need not be kept for it.
    return np.array(array, np.float32)
