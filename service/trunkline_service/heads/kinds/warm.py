"""Starting a fit from an earlier version of the head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.kinds.transforms import FittedTransform
from trunkline_service.heads.network import Linear, Network
from trunkline_service.heads.solver.sweep import Solved, Sweep
from trunkline_service.heads.training.training_set import TrainingSet

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Previous:
    """An earlier version, to start from.

    Attributes:
        ref: ``name@version``.
        kind: Of it.
        network: Of it.
        classes: Its outputs.
        temperature: Inside the network.
        hyper_parameters: From its card.
        space_id: Of its embeddings.
    """

    ref: str
    kind: str
    network: Network
    classes: tuple[str, ...]
    temperature: float
    hyper_parameters: Mapping[str, Any]
    space_id: str


def start_of(
    previous: Previous, data: TrainingSet, transform: FittedTransform, sweep: Sweep, binary: bool
) -> Solved:
    """The earlier version's weights as a solution near the one that is looked for.

    Raises:
        InvalidArgument: A head of another kind, of other classes or of another space.
    """
    body, c = previous.network.body, previous.hyper_parameters.get("C")
    alike = (
        previous.kind == "logistic"
        and isinstance(body, Linear)
        and isinstance(c, float)
        and previous.classes == data.classes
        and previous.space_id == data.space_id
    )
    if not alike or not isinstance(body, Linear) or not isinstance(c, float):
        raise InvalidArgument(
            f"head {previous.ref} can't be refitted on collection {data.collection!r}: {_difference(previous, data)}; "
            "leave --warm out to fit it afresh"
        )
    coefficients, intercepts = _unfolded(body, transform, previous.temperature)
    if binary:
        coefficients, intercepts = np.diff(coefficients, axis=0), np.diff(intercepts)
    return sweep.started(c, coefficients, intercepts)


def _difference(previous: Previous, data: TrainingSet) -> str:
    if previous.kind != "logistic":
        return f"it is of kind {previous.kind}, and only logistic heads are"
    if previous.space_id != data.space_id:
        return f"it takes embeddings of space {previous.space_id}, and these are of {data.space_id}"
    if previous.classes != data.classes:
        return f"it has {len(previous.classes)} classes, and the rows have {len(data.classes)} or others"
    return "its weights or its C are not those of a fit"


def _unfolded(body: Linear, transform: FittedTransform, temperature: float) -> tuple[Floats, Floats]:
    """Coefficients and intercepts over transformed features: what `FittedTransform.fold` was given."""
    weights, intercepts = body.W.astype(np.float64) * temperature, body.b.astype(np.float64) * temperature
    if transform.mean is not None:
        intercepts = intercepts + weights @ transform.mean
    if transform.matrix is None:
        return weights, intercepts
    if transform.matrix.ndim == 1:
        return weights / transform.matrix, intercepts
    return weights @ np.linalg.pinv(transform.matrix), intercepts
