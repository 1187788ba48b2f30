"""What is asked of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trunkline_service.collections.metadata import Scalar
from trunkline_service.errors import InvalidArgument
from trunkline_service.index.options import MAX_K

_HIGHEST = {"cosine": 1.0, "euclidean": 0.0}
_SCORES = {
    "cosine": "cosines are at most 1",
    "euclidean": "the scores of the metric 'euclidean' are minus the distance, at most 0",
}
# Scores are sums of float32, and one of them may be given back as a threshold.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class SearchOptions:
    """How to search; the same for every query of a call.

    Attributes:
        k: The most hits of a query, 1..1000; with ``group_by`` the most groups.
        where: An SQL condition that hits must meet; each ``?`` takes one of ``parameters``.
        parameters: Values for the condition.
        min_version: The answer is of this version of the collection or a later one; 0 for the latest that
            the refresh interval lets be known.
        min_score: Hits score at least this (a radius: for ``euclidean``, minus the largest distance).
            A cosine may be a millionth less.
        group_by: A column: of rows that share its value, the best ``per_group`` are hits. A row without a
            value is a group of its own.
        per_group: At least 1.
        collapse: Rows whose similarity to a better hit is at least this are folded into it.
            Of each query at most 16,384 candidates are compared; beyond, the answer is not exact.
        exact: Compare with every row, whatever the index.
        columns: Each hit carries their values, of the version that was searched.

    Raises:
        InvalidArgument: A value that can't be.
    """

    k: int = 10
    where: str | None = None
    parameters: Sequence[Scalar] = ()
    min_version: int = 0
    min_score: float | None = None
    group_by: str | None = None
    per_group: int = 1
    collapse: float | None = None
    exact: bool = False
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MAX_K:
            raise InvalidArgument(f"k is {self.k}; it can be 1 to {MAX_K:,}")
        if self.min_version < 0:
            raise InvalidArgument(f"min_version is {self.min_version}; it can be 0 or more")
        if not 1 <= self.per_group <= MAX_K:
            raise InvalidArgument(f"per_group is {self.per_group}; it can be 1 to {MAX_K:,}")
        for name, value in (("min_score", self.min_score), ("collapse", self.collapse)):
            # A NaN is equal to nothing, not even to itself.
            if value is not None and value != value:  # noqa: PLR0124
                raise InvalidArgument(f"{name} is NaN; give a number")
        twice = [name for at, name in enumerate(self.columns) if name in self.columns[:at]]
        if twice:
            raise InvalidArgument(f"columns names {twice[0]!r} twice; name each column once")

    def check_metric(self, metric: str) -> None:
        """Refuses thresholds that no two vectors reach by the metric, so that they could do nothing.

        Raises:
            InvalidArgument: ``min_score`` or ``collapse`` is above the highest score.
        """
        highest = _HIGHEST.get(metric)
        for name, value in (("min_score", self.min_score), ("collapse", self.collapse)):
            if highest is not None and value is not None and value > highest + _ROUNDING:
                nothing = "nothing would be found" if name == "min_score" else "no row would be folded"
                raise InvalidArgument(
                    f"{name} is {value:g}, and {_SCORES[metric]}: {nothing}; give a lower one"
                )
