"""Paired tests: whether two classifiers differ, judged on the same rows. Pure."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

# The exact test of thousands of pairs can fall below every float; a probability above 0 stays above 0.
_LEAST = sys.float_info.min


def mcnemar(only_first: int, only_second: int) -> float:
    """The p-value of McNemar's exact test, two-sided, in (0, 1].

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
    percentages". Rows on which both are right or both are wrong say nothing about which is better; of the
    others, each is as likely to go either way if there is no difference: a binomial with p = 1/2.

    Args:
        only_first: Rows that the first alone got right.
        only_second: Rows that the second alone got right.

    Raises:
        ValueError: A negative count.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"counts of rows are not negative; got {only_first} and {only_second}")
    n, fewer = only_first + only_second, min(only_first, only_second)
    # The tail 0..fewer as a multiple of its last and largest term, so that nothing underflows on the way.
    term = total = 1.0
    for k in range(fewer, 0, -1):
        term *= k / (n - k + 1)
        total += term
        if term < sys.float_info.epsilon * total:
            break
    last = math.lgamma(n + 1) - math.lgamma(fewer + 1) - math.lgamma(n - fewer + 1) - n * math.log(2)
    return min(1.0, max(_LEAST, 2 * math.exp(last + math.log(total))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for being one of several, in their order.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure". Calling those below alpha
    significant calls, with probability 1 - alpha, none of them so wrongly.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected
