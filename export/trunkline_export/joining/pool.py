"""Pooling and normalisation as ONNX: what ``pool.Pool`` and ``pool.UnitLength`` do in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trunkline_export.cutting.pool import POOLS, Layout
from trunkline_service.errors import ExportError
from trunkline_service.models.identity import OutputSpec

_PREFIX = "trunkline/pool_"
_TO_CHANNELS_FIRST = [0, 3, 1, 2]
# As in ``pool``.
_GEM_EXPONENT, _GEM_FLOOR, _L2_FLOOR = 3.0, 1e-6, 1e-12


@dataclass(frozen=True)
class Feature:
    """Where a network is cut, and what becomes of the tensor there.

    Attributes:
        output: The tensor, the pool, the normalisation.
        shape: Of the tensor, without the batch.
        layout: How it lies.

    Raises:
        ExportError: The pool has no meaning for a tensor of this shape; see ``pool.Pool``, whose rules these are.
    """

    output: OutputSpec
    shape: tuple[int, ...]
    layout: Layout

    def __post_init__(self) -> None:
        rank, pool, tokens = len(self.shape), self.output.pool, self.layout.prefix_tokens
        found = f"the output {self.output.node!r} gives {list(self.shape)} for an image"
        if rank == 0:
            raise ExportError(f"{found}, which is no vector; name another --output")
        if pool == "none" and rank != 1:
            raise ExportError(
                f"pool 'none' takes one vector an image, and {found}; give --pool avg, or --pool flatten to "
                "keep every value"
            )
        if pool in ("avg", "max", "gem") and rank not in (2, 3):
            raise ExportError(
                f"pool {pool!r} takes a feature map or a sequence of tokens, and {found}; give --pool "
                f"{'none' if rank == 1 else 'flatten'}"
            )
        if pool in ("cls", "cls+avg") and (rank != 2 or tokens == 0):
            raise ExportError(
                f"pool {pool!r} needs a class token, and {found} without one; where its first token is one, "
                'say "prefix_tokens": 1 in the preprocess file, or else give --pool avg'
            )
        if rank == 2 and tokens >= self.shape[0]:
            raise ExportError(f"{found}, which leaves none behind the {tokens} prefix_tokens")


def pooling(feature: Feature, source: str, target: str) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Nodes from a network's tensor to its vectors, and the constants that they need.

    Args:
        feature: The tensor, and what becomes of it.
        source: Its name in the graph.
        target: Name of the vectors, float32 [N, dim].

    Raises:
        ExportError: There is no such pool.
    """
    writer = _Writer(feature)
    name = writer.pooled(source, feature.output.pool)
    if feature.output.normalize == "l2":
        name = writer.unit_length(name)
    writer.nodes.append(helper.make_node("Identity", [name], [target]))
    return writer.nodes, writer.constants


class _Writer:
    """Nodes and constants, one after the other.

    Args:
        feature: Where the network is cut.
    """

    def __init__(self, feature: Feature) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self._layout = feature.layout
        self._rank = 1 + len(feature.shape)

    def pooled(self, name: str, pool: str) -> str:
        match pool:
            case "none":
                vectors = name
            case "flatten":
                vectors = self._then("Flatten", self._channels_first(name), axis=1)
            case "avg":
                vectors = self._average(self._places(name))
            case "max":
                vectors = self._then("Flatten", self._then("GlobalMaxPool", self._places(name)), axis=1)
            case "gem":
                positive = self._then("Clip", self._places(name), self._number("gem_floor", _GEM_FLOOR))
                raised = self._then("Pow", positive, self._number("gem", _GEM_EXPONENT))
                root = self._number("gem_root", 1 / _GEM_EXPONENT)
                vectors = self._then("Pow", self._average(raised), root)
            case "cls":
                vectors = self._class_token(name)
            case "cls+avg":
                both = self._class_token(name), self._average(self._places(name))
                vectors = self._then("Concat", *both, axis=1)
            case _:
                raise ExportError(f"there is no pool {pool!r}; there are {', '.join(POOLS)}")
        return vectors

    def unit_length(self, name: str) -> str:
        axes = self._constant("l2_axes", np.array([1], np.int64))
        squares = self._then("ReduceSum", self._then("Mul", name, name), axes, keepdims=1)
        norms = self._then("Clip", self._then("Sqrt", squares), self._number("l2_floor", _L2_FLOOR))
        return self._then("Div", name, norms)

    def _places(self, name: str) -> str:
        """[N, C, H, W] or [N, C, T]."""
        if self._rank == 4:
            return self._channels_first(name)
        if self._layout.prefix_tokens:
            values = (self._layout.prefix_tokens, np.iinfo(np.int64).max, 1)
            bounds = [
                self._constant(f"tokens_{key}", np.array([value], np.int64))
                for key, value in zip(("first", "end", "axis"), values, strict=True)
            ]
            name = self._then("Slice", name, *bounds)
        return self._then("Transpose", name, perm=[0, 2, 1])

    def _channels_first(self, name: str) -> str:
        last = self._rank == 4 and self._layout.channels_last
        return self._then("Transpose", name, perm=_TO_CHANNELS_FIRST) if last else name

    def _class_token(self, name: str) -> str:
        return self._then("Gather", name, self._constant("class_token", np.array(0, np.int64)), axis=1)

    def _average(self, name: str) -> str:
        return self._then("Flatten", self._then("GlobalAveragePool", name), axis=1)

    def _then(self, operator: str, *inputs: str, **attributes: Any) -> str:
        made = f"{_PREFIX}pooled_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [made], **attributes))
        return made

    def _number(self, name: str, value: float) -> str:
        return self._constant(name, np.array(value, np.float32))

    def _constant(self, name: str, values: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(values, f"{_PREFIX}{name}"))
        return f"{_PREFIX}{name}"
