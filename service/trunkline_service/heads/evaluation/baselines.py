"""What the simplest rules say of the same rows, held out by the same folds. Pure.

A head that does not beat the largest class learned nothing; one that does not beat the nearest centroid
(Wang et al. 2019, "SimpleShot") would be simpler without its fit.

``assigned`` is the (N,) fold in which each row is held out, -1 for never; such a row's answers are -1 or NaN.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

# Numbers held at a time.
_HELD = 1 << 22
_TINY = 1e-12


def majority(codes: Codes, assigned: Codes, classes: int) -> Codes:
    """(N,) the largest class of the rows that each fold learned from."""
    predicted = np.full(len(codes), -1, np.int64)
    for held_out in _folds(assigned):
        predicted[held_out] = np.bincount(codes[~held_out], minlength=classes).argmax()
    return predicted


def majority_labels(indicator: Flags, assigned: Codes) -> Flags:
    """(N, K) the labels that at least half of the rows have that each fold learned from."""
    predicted = np.zeros(indicator.shape, np.bool_)
    for held_out in _folds(assigned):
        predicted[held_out] = indicator[~held_out].mean(axis=0) >= 0.5
    return predicted


def mean_values(values: Floats, assigned: Codes) -> Floats:
    """(N, M) the means of the rows that each fold learned from; NaN in ``values`` counts for nothing."""
    predicted = np.full(values.shape, np.nan)
    for held_out in _folds(assigned):
        known = ~np.isnan(values[~held_out])
        sums = np.where(known, values[~held_out], 0.0).sum(axis=0)
        predicted[held_out] = sums / np.maximum(known.sum(axis=0), 1)
    return predicted


def nearest_centroid(embeddings: Vectors, codes: Codes, assigned: Codes, classes: int) -> Codes:
    """(N,) the class whose mean is nearest, after subtracting the mean of all and scaling to length 1.

    Args:
        embeddings: (N, dim) float32.
        codes: (N,) classes.
        assigned: (N,) folds.
        classes: K.
    """
    predicted = np.full(len(codes), -1, np.int64)
    for held_out in _folds(assigned):
        centre = embeddings[~held_out].mean(axis=0, dtype=np.float64).astype(np.float32)
        means = _class_means(embeddings, codes, np.flatnonzero(~held_out), centre, classes)
        # |z - m|^2 is least where z.m - |m|^2 / 2 is most; a class without rows is never nearest.
        offsets = np.where(np.isnan(means[:, 0]), -np.inf, -(means**2).sum(axis=1) / 2)
        filled = np.nan_to_num(means)
        for rows in _chunks(np.flatnonzero(held_out), max(classes, embeddings.shape[1])):
            closeness = _unit(embeddings[rows] - centre) @ filled.T + offsets
            predicted[rows] = closeness.argmax(axis=1)
    return predicted


def nearest_side(embeddings: Vectors, indicator: Flags, assigned: Codes) -> Flags:
    """(N, K) whether a row is nearer to the mean of those with a label than of those without."""
    predicted = np.zeros(indicator.shape, np.bool_)
    for held_out in _folds(assigned):
        learned = np.flatnonzero(~held_out)
        centre = embeddings[learned].mean(axis=0, dtype=np.float64).astype(np.float32)
        have = indicator[learned].sum(axis=0)
        sums, total = np.zeros((indicator.shape[1], embeddings.shape[1])), np.zeros(embeddings.shape[1])
        for rows in _chunks(learned, embeddings.shape[1]):
            unit = _unit(embeddings[rows] - centre)
            sums += indicator[rows].T.astype(np.float32) @ unit
            total += unit.sum(axis=0)
        having = sums / np.maximum(have, 1)[:, None]
        lacking = (total - sums) / np.maximum(len(learned) - have, 1)[:, None]
        direction = (having - lacking).astype(np.float32)
        offsets = ((lacking**2).sum(axis=1) - (having**2).sum(axis=1)) / 2
        # A label that no row has, or every row, is not told apart.
        offsets = np.where(have == 0, -np.inf, np.where(have == len(learned), np.inf, offsets))
        for rows in _chunks(np.flatnonzero(held_out), max(indicator.shape[1], embeddings.shape[1])):
            predicted[rows] = _unit(embeddings[rows] - centre) @ direction.T + offsets > 0
    return predicted


def distance_from_mean(embeddings: Vectors, normal: Flags, assigned: Codes) -> Floats:
    """(N,) the distance from the mean of the normal rows that each fold learned from."""
    distances = np.full(len(embeddings), np.nan)
    for held_out in _folds(assigned):
        learned = embeddings[normal & ~held_out]
        centre = learned.mean(axis=0, dtype=np.float64).astype(np.float32)
        for rows in _chunks(np.flatnonzero(held_out), embeddings.shape[1]):
            distances[rows] = np.linalg.norm(embeddings[rows] - centre, axis=1)
    return distances


def _folds(assigned: Codes) -> Iterator[Flags]:
    for fold in np.unique(assigned[assigned >= 0]):
        yield assigned == fold


def _class_means(embeddings: Vectors, codes: Codes, rows: Codes, centre: Vectors, classes: int) -> Vectors:
    """(K, dim) means of the unit rows of each class; NaN for a class without rows."""
    sums = np.zeros((classes, embeddings.shape[1]))
    order = rows[np.argsort(codes[rows], kind="stable")]
    for part in _chunks(order, embeddings.shape[1]):
        present, starts = np.unique(codes[part], return_index=True)
        sums[present] += np.add.reduceat(_unit(embeddings[part] - centre), starts, axis=0)
    counts = np.bincount(codes[rows], minlength=classes)[:, None]
    means = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means.astype(np.float32)


def _unit(rows: Vectors) -> Vectors:
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    scaled: Vectors = rows / np.maximum(lengths, np.float32(_TINY))
    return scaled


def _chunks(rows: Codes, width: int) -> Iterator[Codes]:
    step = max(1, _HELD // width)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
