"""Problems that are solved together: the same rows, each problem with its penalty and its left-out fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
NO_FOLD = -2
"""The left-out fold of a problem that leaves nothing out (rows that are never held out have fold -1)."""


@dataclass(frozen=True, eq=False)
class Problems:
    """B problems: mean weighted loss over the rows that are not left out, plus ``penalty / 2 * |W|^2``.

    scikit-learn's C is ``1 / (penalty * total)``, with the total weight of the problem's rows.

    Attributes:
        penalties: (B,) float64.
        folds: (B,) int64, the fold that each leaves out; ``NO_FOLD`` for none.
        totals: (B,) float64, weight of the rows that each learns from.
    """

    penalties: NDArray[np.float64]
    folds: NDArray[np.int64]
    totals: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.penalties)

    def at(self, chosen: Array) -> Problems:
        """Those at positions, or where a mask is true."""
        return Problems(self.penalties[chosen], self.folds[chosen], self.totals[chosen])

    @classmethod
    def of(
        cls, cs: Array, folds: Array, row_weights: NDArray[np.float64], row_folds: NDArray[np.int64]
    ) -> Problems:
        """The problems of every C without every fold, C by C.

        Args:
            cs: scikit-learn's C, float64.
            folds: Left-out folds, or ``NO_FOLD``.
            row_weights: (N,)
            row_folds: (N,)
        """
        kept = np.array([row_weights[row_folds != fold].sum() for fold in folds])
        totals = np.tile(kept, len(cs))
        return cls(1 / (np.repeat(cs, len(folds)) * totals), np.tile(folds, len(cs)), totals)
