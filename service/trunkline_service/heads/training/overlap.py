"""Rows of a test split that are among the rows learned from in another form: they flatter its figures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.training.close_groups import Stacked, close_groups
from trunkline_service.heads.training.duplicates import MIN_DIM, NEAR_COSINE, equal_to_any, too_common
from trunkline_service.heads.training.training_set import TrainingSet


def overlap_notes(data: TrainingSet) -> tuple[str, ...]:
    """How many rows of the test split have a duplicate, a near duplicate or a row of their group learned from.

    Near duplicates count as they do for folds (see `duplicates`): not in few dimensions, nor where they are
    too common to mean anything.
    """
    test = data.test
    if test is None:
        return ()
    notes = []
    alike = int(np.count_nonzero(_alike(data.embeddings, test.embeddings)))
    if alike:
        notes.append(
            f"{alike} of {len(test)} rows of the test split have a duplicate or a near duplicate among the rows "
            "learned from: its figures may be flattering"
        )
    if data.groups is not None and test.groups is not None:
        learned = {group for group in data.groups if group is not None}
        shared = sum(group in learned for group in test.groups)
        if shared:
            notes.append(
                f"{shared} of {len(test)} rows of the test split are of a group that is also learned from: its "
                "figures may be flattering"
            )
    return tuple(notes)


def _alike(learned: NDArray[np.float32], tested: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) which tested rows are equal or nearly equal to one that is learned from."""
    equal = equal_to_any(tested, learned)
    if learned.shape[1] < MIN_DIM:
        return equal
    codes = close_groups(Stacked(learned, tested), NEAR_COSINE)
    if too_common(codes):
        return equal
    return equal | np.isin(codes[len(learned) :], codes[: len(learned)])
