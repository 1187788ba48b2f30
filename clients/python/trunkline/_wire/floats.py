"""Matrices of floats to and from their message: row-major, little-endian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trunkline.exceptions import Internal, InvalidRequest
from trunkline_protos.v1 import common_pb2

FLOAT_TYPES = {
    "float32": common_pb2.FLOAT_TYPE_FLOAT32,
    "float16": common_pb2.FLOAT_TYPE_FLOAT16,
}
_PACKED: dict[int, np.dtype[np.floating]] = {
    common_pb2.FLOAT_TYPE_UNSPECIFIED: np.dtype("<f4"),
    common_pb2.FLOAT_TYPE_FLOAT32: np.dtype("<f4"),
    common_pb2.FLOAT_TYPE_FLOAT16: np.dtype("<f2"),
}


def unpack(message: common_pb2.Embeddings, count: int) -> NDArray[np.floating]:
    """The matrix (count, dim) of a reply, float32 or float16, read-only.

    Raises:
        Internal: Another count than was asked for, or a length that contradicts the shape.
    """
    packed = _PACKED.get(message.type)
    if packed is None:
        raise Internal(f"the reply's floats are of type {message.type}, which this client does not know")
    wanted = message.count * message.dim * packed.itemsize
    if message.count != count or len(message.data) != wanted:
        shape = f"{message.count} x {message.dim} {packed.name}"
        raise Internal(f"the reply to {count} items is {shape} in {len(message.data)} bytes; that can't be")
    matrix = np.frombuffer(message.data, dtype=packed).reshape(message.count, message.dim)
    return matrix.astype(packed.newbyteorder("="), copy=False)


def pack(rows: Sequence[Any] | NDArray[Any], message: common_pb2.Embeddings) -> None:
    """Writes rows of equal length; float16 stays float16, all else becomes float32."""
    matrix = np.asarray(rows)
    half = matrix.dtype == np.float16
    message.count, message.dim = matrix.shape
    message.type = FLOAT_TYPES["float16" if half else "float32"]
    message.data = matrix.astype("<f2" if half else "<f4", copy=False).tobytes()


def as_matrix(vectors: ArrayLike) -> NDArray[np.floating]:
    """The caller's vectors as (N, dim); one vector (dim,) becomes (1, dim).

    Raises:
        InvalidRequest: No numbers, or another shape.
    """
    try:
        matrix = np.asarray(vectors)
    except ValueError as exc:
        raise InvalidRequest(f"vectors is not a matrix (N, dim): {exc}") from exc
    if matrix.ndim == 1 and matrix.size:
        matrix = matrix[np.newaxis]
    if matrix.shape == (0,):
        matrix = matrix.reshape(0, 0)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise InvalidRequest(
            f"vectors is {matrix.dtype} of shape {matrix.shape}; it must be numbers (N, dim)"
        )
    return matrix if matrix.dtype in (np.float16, np.float32) else matrix.astype(np.float32)


def place(matrix: NDArray[np.floating], rows: Sequence[int], count: int) -> NDArray[np.floating]:
    """``matrix`` spread over ``count`` rows, at ``rows``; NaN elsewhere. Always a copy."""
    placed = np.full((count, matrix.shape[1]), np.nan, dtype=matrix.dtype)
    placed[list(rows)] = matrix
    return placed


def stack(parts: Sequence[NDArray[np.floating]], dtype: str = "float32") -> NDArray[np.floating]:
    """Parts on top of each other; a part without columns, none of whose items was served, becomes NaN.

    Raises:
        Internal: Two parts have columns, but not equally many.
    """
    widths = {part.shape[1] for part in parts} - {0}
    if len(widths) > 1:
        raise Internal(f"replies to one call have rows of {sorted(widths)} numbers; their models differ")
    width = widths.pop() if widths else 0
    if not parts:
        return np.empty((0, width), dtype=dtype)
    if len(parts) == 1:
        return parts[0]
    filled = [
        part if part.shape[1] == width else np.full((len(part), width), np.nan, dtype=part.dtype)
        for part in parts
    ]
    return np.concatenate(filled)
