"""What Predict and Search take: exactly one of images, vectors and (Search alone) ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from trunkline._wire import floats
from trunkline._wire.chunks import Chunk, Limits, slices
from trunkline.exceptions import InvalidRequest, SpaceMismatch
from trunkline.results import EmbedResult
from trunkline.values import ItemFailure

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Queries:
    """Queries that are in memory already.

    Attributes:
        payload: A matrix (N, dim), or ids.
        inputs: The name of each; empty for raw vectors.
        failures: Queries that have no vector: an `EmbedResult`'s.
        space_id: Where the vectors lie; empty for ids.
    """

    payload: Any
    inputs: list[str]
    failures: list[ItemFailure]
    space_id: str = ""

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def are_vectors(self) -> bool:
        """Whether they are vectors; ids otherwise."""
        return isinstance(self.payload, np.ndarray)

    def chunks(self, limits: Limits) -> Iterator[Chunk]:
        """The queries in chunks within the limits."""
        count = limits.count
        if self.are_vectors:
            row_bytes = max(self.payload.shape[1] * _FLOAT_BYTES, 1)
            count = min(count, max(limits.bytes // row_bytes, 1))
        return slices(self.payload, self.inputs, self.failures, count)


def _exactly_one(given: Mapping[str, object]) -> str:
    """The name of the argument that is not None.

    Raises:
        InvalidRequest: None of them is given, or more than one.
    """
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        got = f"{' and '.join(named)} were given" if named else "none of them was given"
        raise InvalidRequest(f"pass exactly one of {', '.join(given)}; {got}")
    return named[0]


def _by_vectors(vectors: ArrayLike | EmbedResult, space_id: str | None) -> Queries:
    """Vectors, or an earlier result whose space and failures come along.

    Raises:
        InvalidRequest: No matrix (N, dim), or no word of its space.
        SpaceMismatch: The result lies in another space than was said.
    """
    if isinstance(vectors, EmbedResult):
        if space_id and vectors.space_id and space_id != vectors.space_id:
            raise SpaceMismatch(f"vectors lie in space {vectors.space_id}, but space_id= says {space_id}")
        # Its numbering may begin anywhere; here the rows are the input.
        moved = [
            ItemFailure(f.index - vectors.start, f.source, f.reason, f.message, f.code)
            for f in vectors.errors
        ]
        space = vectors.space_id or space_id or ""
        return Queries(floats.as_matrix(vectors.vectors), list(vectors.inputs), moved, space)
    if not space_id:
        raise InvalidRequest("vectors need space_id=, the space they lie in; or pass the EmbedResult itself")
    matrix = floats.as_matrix(vectors)
    return Queries(matrix, [""] * len(matrix), [], space_id)


def _by_ids(ids: str | Iterable[str]) -> Queries:
    """Rows of the collection as queries.

    Raises:
        InvalidRequest: An id that is no text.
    """
    names = [ids] if isinstance(ids, str) else list(ids)
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise InvalidRequest(f"ids[{index}] is {name!r}; it must be text")
    return Queries(names, names, [])


def queries(
    images: object | None,
    vectors: ArrayLike | EmbedResult | None,
    space_id: str | None,
    ids: str | Iterable[str] | None = None,
    *,
    takes_ids: bool = False,
) -> Queries | None:
    """What the caller asks about, if it is in memory already; None for images.

    Raises:
        InvalidRequest: Not exactly one of them is given, or it is malformed.
        SpaceMismatch: An `EmbedResult` of another space than ``space_id``.
    """
    given = {"images": images, "vectors": vectors} | ({"ids": ids} if takes_ids else {})
    match _exactly_one(given):
        case "vectors":
            assert vectors is not None
            return _by_vectors(vectors, space_id)
        case "ids":
            assert ids is not None
            return _by_ids(ids)
        case _:
            return None
