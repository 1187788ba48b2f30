"""An ONNX graph, written node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Graph:
    """Nodes and initialisers, in the order they were added.

    Attributes:
        nodes: ONNX's.
        initializers: ONNX's.
        bytes: Of all initialisers together.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.bytes = 0

    def array(self, name: str, values: NDArray[Any] | np.generic) -> str:
        """Adds an initialiser; gives its name, which nothing else may have."""
        from onnx import numpy_helper

        array = np.ascontiguousarray(values) if np.ndim(values) else np.asarray(values)
        self.bytes += array.nbytes
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Adds a node of one output; gives the output's name, one of its own where none is given."""
        return self.add_several(op, *inputs, outputs=(output,), **attributes)[0]

    def add_several(
        self, op: str, *inputs: str, outputs: tuple[str, ...], **attributes: Any
    ) -> tuple[str, ...]:
        """Adds a node of several outputs; gives their names."""
        from onnx import helper

        stem = f"{op.lower()}.{len(self.nodes)}"
        names = tuple(name or stem for name in outputs)
        self.nodes.append(helper.make_node(op, list(inputs), list(names), name=stem, **attributes))
        return names
