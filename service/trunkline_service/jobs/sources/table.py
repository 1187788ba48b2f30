"""A table of paths, URLs or images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from trunkline_service.errors import InvalidArgument, UnreadableFile
from trunkline_service.jobs.sources.columns import GUESSED, TableColumns
from trunkline_service.jobs.sources.containers import split_cell
from trunkline_service.jobs.sources.item import SourceItem
from trunkline_service.jobs.sources.layout import suffix_of
from trunkline_service.jobs.sources.locations import Locations, shown, stamp_of
from trunkline_service.jobs.sources.pattern import is_url
from trunkline_service.jobs.sources.rows import RowItems, check_unique
from trunkline_service.jobs.sources.source import ListedSource, Listing
from trunkline_service.jobs.sources.tables import ParquetTable, Table, TextTable

_PARQUET = frozenset({".parquet", ".pq"})


@dataclass(frozen=True)
class _Numbers:
    """How rows are numbered.

    Attributes:
        are_ids: The ids of images inside the files are row numbers.
        cell_start: See ``Table.cell_start``.
        several: Ids begin with the file's name.
    """

    are_ids: bool
    cell_start: str
    several: bool


class TableSource(ListedSource):
    """The rows of a CSV, a TSV, or Parquet files.

    Columns that are not named are guessed by their names. Relative paths begin at the table's folder.
    The ids are read once before the first row is given, because they have to be unique, and of a CSV
    everything, because a column has one type. Images inside a Parquet file are read by row group, when
    they are asked for.

    Args:
        text: A file, a folder or glob of Parquet files, local or behind a URL.
        columns: Names of columns.
        id_prefix: Stands before every id.
    """

    # Those of a column are looked at before the first row is given.
    _ids_are_unique = True
    _no_labels = "no labels (no column of labels)"

    def __init__(self, text: str, columns: TableColumns = GUESSED, id_prefix: str = "") -> None:
        folder = not is_url(text) and os.path.isdir(text)
        self._locations = Locations(f"{text.rstrip('/')}/**/*.parquet" if folder else text)
        super().__init__(self._locations.uri, id_prefix)
        self._columns = columns
        self._settled: Table | None = None
        self._numbers: _Numbers | None = None

    @property
    def multi_label(self) -> bool:
        """See ``Source.multi_label``."""
        return self._table().roles().multi_label

    def describe(self) -> str:
        """See ``Source.describe``."""
        label = self._table().roles().label
        if label is not None:
            self._labels_from = f"from column {label!r}"
        return super().describe()

    def items(self) -> Iterator[SourceItem]:
        """See ``Source.items``."""
        # Listed anew, and the files may be others by now.
        self._settled = self._numbers = None
        table = self._table()
        check_unique(table, self.uri)
        self._settled = table
        yield from super().items()

    def covers(self, row_id: str, source: str) -> bool:
        """Whether it is an image inside these files whose id is its row number.

        Never for images elsewhere, which others may list too, nor where ids come from a column: a place
        does not tell them.
        """
        numbers = self._numbers or self._numbered()
        place = split_cell(source, numbers.cell_start) if numbers.are_ids else None
        if place is None or not self._locations.has(place[0]):
            return False
        return row_id == self.id_prefix + self._number_id(*place, numbers.several)

    def _notes(self) -> list[str]:
        return [self._table().roles().describe()]

    def _nothing(self) -> str:
        return f"no row with an image in {self.uri!r}"

    def _numbered(self) -> _Numbers:
        table = self._table()
        roles = table.roles()
        inside = roles.bytes is not None and roles.id_column is None
        self._numbers = _Numbers(inside, table.cell_start(), len(table.locations) > 1)
        return self._numbers

    def _number_id(self, location: str, row: int, several: bool) -> str:
        stem = self._locations.name_of(location).rpartition(".")[0]
        return f"{stem}/{row:08d}" if several else f"{row:08d}"

    def _table(self) -> Table:
        if self._settled is not None:
            return self._settled
        files = self._locations.find()
        if not files:
            raise InvalidArgument(f"there is no file {self.uri!r}; name a .csv, .tsv or .parquet file")
        try:
            stamp_of(files[0])
        except UnreadableFile as exc:
            raise InvalidArgument(f"{shown(files[0])!r} {exc.message}") from exc
        if suffix_of(shown(files[0])) in _PARQUET:
            return ParquetTable(files, self._columns)
        return TextTable(files, self._columns)

    def _list(self, listing: Listing) -> Iterator[SourceItem]:
        table = self._table()
        several = len(table.locations) > 1

        make = RowItems(
            roles=table.roles(),
            number_id=lambda location, row: self._number_id(location, row, several),
            cell_start=table.cell_start(),
            id_prefix=self.id_prefix,
            first_row=table.first_row,
        )
        for part in table.parts(listing.problem):
            yield from make.items(part, listing)
