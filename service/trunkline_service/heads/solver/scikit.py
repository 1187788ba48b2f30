"""scikit-learn's solver of one logistic regression, kept quiet and in bounds."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

# Up to this many multiplications a pass over the rows, BLAS runs in one thread: where other work holds
# the cores, its threads wait for each other. On two busy cores 5,000 x 384 rows of 100 classes took
# 71 s with two threads and 10 s with one; 1,797 x 64 rows of 10 classes 29 s and 0.4 s.
_ONE_THREAD = 2_000_000_000

# Warning filters and the number of BLAS threads belong to the whole process: two runs at once would
# restore each other's.
_ALONE = threading.Lock()


class Solver:
    """Solves regressions one after the other, and counts those that did not converge.

    Attributes:
        failures: Runs that stopped before their tolerance.
    """

    def __init__(self, max_iterations: int, runs: int, progress: Callable[[float], None] | None) -> None:
        """Prepares for ``runs`` runs; ``progress`` hears the share done after each."""
        self.failures = 0
        self._max_iterations = max_iterations
        self._runs = runs
        self._done = 0
        self._progress = progress

    def start(self) -> Any:
        """An estimator for a series of runs on the same rows, each beginning at the last one's solution."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=self._max_iterations, warm_start=True)

    def run(
        self, estimator: Any, rows: npt.NDArray[np.float64], codes: npt.NDArray[np.int64], c: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Coefficients (K, dim) and intercepts (K,) for this C; for two classes, too, K is 2.

        Args:
            estimator: From ``start``.
            rows: (N, dim) standardised.
            codes: (N,) classes 0 to K - 1, all of them present.
            c: Inverse strength of the L2 penalty.
        """
        self._fit(estimator.set_params(C=c), rows, codes)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done / self._runs)
        coefficients, intercepts = estimator.coef_, estimator.intercept_
        if len(coefficients) == 1:
            # scikit-learn gives the log odds of class 1: half of them for it, half against the other.
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        return coefficients, intercepts

    def _fit(self, estimator: Any, rows: npt.NDArray[np.float64], codes: npt.NDArray[np.int64]) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        threads = 1 if rows.size * (int(codes.max()) + 1) < _ONE_THREAD else None
        with _ALONE, threadpool_limits(threads, "blas"), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.fit(rows, codes)
        others = [entry for entry in caught if not issubclass(entry.category, ConvergenceWarning)]
        self.failures += len(others) < len(caught)
        for entry in others:
            warnings.warn_explicit(entry.message, entry.category, entry.filename, entry.lineno)
