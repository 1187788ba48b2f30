"""How a head is to be fitted: the same options for every kind."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from trunkline_service.errors import InvalidArgument

Transform: TypeAlias = Literal["standardise", "l2", "whiten", "none"]
ClassWeight: TypeAlias = Literal["none", "balanced"]
Precision: TypeAlias = Literal["float32", "float64"]
Progress: TypeAlias = Callable[[float], None]
"""Called with the share done, rising to 1.0. What it raises ends the fit."""


def silent(_share: float) -> None:
    """The progress that nobody listens to."""


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit.

    Attributes:
        folds: Cross-validation folds; fewer are used, with a note, where the data allow no more.
        grid: Candidates of the kind's own hyper-parameter (C of ``logistic``, alpha of ``ridge``, k of
            ``knn``); None for the kind's own grid.
        seed: Of everything random. The same data, options and seed give the same head.
        transform: What embeddings go through before the head; None for the kind's own choice.
        class_weight: ``balanced`` weighs every class alike, whatever its number of rows.
        precision: Of the solver; ``float32`` with sums in float64, or ``float64`` throughout.
        device: ``cpu`` (numpy), or a torch device such as ``cuda``.
        max_iterations: After which a solver stops; reported as not converged.
        normal: For ``anomaly``: the label of what is normal; None for every row.

    Raises:
        InvalidArgument: A value that can't be used, naming it.
    """

    folds: int = 5
    grid: tuple[float, ...] | None = None
    seed: int = 0
    transform: Transform | None = None
    class_weight: ClassWeight = "none"
    precision: Precision = "float32"
    device: str = "cpu"
    max_iterations: int = 1000
    normal: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("seed", 0), ("max_iterations", 1)):
            object.__setattr__(self, name, _integer(name, getattr(self, name), least))
        if self.grid is not None:
            values = tuple(sorted({float(value) for value in self.grid}))
            if not values or not all(math.isfinite(value) and value > 0 for value in values):
                raise InvalidArgument(f"grid is {self.grid!r}; give one or more positive, finite values")
            object.__setattr__(self, "grid", values)
        for name, value, known in (
            ("transform", self.transform, (None, *get_args(Transform))),
            ("class_weight", self.class_weight, get_args(ClassWeight)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in known:
                raise InvalidArgument(
                    f"{name} is {value!r}; it can be {', '.join(str(k) for k in known if k)}"
                )


def _integer(name: str, value: Any, least: int) -> int:
    """The value as Python's own integer: numpy's can't be written as JSON."""
    try:
        whole = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < least:
        raise InvalidArgument(f"{name} is {value!r}; it must be an integer from {least} on")
    return whole
