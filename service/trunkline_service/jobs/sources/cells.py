"""Images in the cells of Parquet and Arrow files, read one by one."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from typing import Any

from trunkline_service.errors import UnreadableFile
from trunkline_service.jobs.sources.files import too_large
from trunkline_service.jobs.sources.locations import Stamp, image_errors, opened, stamp_of
from trunkline_service.jobs.sources.pattern import is_url
from trunkline_service.jobs.sources.roles import images_column
from trunkline_service.jobs.sources.shelf import Shelf

# One is being read to its end while the next one begins.
_GROUPS_KEPT = 2
# Several chunks are read at once, and small row groups end soon: more of them are kept within this.
_GROUPS_ROOM = 64 * 1024 * 1024
_FOOTERS_KEPT = 16
_SHARDS_KEPT = 4
_FILE_MAGIC = b"ARROW1"


@dataclass(frozen=True, slots=True)
class CellReader:
    """Reads the image in one cell; the rows around it are kept for the next ones.

    Attributes:
        location: A Parquet or Arrow file.
        stamp: Its state when it was listed.
        column: Holds bytes, structs of ``bytes`` and ``path``, or paths.
        row: Of the file, from 0.
    """

    location: str
    stamp: Stamp
    column: str
    row: int

    def __call__(self, limit: int) -> bytes:
        """See ``item.Reader``."""
        with image_errors():
            # Asking a store each time would double its requests.
            if not is_url(self.location) and stamp_of(self.location) != self.stamp:
                raise UnreadableFile("its table changed after it was listed; run the job again")
            return _read(self.location, self.stamp, self.column, self.row, limit)


@dataclass(frozen=True, slots=True)
class _Shard:
    """An Arrow file, mapped into memory."""

    batches: tuple[Any, ...]
    # Row numbers at which each batch ends.
    ends: tuple[int, ...]
    schema: Any


@dataclass(frozen=True, slots=True)
class Footer:
    """What a Parquet file says of itself.

    Attributes:
        metadata: A ``pyarrow.parquet.FileMetaData``.
        schema: A ``pyarrow.Schema``.
        ends: Row numbers at which each row group ends.
    """

    metadata: Any
    schema: Any
    ends: tuple[int, ...]


def read_cell(location: str, cell: str, limit: int) -> bytes:
    """The image of a cell by what a row recorded of it.

    Args:
        location: The file.
        cell: A row number, with ``column/`` before it where the column can't be guessed.
        limit: Most bytes.

    Raises:
        UnreadableFile: There is no such file or row, or it can't be read.
        ImageTooLarge: More than ``limit`` bytes.
    """
    column, _, number = cell.rpartition("/")
    if not number.isdecimal():
        raise UnreadableFile(f"its recorded source names no row: {cell!r} is no number; embed it again")
    stamp = stamp_of(location)
    if not column:
        column = images_column(_schema(location, stamp)) or ""
    return _read(location, stamp, column, int(number), limit)


def footer(location: str, stamp: Stamp) -> Footer:
    """What a Parquet file in this state says of itself.

    Raises:
        UnreadableFile: It can't be opened.
        pyarrow.ArrowException: It is no Parquet file.
    """

    def read() -> Footer:
        import pyarrow.parquet as pq

        with opened(location) as file:
            metadata = pq.read_metadata(file)
        rows = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
        return Footer(metadata, metadata.schema.to_arrow_schema(), tuple(itertools.accumulate(rows)))

    return _footers.get((location, stamp), read)


def shard(path: str, stamp: Stamp) -> _Shard:
    """A local Arrow file: a stream, as Hugging Face writes it, or a file with a footer."""
    return _shards.get((path, stamp), lambda: _open_shard(path))


def _read(location: str, stamp: Stamp, column: str, row: int, limit: int) -> bytes:
    if location.lower().endswith(".arrow"):
        value = _arrow_cell(location, stamp, column, row)
    else:
        value = _parquet_cell(location, stamp, column, row)
    return _bytes_of(value, location, limit)


def _schema(location: str, stamp: Stamp) -> Any:
    if location.lower().endswith(".arrow"):
        return shard(location, stamp).schema
    return footer(location, stamp).schema


def _arrow_cell(location: str, stamp: Stamp, column: str, row: int) -> Any:
    if is_url(location):
        raise UnreadableFile("an Arrow file is read where it is mapped into memory; fetch it first")
    file = shard(location, stamp)
    number = bisect.bisect_right(file.ends, row)
    if number == len(file.ends) or column not in file.schema.names:
        raise _no_cell(column, row)
    batch = file.batches[number]
    return batch.column(column)[row - (file.ends[number] - batch.num_rows)]


def _parquet_cell(location: str, stamp: Stamp, column: str, row: int) -> Any:
    file_footer = footer(location, stamp)
    group = bisect.bisect_right(file_footer.ends, row)
    if group == len(file_footer.ends) or column not in file_footer.schema.names:
        raise _no_cell(column, row)

    def read() -> Any:
        import pyarrow.parquet as pq

        with opened(location) as file:
            table = pq.ParquetFile(file, metadata=file_footer.metadata)
            return table.read_row_group(group, columns=[column]).column(0)

    values = _groups.get((location, stamp, column, group), read)
    return values[row - (file_footer.ends[group] - len(values))]


def _bytes_of(value: Any, location: str, limit: int) -> bytes:
    import pyarrow.types as pt

    path = None
    if pt.is_struct(value.type) and value.is_valid:
        names = [value.type.field(number).name for number in range(value.type.num_fields)]
        path = value["path"].as_py() if "path" in names else None
        value = value["bytes"]
    elif not (pt.is_binary(value.type) or pt.is_large_binary(value.type)):
        path, value = value.as_py(), None
    if value is not None and value.is_valid:
        buffer = value.as_buffer()
        if buffer.size > limit:
            raise too_large(buffer.size, limit)
        return bytes(buffer.to_pybytes())
    if isinstance(path, str) and path:
        from trunkline_service.jobs.sources.reading import reader_of
        from trunkline_service.jobs.sources.relative import beside

        return reader_of(beside(location, path))(limit)
    raise UnreadableFile("its row holds neither bytes nor a path; fill it in or leave it out")


def _open_shard(path: str) -> _Shard:
    import pyarrow as pa

    # Opened once as every file is, to refuse what is no regular file.
    with opened(path):
        source = pa.memory_map(path)
    try:
        if source.read(len(_FILE_MAGIC)) == _FILE_MAGIC:
            file = pa.ipc.open_file(source)
            batches = tuple(file.get_batch(number) for number in range(file.num_record_batches))
            schema = file.schema
        else:
            source.seek(0)
            stream = pa.ipc.open_stream(source)
            batches, schema = tuple(stream), stream.schema
    except (pa.ArrowException, OSError) as exc:
        raise UnreadableFile(f"is no Arrow file that can be read: {exc}") from exc
    return _Shard(batches, tuple(itertools.accumulate(batch.num_rows for batch in batches)), schema)


def _no_cell(column: str, row: int) -> UnreadableFile:
    where = f"column {column!r}, row {row:,}" if column else f"row {row:,}, and no column of images"
    return UnreadableFile(f"its table has no {where} any more; embed it from where it is kept")


_groups: Shelf[Any] = Shelf(_GROUPS_KEPT, _GROUPS_ROOM, lambda values: int(values.nbytes))
_footers: Shelf[Footer] = Shelf(_FOOTERS_KEPT)
_shards: Shelf[_Shard] = Shelf(_SHARDS_KEPT)
