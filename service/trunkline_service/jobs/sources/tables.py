"""Tables as streams of Arrow batches: CSV and TSV, and Parquet without its images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

from trunkline_service.errors import InvalidArgument
from trunkline_service.jobs.sources.cells import footer
from trunkline_service.jobs.sources.columns import TableColumns
from trunkline_service.jobs.sources.locations import Stamp, opened, shown, stamp_of
from trunkline_service.jobs.sources.roles import Roles, assign, images_column

# Most of a CSV that is parsed at once; a row has to fit.
_BLOCK = 4 * 1024 * 1024
_BATCH_ROWS = 8192
_CONFLICT = re.compile(r"In CSV column #(\d+): .*conversion error to (\w+)")
# A column that is no longer of one type takes the next wider one.
_WIDER = {"null": "int64", "int64": "double", "double": "string"}


class Part(NamedTuple):
    """Some rows of a table.

    Attributes:
        location: The file.
        stamp: Its state.
        first: Row of the file at which ``batch`` begins, from 0.
        batch: A ``pyarrow.RecordBatch`` with the columns of ``Roles.listed``.
        rows: How many.
    """

    location: str
    stamp: Stamp
    first: int
    batch: Any
    rows: int


class Table(Protocol):
    """One or more files of the same columns.

    Attributes:
        locations: The files.
        first_row: The number that people give the first row of a file.
    """

    @property
    def locations(self) -> Sequence[str]: ...  # noqa: D102 - see above

    @property
    def first_row(self) -> int: ...  # noqa: D102 - see above

    def cell_start(self) -> str:
        """What stands before the row number of an image inside the table; see ``cells.read_cell``."""
        ...

    def roles(self) -> Roles:
        """What its columns are.

        Raises:
            InvalidArgument: See ``roles.assign``, or a file that is no table.
        """
        ...

    def settle(self, look: Callable[[Part], None]) -> None:
        """Reads all of it once, to know the types of the columns, and shows ``look`` every part.

        Where a type turns out to be another one, reading and showing begin anew: ``look`` has to stand it.
        """
        ...

    def parts(self, problem: Callable[[str], None]) -> Iterator[Part]:
        """The rows. Before ``settle`` the values of a CSV are texts.

        Args:
            problem: Told of each row that can't be parsed.
        """
        ...


class TextTable:
    """CSV or TSV files, in UTF-8, with a header.

    Args:
        locations: The files.
        columns: What the caller names.
    """

    # The header is line 1.
    first_row = 2

    def __init__(self, locations: Sequence[str], columns: TableColumns) -> None:
        self.locations = locations
        self._columns = columns
        self._types: Mapping[str, Any] | None = None

    def cell_start(self) -> str:
        """See ``Table.cell_start``: a text holds no images."""
        return ""

    def roles(self) -> Roles:
        """See ``Table.roles``."""
        import pyarrow as pa

        location = self.locations[0]
        with opened(location) as file, _table_errors(location):
            header = _reader(location, file, {}, lambda _text: None).schema.names
        schema = pa.schema([pa.field(name, pa.string()) for name in header])
        return assign(schema, self._columns, shown(location))

    def settle(self, look: Callable[[Part], None]) -> None:
        """See ``Table.settle``."""
        import pyarrow as pa

        roles = self.roles()
        named = {name for name in (roles.id, roles.path, roles.label, roles.split) if name is not None}
        types: dict[str, Any] = dict.fromkeys(named, pa.string())
        while (conflict := self._try(types, look)) is not None:
            name, kind = conflict
            types[name] = pa.type_for_alias(_WIDER.get(kind, "string"))
        self._types = types

    def parts(self, problem: Callable[[str], None]) -> Iterator[Part]:
        """See ``Table.parts``."""
        import pyarrow as pa

        roles = self.roles()
        types = dict.fromkeys(roles.listed, pa.string()) if self._types is None else self._types
        for location in self.locations:
            yield from self._file(location, types, roles, problem)

    def _try(self, types: dict[str, Any], look: Callable[[Part], None]) -> tuple[str, str] | None:
        """Reads all; gives the first column whose type does not hold, and that type."""
        import pyarrow as pa

        roles = self.roles()
        seen: dict[str, Any] = {}
        for location in self.locations:
            names: list[str] = []
            try:
                for part in self._file(location, types, roles, lambda _text: None, names):
                    for field in part.batch.schema:
                        if field.type != seen.setdefault(field.name, field.type):
                            # Two files of different types.
                            return field.name, str(seen[field.name])
                    look(part)
            except pa.ArrowInvalid as exc:
                found = _CONFLICT.search(str(exc))
                if found is None or found.group(2) == "string":
                    raise _bad(location, exc) from exc
                return names[int(found.group(1))], found.group(2)
        # Inferred from the first block, and from now on certain.
        types |= {name: kind for name, kind in seen.items() if name not in types}
        binary = next((name for name, kind in types.items() if pa.types.is_binary(kind)), None)
        return (binary, "binary") if binary is not None else None

    def _file(
        self,
        location: str,
        types: Mapping[str, Any],
        roles: Roles,
        problem: Callable[[str], None],
        names: list[str] | None = None,
    ) -> Iterator[Part]:
        stamp = stamp_of(location)
        first = 0
        with opened(location) as file, nullcontext() if names is not None else _table_errors(location):
            reader = _reader(location, file, types, problem)
            if names is not None:
                names += reader.schema.names
            missing = [name for name in roles.listed if name not in reader.schema.names]
            if missing:
                raise InvalidArgument(
                    f"{shown(location)} has no column {missing[0]!r}, which other files have"
                )
            for batch in reader:
                yield Part(location, stamp, first, batch.select(list(roles.listed)), batch.num_rows)
                first += batch.num_rows


class ParquetTable:
    """Parquet files.

    Args:
        locations: The files.
        columns: What the caller names.
    """

    first_row = 0

    def __init__(self, locations: Sequence[str], columns: TableColumns) -> None:
        self.locations = locations
        self._columns = columns

    def roles(self) -> Roles:
        """See ``Table.roles``."""
        return assign(self._schema(), self._columns, shown(self.locations[0]))

    def cell_start(self) -> str:
        """See ``Table.cell_start``."""
        column = self.roles().bytes
        return "" if column is None or images_column(self._schema()) == column else f"{column}/"

    def settle(self, look: Callable[[Part], None]) -> None:
        """See ``Table.settle``: of Parquet the types are known."""
        roles = self.roles()
        if roles.id_column is not None:
            for location in self.locations:
                for part in self._file(location, [roles.id_column]):
                    look(part)

    def parts(self, problem: Callable[[str], None]) -> Iterator[Part]:  # noqa: ARG002 - every row parses
        """See ``Table.parts``."""
        columns = list(self.roles().listed)
        for location in self.locations:
            yield from self._file(location, columns)

    def _schema(self) -> Any:
        location = self.locations[0]
        with _table_errors(location):
            return footer(location, stamp_of(location)).schema

    def _file(self, location: str, columns: list[str]) -> Iterator[Part]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        stamp = stamp_of(location)
        first = 0
        with _table_errors(location):
            file_footer = footer(location, stamp)
            metadata, schema = file_footer.metadata, file_footer.schema
            missing = [name for name in columns if name not in schema.names]
            if missing:
                raise InvalidArgument(
                    f"{shown(location)} has no column {missing[0]!r}, which other files have"
                )
            if not columns:
                # Only the images are there, and they are not read yet.
                for first in range(0, metadata.num_rows, _BATCH_ROWS):
                    rows = min(_BATCH_ROWS, metadata.num_rows - first)
                    yield Part(location, stamp, first, pa.record_batch({}), rows)
                return
            with opened(location) as file:
                table = pq.ParquetFile(file, metadata=metadata, pre_buffer=False)
                for batch in table.iter_batches(_BATCH_ROWS, columns=columns):
                    yield Part(location, stamp, first, batch, batch.num_rows)
                    first += batch.num_rows


def _reader(location: str, file: Any, types: Mapping[str, Any], problem: Callable[[str], None]) -> Any:
    from pyarrow import csv

    def bad_row(row: Any) -> str:
        where = f"row {row.number:,}" if row.number is not None else "a row"
        problem(
            f"{shown(location)}: {where} has {row.actual_columns} values for {row.expected_columns} columns; "
            "it was left out"
        )
        return "skip"

    return csv.open_csv(
        file,
        # Threads would leave the rows without numbers.
        read_options=csv.ReadOptions(block_size=_BLOCK, use_threads=False),
        parse_options=csv.ParseOptions(
            delimiter="\t" if shown(location).lower().endswith(".tsv") else ",",
            newlines_in_values=True,
            invalid_row_handler=bad_row,
        ),
        # "NA" and "null" can be labels.
        convert_options=csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
    )


@contextmanager
def _table_errors(location: str) -> Iterator[None]:
    """What is wrong with a table, as ``InvalidArgument``."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as exc:
        raise _bad(location, exc) from exc


def _bad(location: str, exc: Exception) -> InvalidArgument:
    remedy = "save it as UTF-8" if "UTF8" in str(exc) else "mend the file, or name another"
    return InvalidArgument(f"{shown(location)} can't be read as a table: {exc}; {remedy}")
