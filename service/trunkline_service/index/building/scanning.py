"""A collection's rows on their way into the files of an index: streamed, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.fragments import FragmentRows
from trunkline_service.errors import Cancelled
from trunkline_service.index.building.held_out import Reservoir, held_out_rows
from trunkline_service.index.metric import prepared
from trunkline_service.index.storage.base import ROWS_FILE, VECTORS_FILE

_PART = "rows.part"


@dataclass(frozen=True)
class Scanned:
    """What a scan wrote.

    Attributes:
        rows: The first ones, for the structure.
        held_out: The last ones.
    """

    rows: int
    held_out: int


def scan(
    batches: Iterable[FragmentRows],
    most: int,
    metric: str,
    folder: Path,
    *,
    seed: int,
    progress: Callable[[float], None],
    cancelled: Callable[[], bool],
) -> Scanned:
    """Writes ``vectors.f32``, prepared vectors in the order of ``rows.arrow``; the rows held out stand last.

    Args:
        batches: Of the collection's rows.
        most: An upper bound of their number, at least 1.
        metric: How vectors are compared.
        folder: Where the files go.
        seed: Of which rows are held out.
        progress: Told the share that is done, 0..1.
        cancelled: Asked at every batch.

    Raises:
        Cancelled: ``cancelled`` said so.
        OSError: The files can't be written.
    """
    sample = _Sample(Reservoir(held_out_rows(most), seed))
    done = 0
    with (folder / VECTORS_FILE).open("wb") as vectors, _Rows(folder / _PART) as rows:
        out = _Out(vectors, rows)
        for batch in batches:
            if cancelled():
                raise Cancelled("building the index was cancelled")
            sample.sift(prepared(batch.embeddings, metric), _record(batch), out)
            done += len(batch.embeddings)
            progress(min(1.0, done / most))
        held_out = held_out_rows(done)
        sample.empty(held_out, out)
    if done:
        _in_one_piece(folder / _PART, folder / ROWS_FILE)
    (folder / _PART).unlink(missing_ok=True)
    return Scanned(done - held_out, held_out)


class _Rows:
    """An Arrow file whose schema is that of the first batch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, record: Any) -> None:
        import pyarrow as pa

        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self._path), record.schema)
        self._writer.write_batch(record)


@dataclass(frozen=True)
class _Out:
    """The two files, which get the same rows in the same order."""

    vectors: IO[bytes]
    rows: _Rows

    def write(self, vectors: NDArray[np.float32], record: Any) -> None:
        if len(vectors):
            # Not `tofile`, which says of a full disk only how many floats it wrote.
            self.vectors.write(np.ascontiguousarray(vectors, "<f4").data)
            self.rows.write(record)


@dataclass
class _Sample:
    """The rows that are held out so far, by slot."""

    reservoir: Reservoir
    _held: dict[int, tuple[NDArray[np.float32], Any]] = field(default_factory=dict)

    def sift(self, vectors: NDArray[np.float32], record: Any, out: _Out) -> None:
        """Writes the rows that are not held out, and those that lose their slot to one of these."""
        slots = self.reservoir.admit(len(vectors))
        passed = np.flatnonzero(slots < 0)
        out.write(vectors[passed], record.take(passed))
        for position in np.flatnonzero(slots >= 0).tolist():
            slot = int(slots[position])
            if (lost := self._held.get(slot)) is not None:
                out.write(*lost)
            # Copies, so that they do not keep the whole batch.
            self._held[slot] = vectors[position : position + 1].copy(), record.take([position])

    def empty(self, wanted: int, out: _Out) -> None:
        """Writes all that are left, ``wanted`` of them last."""
        last = self.reservoir.chosen(wanted).tolist()
        first = sorted(self._held.keys() - set(last))
        for slot in (*first, *last):
            out.write(*self._held[slot])


def _record(batch: FragmentRows) -> Any:
    import pyarrow as pa

    columns = {
        "row_id": pa.array(batch.stamps.row_ids, pa.uint64()),
        "written": pa.array(batch.stamps.written, pa.uint64()),
        "fragment": pa.array(batch.stamps.fragment, pa.int32()),
        "id": batch.ids,
        "label": batch.labels,
        "source": batch.sources,
    }
    return pa.record_batch(columns)


def _in_one_piece(part: Path, target: Path) -> None:
    """Rewrites an Arrow file as one record batch: searches take texts from it, and must not copy all to do so."""
    import pyarrow as pa

    with pa.memory_map(str(part), "r") as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
        with pa.ipc.new_file(str(target), table.schema) as writer:
            writer.write_table(table)
