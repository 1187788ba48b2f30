"""The kinds of heads, and fitting one by the name of its kind."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.warm import Previous
from trunkline_service.heads.options import FitOptions, Progress
from trunkline_service.heads.training.training_set import TrainingSet

KINDS = ("anomaly", "centroid", "knn", "logistic", "mlp", "ridge")


class FitFunction(Protocol):
    """What a kind is: a function from a training set to a fitted head."""

    def __call__(
        self, data: TrainingSet, options: FitOptions = ..., progress: Progress | None = None
    ) -> FittedHead:
        """Fits a head; see the kind's own function."""


def fit(
    kind: str,
    data: TrainingSet,
    options: FitOptions | None = None,
    progress: Progress | None = None,
    previous: Previous | None = None,
) -> FittedHead:
    """A head of ``kind``; see ``fit_<kind>`` in the file of the kind for what it is.

    Args:
        kind: One of ``KINDS``.
        data: What to learn from.
        options: How; by default each kind's own choices.
        progress: Called with the share done, rising to 1.0. What it raises ends the fit.
        previous: An earlier version to start from and to take the hyper-parameters of; for ``logistic``.

    Raises:
        InvalidArgument: No such kind, a task that it can't do, or an option that it can't use.
        NotEnoughData: Fewer rows or classes than the kind needs.
    """
    if kind not in KINDS:
        raise InvalidArgument(f"no kind of head is called {kind!r}; the kinds are {', '.join(KINDS)}")
    if previous is not None:
        if kind != "logistic":
            raise InvalidArgument(f"kind {kind} is always fitted afresh; leave the earlier version out")
        from trunkline_service.heads.kinds.logistic import fit_logistic

        return fit_logistic(data, options or FitOptions(), progress, previous)
    # By name, so that one kind's libraries do not load with another's.
    module = importlib.import_module(f"trunkline_service.heads.kinds.{kind}")
    function = cast(FitFunction, getattr(module, f"fit_{kind}"))
    return function(data, options or FitOptions(), progress)
