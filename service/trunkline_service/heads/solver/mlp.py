"""A network of one hidden layer, trained step by step.

AdamW (Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization") on minibatches, ReLU, dropout
(Srivastava et al. 2014) on the hidden layer. In float32; the same seed gives the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Codes = NDArray[np.int64]
Loss: TypeAlias = Literal["softmax", "sigmoid", "squared"]

HIDDEN = 256
_DROPOUT = 0.5
_RATE = 1e-3
_MOMENTS = (0.9, 0.999)
_EPSILON = 1e-8
# Rows of a minibatch: a twentieth of all, within these limits.
_BATCH = (16, 256)
# Rows that go through at a time where nothing is learned.
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Problem:
    """What a network is to learn.

    Attributes:
        rows: (N, dim) float32, of which some are learned from.
        targets: (N, K) float32; for ``softmax`` (N,) int64 classes.
        outputs: K.
        loss: ``softmax`` and ``sigmoid``: cross entropy; ``squared``: half the squared error.
        weights: (N,) float32, of mean 1.
        train: Positions of the rows to learn from.
        mean: (dim,) float32, subtracted from the rows.
        matrix: (dim,) float32, or (dim, D): what they are multiplied by then.
        start: (K,) float32, outputs to start from.
    """

    rows: Rows
    targets: Rows | Codes
    outputs: int
    loss: Loss
    weights: Rows
    train: Codes
    mean: Rows
    matrix: Rows
    start: Rows

    def features(self, positions: Codes) -> Rows:
        """(n, D) transformed rows."""
        moved: Rows = self.rows[positions] - self.mean
        if self.matrix.ndim == 1:
            moved *= self.matrix
            return moved
        mapped: Rows = moved @ self.matrix
        return mapped


class Trainer:
    """One network in training: ``begin`` an epoch, then ``advance`` until its share done is 1."""

    def __init__(self, problem: Problem, decay: float, seed: int | np.random.SeedSequence) -> None:
        """Draws the weights.

        Args:
            problem: What is learned.
            decay: Of the weights; AdamW's, to be multiplied by the learning rate.
            seed: Of weights, batches and dropout.
        """
        self._problem, self._random = problem, np.random.default_rng(seed)
        width, outputs = problem.matrix.shape[-1], problem.outputs
        self._shapes = ((width, HIDDEN), (HIDDEN,), (HIDDEN, outputs), (outputs,))
        size = sum(int(np.prod(shape)) for shape in self._shapes)
        # One array for all weights, so that a step is a few passes over it.
        self._flat, self._gradient, self._first, self._second, self._scratch, self._total = (
            np.zeros(size, np.float32) for _ in range(6)
        )
        hidden, _, output, bias = self._views(self._flat)
        hidden[:] = self._random.standard_normal(hidden.shape, np.float32) * np.float32((2 / width) ** 0.5)
        output[:] = self._random.standard_normal(output.shape, np.float32) * np.float32(HIDDEN**-0.5)
        bias[:] = problem.start
        self._keep = np.float32(1 - _RATE * decay)
        self._steps, self._done, self._sum = 0, 0, 0.0
        self._batches: list[Codes] = []

    @property
    def steps(self) -> int:
        """Of an epoch."""
        rows = len(self._problem.train)
        return -(-rows // int(np.clip(rows // 20, *_BATCH)))

    @property
    def loss(self) -> float:
        """Mean loss over the batches of this epoch so far, with dropout."""
        return self._sum / max(self._done, 1)

    @property
    def gradient_norm(self) -> float:
        """Largest absolute entry of their mean gradient."""
        return float(np.abs(self._total).max()) / max(self._done, 1)

    def begin(self) -> None:
        """Starts an epoch: every row to learn from is in one batch."""
        self._batches = np.array_split(self._random.permutation(self._problem.train), self.steps)
        self._done, self._sum = 0, 0.0
        self._total[:] = 0.0

    def advance(self, steps: int) -> float:
        """Takes up to so many steps of this epoch; the share of it that is done."""
        for positions in self._batches[self._done : self._done + steps]:
            self._sum += self._step(positions)
            self._total += self._gradient
            self._done += 1
        return self._done / len(self._batches)

    def outputs(self, positions: Codes) -> Rows:
        """(n, K) for rows at ``positions``, without dropout."""
        hidden, shift, output, bias = self._views(self._flat)
        found = np.empty((len(positions), len(bias)), np.float32)
        for start in range(0, len(positions), _BLOCK):
            here = slice(start, start + _BLOCK)
            inner = self._problem.features(positions[here]) @ hidden + shift
            found[here] = np.maximum(inner, np.float32(0.0)) @ output + bias
        return found

    def weights(self) -> tuple[Rows, Rows, Rows, Rows]:
        """A copy: hidden (D, H) and (H,), output (H, K) and (K,)."""
        return self._views(self._flat.copy())

    def _views(self, flat: Rows) -> tuple[Rows, Rows, Rows, Rows]:
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        parts = np.split(flat, ends[:-1])
        hidden, shift, output, bias = (
            part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)
        )
        return hidden, shift, output, bias

    def _step(self, positions: Codes) -> float:
        """One step; the mean loss of the batch."""
        problem, alive = self._problem, np.float32(1 / (1 - _DROPOUT))
        features = problem.features(positions)
        hidden, shift, output, bias = self._views(self._flat)
        inner: Rows = features @ hidden
        inner += shift
        np.maximum(inner, np.float32(0.0), out=inner)
        inner *= (self._random.random(inner.shape, np.float32) >= _DROPOUT) * alive
        found: Rows = inner @ output + bias
        losses, errors = row_losses(problem.loss, found, problem.targets[positions])
        weights = problem.weights[positions] / np.float32(len(positions))
        errors *= weights[:, None]

        to_hidden, to_shift, to_output, to_bias = self._views(self._gradient)
        np.matmul(inner.T, errors, out=to_output)
        np.sum(errors, axis=0, out=to_bias)
        back = errors @ output.T
        # Where a unit was silent or dropped, inner is 0.
        back *= (inner > 0) * alive
        np.matmul(features.T, back, out=to_hidden)
        np.sum(back, axis=0, out=to_shift)
        self._move()
        return float(np.sum(losses * weights, dtype=np.float64))

    def _move(self) -> None:
        """AdamW's step along the gradient."""
        self._steps += 1
        one, two = _MOMENTS
        gradient, scratch = self._gradient, self._scratch
        np.multiply(gradient, np.float32(1 - one), out=scratch)
        self._first *= np.float32(one)
        self._first += scratch
        np.multiply(gradient, gradient, out=scratch)
        scratch *= np.float32(1 - two)
        self._second *= np.float32(two)
        self._second += scratch
        np.multiply(self._second, np.float32(1 / (1 - two**self._steps)), out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += np.float32(_EPSILON)
        np.divide(self._first, scratch, out=scratch)
        scratch *= np.float32(_RATE / (1 - one**self._steps))
        self._flat *= self._keep
        self._flat -= scratch


def row_losses(loss: Loss, outputs: Rows, truth: Rows | Codes) -> tuple[Rows, Rows]:
    """The loss of each row (n,), and its gradient by the outputs (n, K).

    Args:
        loss: See ``Problem``.
        outputs: (n, K) float32.
        truth: (n, K) float32; for ``softmax`` (n,) int64 classes.
    """
    losses: NDArray[Any]
    errors: NDArray[Any]
    if loss == "softmax":
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        errors = np.exp(shifted)
        sums = errors.sum(axis=1, keepdims=True)
        every = np.arange(len(outputs))
        losses = np.log(sums[:, 0]) - shifted[every, truth]
        errors /= sums
        errors[every, truth] -= np.float32(1.0)
    elif loss == "sigmoid":
        small = np.exp(-np.abs(outputs))
        losses = (np.maximum(outputs, 0) - outputs * truth + np.log1p(small)).sum(axis=1)
        errors = np.where(outputs >= 0, np.float32(1.0), small) / (1 + small) - truth
    else:
        errors = outputs - truth
        losses = (errors**2).sum(axis=1) / 2
    return losses, errors
