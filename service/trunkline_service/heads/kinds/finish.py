"""The last step of every kind: the distance beside the outputs, and where all of it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.evaluation.kinds import AnyEvaluation
from trunkline_service.heads.evaluation.regression import evaluate_regression
from trunkline_service.heads.fitted import Convergence, FittedHead
from trunkline_service.heads.kinds.distance import fit_distance_and_quantiles
from trunkline_service.heads.kinds.judged import judge_test
from trunkline_service.heads.network import Body, Distance, Linear, Mlp, Neighbours, Network
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.training.overlap import overlap_notes
from trunkline_service.heads.training.training_set import TrainingSet

# Of a target's standard deviation: the largest step between two float32 numbers that does no harm.
_SPACING = 0.01


def finish(
    kind: str,
    data: TrainingSet,
    options: FitOptions,
    network: Network,
    assigned: NDArray[np.int64],
    *,
    evaluation: AnyEvaluation,
    out_of_fold: NDArray[np.float32],
    hyper_parameters: Mapping[str, Any],
    notes: tuple[str, ...],
    temperature: float = 1.0,
    convergence: Convergence = Convergence(),  # noqa: B008 - frozen
    curves: Mapping[str, tuple[float, ...]] | None = None,
) -> FittedHead:
    """A fitted head with a distance, judged on the test split, with the provenance of its data.

    Args:
        kind: A key of ``fit.KINDS``.
        data: What was learned from.
        options: Of the fit.
        network: Without a distance.
        assigned: (N,) fold of each row, for quantiles of the distance; -1 for rows never held out.
        evaluation: Of held-out rows.
        out_of_fold: (N, K) float32, their outputs.
        hyper_parameters: What was chosen; ``class_weight`` and ``seed`` are added.
        notes: To go after those of the data.
        temperature: As in ``FittedHead``.
        convergence: As in ``FittedHead``.
        curves: As in ``FittedHead``.

    Raises:
        InvalidArgument: Weights of the network that are not finite.
    """
    check_finite(kind, network)
    distance, quantiles = fit_distance_and_quantiles(data.embeddings, assigned, seed=options.seed)
    return FittedHead(
        kind=kind,
        task=data.task,
        network=replace(network, distance=distance),
        classes=data.classes,
        space_id=data.space_id,
        model=data.model,
        collection=data.collection,
        collection_version=data.collection_version,
        training_hash=data.training_hash(),
        rows=len(data),
        hyper_parameters={**hyper_parameters, "class_weight": options.class_weight, "seed": options.seed},
        temperature=temperature,
        evaluation=evaluation,
        notes=(*data.notes, *notes, *overlap_notes(data), *_spacing_notes(data)),
        convergence=convergence,
        target=data.target,
        decode=data.decode,
        test_evaluation=_judge_test(data, network),
        distance_quantiles=quantiles,
        curves=dict(curves or {}),
        out_of_fold=out_of_fold,
    )


def _judge_test(data: TrainingSet, network: Network) -> AnyEvaluation | None:
    if data.task != "regression":
        return judge_test(data, network)
    if data.test is None:
        return None
    return evaluate_regression(
        data.test.values(), network(data.test.embeddings), data.classes, 0, weights=data.test.weights
    )


def check_finite(kind: str, network: Network) -> None:
    """Refuses a head that could only answer with NaN or infinity.

    Raises:
        InvalidArgument: Naming the kind, and what to do.
    """
    if not all(np.isfinite(array).all() for array in _arrays(network.body)):
        raise InvalidArgument(
            f"the {kind} head's weights are not finite: the embeddings, the values or the weights of the rows are "
            "too large or too small for float32; scale them to sizes near 1"
        )


def _arrays(body: Body) -> list[NDArray[np.float32]]:
    match body:
        case Linear():
            return [body.W, body.b]
        case Mlp():
            return _arrays(body.hidden) + _arrays(body.output)
        case Neighbours():
            return [body.rows]
        case Distance():
            return [body.mean, body.directions, body.variances]


def _spacing_notes(data: TrainingSet) -> list[str]:
    """On targets of which float32 can't tell values apart."""
    if data.task != "regression":
        return []
    values = data.values()
    steps = np.spacing(np.abs(values).max(axis=0).astype(np.float32)).astype(np.float64)
    return [
        f"values of {target} are answered in steps of {step:g}, more than {_SPACING:.0%} of their standard "
        f"deviation ({spread:g}), as they are served in float32: subtract a constant from target {target}"
        for target, step, spread in zip(data.classes, steps, values.std(axis=0), strict=True)
        if step > _SPACING * spread
    ]
