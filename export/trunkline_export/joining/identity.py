"""What of an ONNX graph decides its vectors, beside its weights: operators, attributes, wiring.

Who wrote the file, with which version, in which words and under which node names, decides nothing.
"""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper


def structure_hash(model: onnx.ModelProto) -> str:
    """32 hexadecimal digits over a network whose weights, as initializers, are hashed elsewhere."""
    digest = hashlib.sha256()
    for domain, version in sorted((entry.domain, entry.version) for entry in model.opset_import):
        digest.update(repr((domain, version)).encode())
    for node in model.graph.node:
        digest.update(repr(_words(node)).encode())
    return digest.hexdigest()[:32]


def _words(node: onnx.NodeProto) -> tuple[object, ...]:
    attributes = sorted((attribute.name, _value(attribute)) for attribute in node.attribute)
    return (node.domain, node.op_type, list(node.input), list(node.output), attributes)


def _value(attribute: AttributeProto) -> str:
    match attribute.type:
        case AttributeProto.TENSOR:
            return _tensor(attribute.t)
        case AttributeProto.TENSORS:
            return repr([_tensor(tensor) for tensor in attribute.tensors])
        case AttributeProto.GRAPH:
            return _graph(attribute.g)
        case AttributeProto.GRAPHS:
            return repr([_graph(graph) for graph in attribute.graphs])
        case _:
            return repr(onnx.helper.get_attribute_value(attribute))


def _graph(graph: onnx.GraphProto) -> str:
    """An inner graph, with its constants: those are part of no list of weights."""
    names = [[entry.name for entry in entries] for entries in (graph.input, graph.output)]
    constants = sorted((tensor.name, _tensor(tensor)) for tensor in graph.initializer)
    return repr((names, constants, [_words(node) for node in graph.node]))


def _tensor(tensor: TensorProto) -> str:
    """Type, shape and a hash of the values, in whichever of its fields they are stored."""
    if tensor.data_type == TensorProto.STRING:
        return repr((list(tensor.dims), list(tensor.string_data)))
    values = np.ascontiguousarray(numpy_helper.to_array(tensor))
    return repr((tensor.data_type, list(tensor.dims), hashlib.sha256(values.tobytes()).hexdigest()))
