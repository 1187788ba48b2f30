"""Stratified folds: which rows are held out together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trunkline_service.errors import InvalidArgument


def usable_folds(codes: npt.NDArray[np.int64], wanted: int) -> tuple[int, str | None]:
    """How many folds these classes allow, and a note if fewer than ``wanted``.

    Args:
        codes: (N,) class of each row; every class has at least two rows.
        wanted: Folds asked for, at least 2.

    Raises:
        InvalidArgument: ``wanted`` is no integer from 2 on.
    """
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 2:
        raise InvalidArgument(f"folds is {wanted!r}; it must be an integer from 2 on")
    smallest = int(np.unique(codes, return_counts=True)[1].min())
    if smallest >= wanted:
        return wanted, None
    folds = max(2, smallest)
    note = f"evaluated with {folds} folds instead of {wanted}: the smallest class has {smallest} rows"
    return folds, note


def stratified_folds(codes: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(N,) the fold of each row, 0 to ``folds`` - 1.

    Each class is shuffled and dealt out in turn, and the next class goes on where the last one
    stopped: within a class, and over all rows, the folds' sizes differ by at most one.
    """
    generator = np.random.default_rng(seed)
    order = np.concatenate([generator.permutation(np.flatnonzero(codes == k)) for k in np.unique(codes)])
    assigned = np.empty(len(codes), dtype=np.int64)
    assigned[order] = np.arange(len(codes)) % folds
    return assigned
