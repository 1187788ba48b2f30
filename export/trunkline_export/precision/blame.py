"""What each operator costs in int8: the network with that one alone in int8, beside the network in float32.

The errors of different operators are nearly independent, so their costs add up; ranking them by themselves
ranks them together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

from trunkline_export.precision import qdq
from trunkline_export.precision.ranges import Pixels
from trunkline_export.precision.report import units


class Sample:
    """Some images of a stream, drawn evenly and the same every time, while others read the stream.

    Args:
        count: How many, at most.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._seen = 0
        self._held: list[Pixels] = []
        self._random = np.random.default_rng(0)

    def passing(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """The same batches."""
        for pixels in batches:
            for image in pixels:
                self._see(image)
            yield pixels

    def images(self) -> Pixels:
        """Those drawn so far, uint8 [n, height, width, 3]."""
        return np.stack(self._held)

    def _see(self, image: Pixels) -> None:
        # Reservoir sampling: each image so far is held with the same probability.
        self._seen += 1
        place = int(self._random.integers(self._seen))
        if len(self._held) < self._count:
            self._held.append(image.copy())
        elif place < self._count:
            self._held[place] = image.copy()


def costs(
    model: onnx.ModelProto, chosen: Collection[str], ranges: qdq.Ranges, images: Pixels, portable: bool
) -> dict[str, float]:
    """Mean 1 - cosine to float32, for each of the chosen operators in int8 alone.

    Args:
        model: The fp32 graph, as ``qdq.quantized`` takes it.
        chosen: Names of operators.
        ranges: Of the tensors.
        images: Few, since the network runs once an operator: uint8 [n, height, width, 3].
        portable: As ``qdq.quantized`` takes it.
    """
    wanted = _directions(model, images)
    found = {}
    for name in chosen:
        directions = _directions(qdq.quantized(model, [name], ranges, portable), images)
        cost = float(1 - (directions * wanted).sum(axis=1).mean())
        found[name] = cost if np.isfinite(cost) else float("inf")
    return found


def _directions(model: onnx.ModelProto, images: Pixels) -> NDArray[np.float64]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (vectors,) = session.run(None, {model.graph.input[0].name: images})
    return units(vectors)
