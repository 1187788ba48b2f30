"""One version's vectors, searched where they are stored: nothing of them is kept in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections import vector_index
from trunkline_service.collections.convert import valid_vectors
from trunkline_service.collections.filters import bind
from trunkline_service.collections.handle import Handle, Snapshot
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.vector_index import LANCE_METRICS, VectorIndex
from trunkline_service.errors import InvalidArgument

# Of 384 floats: 50 MB of vectors.
_ROWS_AT_ONCE = 32_768
_SCAN_ROWS = 8192
_IDS_PER_FILTER = 4096
_OK = "status = 'ok'"
# What Lance calls the column that tells the answers of several queries apart.
_QUERY = "query_index"


class Neighbours(NamedTuple):
    """Candidates for one query, in no order.

    Attributes:
        row_ids: uint64 (n,), stable.
        embeddings: float32 (n, dim), as they are stored.
        rows: An Arrow table of the columns that were asked for, n rows.
    """

    row_ids: NDArray[np.uint64]
    embeddings: NDArray[np.float32]
    rows: Any


class Vectors(NamedTuple):
    """Vectors with their rows' ids: uint64 (n,) and float32 (n, dim)."""

    row_ids: NDArray[np.uint64]
    embeddings: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class StoredVectors:
    """The rows of status ``ok`` of one version; read when they are asked for.

    Reading raises ``StorageError`` where the version was removed meanwhile: open the collection anew. A
    condition that can't be used raises ``InvalidArgument``.

    Attributes:
        handle: The collection.
        snapshot: The version.
    """

    handle: Handle
    snapshot: Snapshot

    @property
    def uid(self) -> str:
        """The collection's, which a later one of the same name does not share."""
        return self.snapshot.record.uid

    @property
    def version(self) -> int:
        """The version that is read."""
        return self.snapshot.version

    @property
    def spec(self) -> CollectionSpec:
        """The identity of the vectors."""
        return self.snapshot.spec

    @cached_property
    def index(self) -> VectorIndex | None:
        """Lance's index of this version, if it has one."""
        return vector_index.describe(self.handle, self.snapshot)

    @cached_property
    def partitions(self) -> int:
        """Partitions of that index; 0 without one."""
        return 0 if self.index is None else vector_index.partitions_of(self.handle, self.snapshot)

    def kinds(self) -> dict[str, Any]:
        """The Arrow type of every column."""
        return {field.name: field.type for field in self.snapshot.dataset.schema}

    def count(self, where: str | None = None, parameters: Sequence[Scalar] = ()) -> int:
        """Rows that a condition lets through."""
        condition = _and_ok(bind(where, parameters))
        with self.handle.filter_errors(self.snapshot, where):
            return int(self.snapshot.dataset.count_rows(condition))

    def nearest(
        self,
        queries: NDArray[np.float32],
        k: int,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        *,
        nprobes: int,
        refine_factor: int,
        columns: Sequence[str] = ("id",),
    ) -> list[Neighbours]:
        """About the k nearest rows of each query, by Lance's index where there is one.

        Rows that the index does not hold are compared one by one. Under ``cosine``, Lance finds neither
        rows of zeros nor anything for a query of zeros.

        Args:
            queries: float32 (Q, dim), prepared.
            k: At least 1.
            where: A condition that is applied first; so there are fewer than k rows only where the
                partitions of the index that were looked at, and the rows beside it, hold no more.
            parameters: Of the condition.
            nprobes: Partitions to look at, at least; more where they hold fewer than k rows.
            refine_factor: So many times k candidates are compared by their vectors.
            columns: Of `Neighbours.rows`.
        """
        condition = bind(where, parameters)
        batched = _QUERY not in self.snapshot.dataset.schema.names
        step = max(1, _ROWS_AT_ONCE // k) if batched else 1
        found: list[Neighbours] = []
        with self.handle.filter_errors(self.snapshot, where):
            for start in range(0, len(queries), step):
                part = queries[start : start + step]
                table = self.snapshot.dataset.to_table(
                    columns=[*dict.fromkeys((*columns, "embedding"))],
                    filter=condition,
                    prefilter=True,
                    with_row_id=True,
                    disable_scoring_autoprojection=True,
                    nearest={
                        "column": "embedding",
                        # A batch of one has another form than one query.
                        "q": part if batched and len(part) > 1 else part[0],
                        "k": k,
                        "metric": LANCE_METRICS[self.spec.metric],
                        "minimum_nprobes": nprobes,
                        # Otherwise Lance begins with as many partitions as it thinks right.
                        "search_effort": 0.0,
                        "refine_factor": refine_factor,
                    },
                )
                found += _apart(table, len(part), columns)
        return found

    def scan(self, where: str | None = None, parameters: Sequence[Scalar] = ()) -> Iterator[Vectors]:
        """All vectors whose rows a condition lets through, in bounded memory."""
        condition = _and_ok(bind(where, parameters))
        with self.handle.filter_errors(self.snapshot, where):
            scanner = self.snapshot.dataset.scanner(
                columns=["embedding"], filter=condition, batch_size=_SCAN_ROWS, with_row_id=True
            )
            for batch in scanner.to_batches():
                yield Vectors(batch.column("_rowid").to_numpy(), valid_vectors(batch.column("embedding")))

    def rows(self, row_ids: NDArray[np.uint64], columns: Sequence[str]) -> Neighbours:
        """Rows of these ids, which are there, in this order."""
        import pyarrow as pa

        wanted, places = np.unique(row_ids, return_inverse=True)
        parts = []
        with self.handle.errors("read"):
            for start in range(0, len(wanted), _IDS_PER_FILTER):
                listed = ", ".join(map(str, wanted[start : start + _IDS_PER_FILTER].tolist()))
                parts.append(
                    self.snapshot.dataset.to_table(
                        columns=[*dict.fromkeys((*columns, "embedding"))],
                        filter=f"_rowid IN ({listed or 0})",
                        with_row_id=True,
                    )
                )
        if not parts:
            names = [*dict.fromkeys((*columns, "embedding"))]
            empty = pa.schema([*map(self.snapshot.dataset.schema.field, names), ("_rowid", pa.uint64())])
            return _neighbours(empty.empty_table(), columns)
        table = pa.concat_tables(parts)
        order = np.argsort(table.column("_rowid").to_numpy())
        return _neighbours(table.take(order[places.reshape(-1)]), columns)

    def sample(self, count: int, seed: int) -> Vectors:
        """Vectors of rows that are drawn at random, at most ``count``."""
        with self.handle.errors("read"):
            dataset = self.snapshot.dataset
            rows = int(dataset.count_rows())
            drawn = np.random.default_rng(seed).permutation(rows)[:count]
            found = dataset.take(np.sort(drawn).tolist(), columns=["embedding", "_rowid"])
        column = found.column("embedding").combine_chunks()
        return Vectors(
            found.column("_rowid").filter(found.column("embedding").is_valid()).to_numpy(), _vectors(column)
        )

    def check_column(self, name: str) -> None:
        """Does nothing for a column that rows can be grouped by.

        Raises:
            InvalidArgument: There is no such column, or it holds lists.
        """
        import pyarrow as pa

        kinds = self.kinds()
        kinds.pop("embedding")
        if name not in kinds:
            raise InvalidArgument(
                f"collection {self.handle.name!r} has no column {name!r} to group by; the columns are "
                f"{', '.join(kinds)}"
            )
        if pa.types.is_list(kinds[name]):
            raise InvalidArgument(
                f"column {name!r} of collection {self.handle.name!r} holds lists, and Lance's index groups by "
                "single values; choose another kind of index"
            )


def _and_ok(condition: str | None) -> str:
    return _OK if condition is None else f"{condition} AND {_OK}"


def _apart(table: Any, queries: int, columns: Sequence[str]) -> list[Neighbours]:
    """The answers of each query."""
    if _QUERY not in table.column_names or queries == 1:
        return [_neighbours(table, columns)]
    asked = table.column(_QUERY).to_numpy()
    return [_neighbours(table.take(np.flatnonzero(asked == at)), columns) for at in range(queries)]


def _neighbours(table: Any, columns: Sequence[str]) -> Neighbours:
    embeddings = table.column("embedding").combine_chunks()
    if embeddings.null_count:
        table = table.filter(embeddings.is_valid())
    return Neighbours(
        table.column("_rowid").to_numpy(), _vectors(embeddings), table.select(list(dict.fromkeys(columns)))
    )


def _vectors(column: Any) -> NDArray[np.float32]:
    chunks = getattr(column, "chunks", [column])
    parts = [valid_vectors(chunk) for chunk in chunks]
    return np.concatenate(parts) if parts else np.empty((0, column.type.list_size), np.float32)
