"""A network that exists only as ONNX, cut at one of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from trunkline_export import parity
from trunkline_export.candidate import Candidate
from trunkline_export.gate_images import GateImage
from trunkline_export.onnx_join import Input, join, structure_hash
from trunkline_export.pool import Layout
from trunkline_export.reference import Reference, Vectors, embedded
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.card import ParityRecord
from trunkline_service.models.identity import OutputSpec


@dataclass(frozen=True)
class Given:
    """What the user's own pipeline gives for some images.

    Attributes:
        words: Where it comes from, for the card.
        images: The files.
        vectors: float32 [N, dim], in the same order.
    """

    words: str
    images: tuple[GateImage, ...]
    vectors: Vectors


@dataclass(frozen=True)
class OnnxNetwork:
    """What an export starts from where there is no PyTorch; see ``Backbone`` for what the two share.

    Attributes:
        source: What was asked for.
        name: Of the model.
        graph: The user's network up to the tensor, and nothing behind it.
        input: What it takes.
        preprocess: Its transform as data.
        output: The tensor, and what becomes of it.
        layout: How the tensor lies.
        weights: Where the file came from, in words, without paths.
        given: What to compare with, or None.
    """

    source: str
    name: str
    graph: onnx.ModelProto
    input: Input
    preprocess: Preprocess
    output: OutputSpec
    layout: Layout
    weights: str
    given: Given | None = None
    pretrained: bool = True
    license: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    @property
    def architecture(self) -> str:
        """``onnx/`` and a hash of the graph's structure, with what its input wants done to RGB pixels."""
        inner = f"{self.layout.prefix_tokens}{'-last' if self.layout.channels_last else ''}"
        return f"onnx/{structure_hash(self.graph)}/{self.input.layout}/{self.input.channels}/{inner}"

    @property
    def parameters(self) -> int:
        """Number of values in the floating-point weights."""
        return sum(tensor.size for tensor in self.tensors().values() if tensor.dtype.kind == "f")

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The weights by name."""
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.graph.initializer}

    def write(self, path: Path) -> int:
        """Writes the whole graph, from uint8 pixels to vectors; returns ``dim``.

        Raises:
            ExportError: The pool does not fit the tensor, or the graph can't be run.
        """
        return join(self.graph, self.input, self.preprocess, self.output, self.layout, path)

    def verified(self, candidate: Candidate) -> ParityRecord:
        """The parity record: a comparison with the given vectors, or ``unverified`` where there are none.

        Raises:
            ParityError: The vectors differ.
        """
        if self.given is None:
            return parity.unverified()
        parity.enough(self.given.images)
        pixels = parity.prepared(self.preprocess, self.given.images)
        reference = Reference(self.given.words, self.given.vectors, None)
        vectors = embedded(candidate, pixels)
        return parity.judge(pixels, vectors, reference, self.given.images, parity.LIMITS["fp32"], self.source)
