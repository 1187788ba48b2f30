"""The kinds of heads, and fitting one by the name of its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.logistic import fit_logistic
from trunkline_service.heads.training.training_set import TrainingSet

__all__ = ["KINDS", "FitFunction", "FittedHead", "fit", "fit_logistic"]


class FitFunction(Protocol):
    """What a kind is: a function from a training set to a fitted head."""

    def __call__(
        self,
        data: TrainingSet,
        *,
        folds: int = 5,
        grid: Sequence[float] | None = None,
        seed: int = 0,
        progress: Callable[[float], None] | None = None,
    ) -> FittedHead:
        """Fits a head; see ``fit_logistic`` for the arguments."""


KINDS: dict[str, FitFunction] = {"logistic": fit_logistic}


def fit(
    kind: str,
    data: TrainingSet,
    *,
    folds: int = 5,
    grid: Sequence[float] | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> FittedHead:
    """A head of ``kind``; see the kind's own function for the arguments.

    Raises:
        InvalidArgument: No such kind, or an argument that can't be used.
    """
    if kind not in KINDS:
        raise InvalidArgument(f"no kind of head is called {kind!r}; the kinds are {', '.join(sorted(KINDS))}")
    return KINDS[kind](data, folds=folds, grid=grid, seed=seed, progress=progress)
