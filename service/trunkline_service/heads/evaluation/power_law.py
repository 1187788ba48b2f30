"""How errors fall with the number of training rows: a power law, and what it says of more rows. Pure.

Source: Cortes et al. 1993, "Learning Curves: Asymptotic Values and Rate of Convergence".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Exponents that are tried: from hardly falling to falling with the square of the rows.
_EXPONENTS = np.linspace(0.05, 2.0, 79)


@dataclass(frozen=True)
class PowerLaw:
    """``error(n) = floor + scale * n ** -exponent``.

    Attributes:
        floor: What no number of rows would mend; at least 0.
        scale: At least 0.
        exponent: From 0.05 to 2.
    """

    floor: float
    scale: float
    exponent: float

    def error(self, rows: float) -> float:
        """The error with so many training rows."""
        return self.floor + self.scale * math.pow(rows, -self.exponent)


def fit_power_laws(rows: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, 3) floor, scale and exponent of the law with the least squared distance from each curve.

    Args:
        rows: (S,) training rows of the points, rising, S at least 2.
        errors: (B, S) errors at them.
    """
    best = np.full(len(errors), np.inf)
    laws = np.zeros((len(errors), 3))
    for exponent in _EXPONENTS:
        falling = rows**-exponent
        deviations = falling - falling.mean()
        scale = np.maximum(errors @ deviations / (deviations @ deviations), 0.0)
        floor = errors.mean(axis=1) - scale * falling.mean()
        # A floor below 0 can't be: the best law with none, then.
        below = floor < 0
        scale = np.where(below, np.maximum(errors @ falling / (falling @ falling), 0.0), scale)
        floor = np.where(below, 0.0, floor)
        distance = ((floor[:, None] + scale[:, None] * falling - errors) ** 2).sum(axis=1)
        better = distance < best
        best[better] = distance[better]
        laws[better] = np.column_stack([floor, scale, np.full(len(errors), exponent)])[better]
    return laws
