"""A network that exists only as ONNX, cut at one of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from trunkline_export.gate import images as gate_images
from trunkline_export.gate import parity
from trunkline_export.gate.candidate import Candidate
from trunkline_export.gate.images import GateImage
from trunkline_export.gate.reference import Pixels, Reference, Vectors, embedded
from trunkline_export.joining.identity import structure_hash
from trunkline_export.joining.join import Input, join
from trunkline_export.joining.pool import Feature
from trunkline_service.errors import ExportError, ImageError, InvalidArgument
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.card import ParityRecord
from trunkline_service.models.identity import OutputSpec

_LOOKED_AT = 4
# Tighter than where pixels are compared as well, since vectors must tell here what pixels tell there. Measured
# on MobileNetV2 and ResNet50 with random weights, as shares of the median between different images: the same
# pixels 3e-12, bicubic for bilinear 0.4% to 1.7%, one pixel of the crop 1.5% to 21%.
_LIMITS = replace(parity.LIMITS["fp32"], share=0.001)


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
        graph: The user's network up to the tensor, and nothing behind it. As the user wrote it, its batch
            size included: the space is hashed over this, so that a file keeps its space whatever is done to
            the graph on its way to a model.
        input: What it takes.
        preprocess: Its transform as data.
        feature: The tensor, and what becomes of it.
        weights: Where the file came from, in words, without paths.
        given: What to compare with, or None.
    """

    source: str
    name: str
    graph: onnx.ModelProto
    input: Input
    preprocess: Preprocess
    feature: Feature
    weights: str
    given: Given | None = None
    pretrained: bool = True
    license: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    @property
    def output(self) -> OutputSpec:
        """The tensor, the pool, the normalisation."""
        return self.feature.output

    @property
    def architecture(self) -> str:
        """``onnx/`` and a hash of the graph's structure, with what its input wants done to RGB pixels."""
        layout = self.feature.layout
        inner = f"{layout.prefix_tokens}{'-last' if layout.channels_last else ''}"
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
            ExportError: The graph can't be run, or not at other batch sizes.
        """
        return join(self.graph, self.input, self.preprocess, self.feature, path)

    def verified(self, candidate: Candidate) -> ParityRecord:
        """The parity record: a comparison with the given vectors, or ``unverified`` where there are none.

        Raises:
            ParityError: The vectors differ.
            ExportError: Without given vectors: the network does not tell images apart.
            InvalidArgument: A given image can't be read.
        """
        if self.given is None:
            self._check_tells_apart(candidate)
            return parity.unverified()
        parity.enough(self.given.images)
        pixels = np.concatenate([self._prepared(image) for image in self.given.images])
        reference = Reference(self.given.words, self.given.vectors, None)
        vectors = embedded(candidate, pixels)
        return parity.judge(pixels, vectors, reference, self.given.images, _LIMITS, self.source)

    def _prepared(self, image: GateImage) -> Pixels:
        try:
            return parity.prepared(self.preprocess, [image])
        except ImageError as exc:
            raise InvalidArgument(
                f"--reference: {image.name} can't be used: {exc.message}; the folder must hold images and "
                "their vectors alone"
            ) from exc

    def _check_tells_apart(self, candidate: Candidate) -> None:
        """All that can be told without a reference: that vectors are numbers, and differ between images."""
        images = gate_images.made(_LOOKED_AT)
        vectors = embedded(candidate, parity.prepared(self.preprocess, images))
        if not np.isfinite(vectors).all():
            raise ExportError(f"{self.source}: its vectors hold NaN or infinity; nothing was published")
        if (vectors == vectors[0]).all():
            raise ExportError(
                f"{self.source}: {len(images)} different images give the same vector at "
                f"{self.output.node!r}; name another --output"
            )
