"""What a head computes, as data: arrays that the ONNX file, the server and the tests all take from here.

Everything that can be folded is folded before: standardising, whitening and the temperature are inside the
weights. What remains is an optional normaliser, one body, and one activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Activation: TypeAlias = Literal["softmax", "sigmoid", "none"]
Vectors: TypeAlias = NDArray[np.float32]

# Of norms, so that a vector of zeros stays one instead of becoming NaN.
TINY = 1e-12
# Of largest entries likewise: the least normal float32.
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Subtracts a centre and scales to length 1.

    Attributes:
        centre: (dim,) float32.
    """

    centre: Vectors

    def __call__(self, rows: Vectors) -> Vectors:
        """(N, dim) rows of length 1."""
        moved = rows - self.centre
        # By the largest entry first: squares of entries from 1e19 on, or up to 1e-19, are beyond float32.
        moved = moved / np.maximum(np.abs(moved).max(axis=1, keepdims=True), np.float32(SMALLEST))
        lengths = np.sqrt((moved * moved).sum(axis=1, keepdims=True))
        unit: Vectors = moved / np.maximum(lengths, np.float32(TINY))
        return unit


@dataclass(frozen=True, eq=False)
class Linear:
    """``x @ W.T + b``.

    Attributes:
        W: (K, dim) float32.
        b: (K,) float32.
    """

    W: Vectors
    b: Vectors

    def __call__(self, rows: Vectors) -> Vectors:
        """(N, K)."""
        return rows @ self.W.T + self.b


@dataclass(frozen=True, eq=False)
class Mlp:
    """One hidden layer of ReLU.

    Attributes:
        hidden: From dim to H.
        output: From H to K.
    """

    hidden: Linear
    output: Linear

    def __call__(self, rows: Vectors) -> Vectors:
        """(N, K)."""
        return self.output(np.maximum(self.hidden(rows), np.float32(0.0)))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Votes of the k nearest training rows by inner product, each weighted ``exp(similarity / temperature)``.

    Gives ``sharpness`` times the logarithm of each class's share of the weight, smoothed by ``smoothing`` so
    that no class is impossible; at sharpness 1 the softmax of that is the share.

    Attributes:
        rows: (M, dim) float32, of length 1 where the network normalises.
        codes: (M,) int64, class of each.
        classes: K.
        k: At most M.
        temperature: Of the weights.
        smoothing: Added to each class's share before the logarithm.
        sharpness: One over the temperature that calibration found.
    """

    rows: Vectors
    codes: NDArray[np.int64]
    classes: int
    k: int
    temperature: float
    smoothing: float = 1e-3
    sharpness: float = 1.0

    def __call__(self, rows: Vectors) -> Vectors:
        """(N, K)."""
        similarity = rows @ self.rows.T
        nearest = np.argpartition(-similarity, self.k - 1, axis=1)[:, : self.k]
        near = np.take_along_axis(similarity, nearest, axis=1) / np.float32(self.temperature)
        weights = np.exp(near - near.max(axis=1, keepdims=True))
        shares = np.zeros((len(rows), self.classes), np.float32)
        np.add.at(shares, (np.arange(len(rows))[:, None], self.codes[nearest]), weights)
        shares /= shares.sum(axis=1, keepdims=True)
        logged: Vectors = np.float32(self.sharpness) * np.log(shares + np.float32(self.smoothing))
        return logged


@dataclass(frozen=True, eq=False)
class Distance:
    """How far a vector is from the training rows, in standard deviations of them; about 1 for a typical one.

    The Mahalanobis distance of a probabilistic PCA (Tipping & Bishop 1999), over the square root of dim: full
    variances along r directions, one variance for all the others.

    Attributes:
        mean: (dim,) float32.
        directions: (r, dim) float32, orthonormal rows.
        variances: (r,) float32, along each of them.
        rest: Variance along each of the other dim - r directions.
    """

    mean: Vectors
    directions: Vectors
    variances: Vectors
    rest: float

    def __call__(self, rows: Vectors) -> Vectors:
        """(N, 1)."""
        moved = rows - self.mean
        # Squares beyond float32 are infinitely far, and need no warning.
        with np.errstate(over="ignore", invalid="ignore"):
            inside = (moved @ self.directions.T) ** 2
            outside = np.maximum((moved * moved).sum(axis=1) - inside.sum(axis=1), np.float32(0.0))
            squared = (inside / self.variances).sum(axis=1) + outside / np.float32(self.rest)
        distance: Vectors = np.sqrt(squared / np.float32(rows.shape[1]))[:, None]
        return distance


Body: TypeAlias = Linear | Mlp | Neighbours | Distance


@dataclass(frozen=True, eq=False)
class Network:
    """A head's whole computation on raw embeddings.

    Attributes:
        body: From (normalised) embeddings to K outputs.
        activation: ``softmax`` for single-label heads, ``sigmoid`` for multi-label ones, else ``none``.
        normaliser: Before the body, or None.
        distance: A second output of its own, on the raw embeddings; None where there is none.
    """

    body: Body
    activation: Activation
    normaliser: Normaliser | None = None
    distance: Distance | None = None

    def __call__(self, rows: Vectors) -> Vectors:
        """(N, K) outputs of (N, dim) float32 embeddings, as ``head.onnx`` gives them up to rounding."""
        outputs = self.body(rows if self.normaliser is None else self.normaliser(rows))
        if self.activation == "none":
            return outputs
        if self.activation == "sigmoid":
            # exp of what is not positive: no overflow.
            small = np.exp(-np.abs(outputs))
            sigmoid: Vectors = np.where(outputs >= 0, 1 / (1 + small), small / (1 + small))
            return sigmoid
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        softmax: Vectors = powers / powers.sum(axis=1, keepdims=True)
        return softmax

    @property
    def dim(self) -> int:
        """Length of the embeddings."""
        body = self.body
        match body:
            case Linear():
                return int(body.W.shape[1])
            case Mlp():
                return int(body.hidden.W.shape[1])
            case Neighbours():
                return int(body.rows.shape[1])
            case Distance():
                return len(body.mean)

    @property
    def outputs(self) -> int:
        """K."""
        body = self.body
        match body:
            case Linear():
                return len(body.b)
            case Mlp():
                return len(body.output.b)
            case Neighbours():
                return body.classes
            case Distance():
                return 1
