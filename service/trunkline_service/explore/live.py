"""The rows of one version of a collection, read once, in the form that they are compared in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.convert import as_label
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.rows import Label
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import Resolved
from trunkline_service.errors import NotEnoughData, StorageError
from trunkline_service.index.metric import in_single, normalise_into

Told: TypeAlias = Callable[[str, float], None]
"""Called often, with the stage and the share of it that is done. What it raises ends the work."""

# Of the largest value, as a power of two: squares, and sums of them over all rows, stay within float32.
_LARGEST_EXPONENT = 32
_BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Seen:
    """A row as people look at it.

    Attributes:
        id: The key.
        label: The class or classes that people gave it.
        split: ``train``, ``test`` and the like.
        source: Where its bytes came from; empty where that is not known.
        size: Bytes of the source; None where that is not known, or was not asked for.
    """

    id: str
    label: Label
    split: str | None
    source: str
    size: int | None = None


@dataclass(frozen=True, eq=False)
class Live:
    """Rows of status ``ok``.

    Attributes:
        name: The collection's.
        spec: The identity of its vectors.
        version: That was read.
        vectors: float32 (N, dim): of length 1 where cosines are compared, else divided by ``unit``.
        ids: Arrow large-string array of N.
        labels: The same with nulls; lists of strings where the collection is multi-label.
        splits: Large strings or nulls.
        sources: Large strings.
        read_sizes: Reads the sizes of the rows' sources.
        filtered: Whether these are the rows of a condition.
        unit: How long a distance of 1 between ``vectors`` is in the collection, a power of two; 1 where
            cosines are compared.
    """

    name: str
    spec: CollectionSpec
    version: int
    vectors: NDArray[np.float32]
    ids: Any
    labels: Any
    splits: Any
    sources: Any
    read_sizes: Callable[[], NDArray[np.int64]]
    filtered: bool = False
    unit: float = 1.0

    def __len__(self) -> int:
        return len(self.vectors)

    def too_few(self, takes: str) -> NotEnoughData:
        """That there are too few rows.

        Args:
            takes: What takes how many, e.g. ``"a map takes at least one"``.
        """
        count = "no rows" if not len(self) else f"{len(self)} row{'s' if len(self) > 1 else ''}"
        if self.filtered:
            return NotEnoughData(f"{count} of collection {self.name!r} meet the condition; {takes}")
        return NotEnoughData(f"collection {self.name!r} has {count} with a vector; {takes}")

    @property
    def compared(self) -> str:
        """``cosine``, or ``euclidean`` where that is the collection's metric.

        A product of two vectors is no measure of how alike they are, so those of a collection with the
        metric ``dot`` are compared by their cosines.
        """
        return "euclidean" if self.spec.metric == "euclidean" else "cosine"

    def measured(self, distances: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Distances between ``vectors``, or minus these, as those of the collection; cosines stay.

        What is more than float32 holds is the largest that it does.
        """
        return in_single(np.asarray(distances, np.float64) * self.unit)

    def seen(
        self, positions: Sequence[int] | NDArray[np.integer[Any]], sizes: NDArray[np.int64] | None = None
    ) -> list[Seen]:
        """Rows by position.

        Args:
            positions: 0..N-1.
            sizes: int64 (N,) of `read_sizes`, to fill in.
        """
        import pyarrow as pa

        chosen = pa.array(np.asarray(positions, np.int64))
        columns = [column.take(chosen).to_pylist() for column in (self.ids, self.splits, self.sources)]
        bytes_of: Iterable[int | None] = [None] * len(chosen)
        if sizes is not None:
            bytes_of = (None if size < 0 else int(size) for size in sizes[np.asarray(positions, np.int64)])
        labels = self.labels_of(positions)
        return [
            Seen(row_id, label, split, source or "", size)
            for row_id, split, source, label, size in zip(*columns, labels, bytes_of, strict=True)
        ]

    def labels_of(self, positions: Sequence[int] | NDArray[np.integer[Any]] | None = None) -> list[Label]:
        """Labels by position; of all rows where ``positions`` is None."""
        import pyarrow as pa

        labels = self.labels
        if positions is not None:
            labels = labels.take(pa.array(np.asarray(positions, np.int64)))
        return [as_label(label) for label in labels.to_pylist()]


def read_live(resolved: Resolved, where: str | None = None, parameters: Sequence[Scalar] = ()) -> Live:
    """The rows of a version, or those of a condition. The vectors are in memory once.

    Args:
        resolved: What a reference stands for.
        where: A condition.
        parameters: Of the condition.

    Raises:
        InvalidArgument: A condition that can't be used.
        StorageError: It can't be read, or was removed meanwhile.
    """
    collection = resolved.collection
    matrix = collection.matrix(where, resolved.version, parameters)
    unit = 1.0
    if matrix.spec.metric == "euclidean":
        unit = bring_in_range(matrix.embeddings)
    else:
        normalise_into(matrix.embeddings, matrix.embeddings)

    def read_sizes() -> NDArray[np.int64]:
        sizes: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        for batch in collection.scan(
            ["size", "status"], where, version=matrix.version, parameters=parameters
        ):
            kept = batch.column("status").to_numpy(zero_copy_only=False) == "ok"
            sizes.append(batch.column("size").fill_null(-1).to_numpy(zero_copy_only=False)[kept])
        found = np.concatenate(sizes)
        if len(found) != len(matrix):
            raise StorageError(f"collection {collection.name!r} can't be read: its columns differ in length")
        return found

    return Live(
        collection.name,
        matrix.spec,
        matrix.version,
        matrix.embeddings,
        matrix.ids,
        matrix.labels,
        matrix.splits,
        matrix.sources,
        read_sizes,
        where is not None,
        unit,
    )


def bring_in_range(vectors: NDArray[np.float32]) -> float:
    """Divides vectors by a power of two, in place, so that squares of them are neither infinite nor nothing.

    That is exact, but for values below a 2^157th part of the largest one, which lose digits.

    Args:
        vectors: Finite float32 (N, dim).

    Returns:
        What they were divided by.
    """
    blocks = [vectors[start : start + _BLOCK_ROWS] for start in range(0, len(vectors), _BLOCK_ROWS)]
    largest = max((float(np.abs(block).max(initial=0)) for block in blocks), default=0.0)
    if not largest:
        return 1.0
    unit = math.ldexp(1.0, math.frexp(largest)[1] - _LARGEST_EXPONENT)
    for block in blocks:
        # The power itself may be more than float32 holds.
        np.multiply(block, 1 / unit, out=block, dtype=np.float64, casting="same_kind")
    return unit


def distance_words(distance: float) -> str:
    """A distance for people: two decimals, or digits where these would show nothing."""
    return f"{distance:.2f}" if distance == 0 or 0.01 <= abs(distance) < 1e6 else f"{distance:.3g}"


def label_words(label: Label) -> str:
    """A label for people; ``(none)`` where there is none."""
    if isinstance(label, tuple):
        return ", ".join(label) or "(none)"
    return "(none)" if label is None else label
