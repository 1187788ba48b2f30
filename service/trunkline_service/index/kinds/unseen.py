"""What lists that queries did not look into may hold for them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_FAR = 6.0
_NOTHING = 0.1
# The share of a normal distribution that lies above so many deviations, in steps.
_STEPS = 200
_ABOVE = np.array([math.erfc(step / _STEPS / math.sqrt(2)) / 2 for step in range(-1200, 1201)])


class Worth(NamedTuple):
    """Queries that should look further.

    Attributes:
        queries: int64 (r,).
        lists: int64 (r, m), what each should look into next, the best first, -1 after the last one.
        rows: int64 (r,), of all the lists that it would look into if its k-th row stayed the same.
    """

    queries: NDArray[np.int64]
    lists: NDArray[np.int64]
    rows: NDArray[np.int64]


class Unseen:
    """The pairs of a query and a list that may hold better rows than it found; fewer with each look.

    Args:
        means: float32 (Q, nlist): the score of each list's mean; written to.
        deviations: float32 (Q, nlist): the standard deviation of the scores of its rows.
        rows: int64 (nlist,): rows of each list that may be found.
        seen: int64 (Q, m): the lists that each query looked into; -1 for none.
        kth: float32 (Q,): the score of its k-th best row so far; ``inf`` of a query that is not to look further.
        left: How many better rows may be left in the lists that a query does not look into.
    """

    def __init__(
        self,
        means: Floats,
        deviations: Floats,
        rows: NDArray[np.int64],
        seen: NDArray[np.int64],
        kth: Floats,
        left: float,
    ) -> None:
        means[:, rows == 0] = -np.inf
        asked, places = np.nonzero(seen >= 0)
        means[asked, seen[asked, places]] = -np.inf
        # Lists that are farther away hold next to nothing of it, all together.
        far = np.float32(_deviations_to(left * _NOTHING / max(1, int(rows.sum()))))
        with np.errstate(invalid="ignore"):
            at = np.flatnonzero(means > kth[:, None] - far * deviations)
        self._query, self._list = np.divmod(at, means.shape[1])
        self._mean = means.ravel()[at]
        self._deviation = deviations.ravel()[at]
        self._rows = rows[self._list]
        self._left = left

    def worth(self, kth: Floats, most: int) -> Worth:
        """The lists that queries should look into next; they count as seen from then on.

        Args:
            kth: As above, now.
            most: The most lists of a query.

        """
        with np.errstate(divide="ignore", invalid="ignore"):
            away = (kth[self._query] - self._mean) / self._deviation
        # No number comes of a list of equal rows that are as good as the k-th, or of one too wide for single
        # precision once its query is done: nothing better is there for it.
        away = np.nan_to_num(away, nan=_FAR, posinf=_FAR, neginf=-_FAR)
        step = np.rint(np.clip(away, -_FAR, _FAR) * _STEPS).astype(np.int64)
        better = self._rows * _ABOVE[step + len(_ABOVE) // 2]
        total = np.bincount(self._query, better, minlength=len(kth))
        kept = (total > self._left)[self._query]
        order = np.lexsort((-better[kept], self._query[kept]))
        self._keep(np.flatnonzero(kept)[order])
        better = better[kept][order]
        queries, first, counts = np.unique(self._query, return_index=True, return_counts=True)
        place = np.arange(len(better)) - np.repeat(first, counts)
        before = np.cumsum(better) - better
        remaining = total[self._query] - (before - np.repeat(before[first], counts))
        wanted = remaining > self._left
        which = np.repeat(np.arange(len(queries)), counts)
        held = np.bincount(which[wanted], self._rows[wanted], minlength=len(queries)).astype(np.int64)
        wanted &= place < most
        lists = np.full((len(queries), int(place[wanted].max(initial=-1)) + 1), -1, np.int64)
        lists[which[wanted], place[wanted]] = self._list[wanted]
        self._keep(np.flatnonzero(~wanted))
        return Worth(queries, lists, held)

    def _keep(self, at: NDArray[np.int64]) -> None:
        self._query, self._list, self._rows = self._query[at], self._list[at], self._rows[at]
        self._mean, self._deviation = self._mean[at], self._deviation[at]


def _deviations_to(share: float) -> float:
    """Beyond how many standard deviations less than this share of a normal distribution lies; 0 to 6."""
    beyond = _ABOVE[len(_ABOVE) // 2 :]
    return float(np.count_nonzero(beyond > share)) / _STEPS
