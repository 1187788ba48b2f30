"""A Hugging Face data set that ``save_to_disk`` wrote, read with Arrow alone."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trunkline_service.errors import InvalidArgument, UnreadableFile
from trunkline_service.jobs.sources.cells import shard
from trunkline_service.jobs.sources.columns import GUESSED, TableColumns
from trunkline_service.jobs.sources.containers import split_cell
from trunkline_service.jobs.sources.files import FileReader
from trunkline_service.jobs.sources.item import SourceItem
from trunkline_service.jobs.sources.layout import SPLITS, text_of
from trunkline_service.jobs.sources.locations import stamp_of
from trunkline_service.jobs.sources.roles import Roles, assign, images_column
from trunkline_service.jobs.sources.rows import RowItems, check_unique
from trunkline_service.jobs.sources.source import ListedSource, Listing
from trunkline_service.jobs.sources.tables import Part

_NUMBER = re.compile(r"[0-9]{8}")
_MOST_JSON = 64 * 1024 * 1024


@dataclass(frozen=True)
class _ListedSplit:
    """What a listing saw of a split.

    Attributes:
        folder: As text.
        start: Stands before the row numbers that are ids.
        cell_start: See ``tables.Table``.
        before: Rows before each file, by its name as text.
    """

    folder: str
    start: str
    cell_start: str
    before: Mapping[str, int]

    def gives(self, row_id: str, source: str) -> bool:
        """Whether an image there gets this id, which comes without the source's prefix."""
        place = split_cell(source, self.cell_start)
        if place is None or place[0].rpartition("/")[0] != self.folder:
            return False
        number = row_id.removeprefix(self.start)
        if row_id != self.start + number:
            return False
        location, row = place
        if location in self.before:
            return number == f"{self.before[location] + row:08d}"
        # A file that the data set has no more. How many rows were before it is not known.
        return _NUMBER.fullmatch(number) is not None and int(number) >= row


class HuggingFaceSource(ListedSource):
    """The rows of a data set on disk, or of all splits of one.

    The column of images and the names of classes come from ``dataset_info.json``; ids are
    ``<split>/<row number>``, without the split where there is none.

    Args:
        path: The folder that ``save_to_disk`` wrote.
        columns: Names of columns, instead of what the data set says.
        id_prefix: Stands before every id.
    """

    _ids_are_unique = True
    _labels_from = "from the data set"
    _no_labels = "no labels (no column of labels)"

    def __init__(self, path: str, columns: TableColumns = GUESSED, id_prefix: str = "") -> None:
        self._path = os.path.abspath(path)
        super().__init__(text_of(self._path), id_prefix)
        self._columns = columns
        self._listed: tuple[_ListedSplit, ...] = ()

    @property
    def multi_label(self) -> bool:
        """See ``Source.multi_label``."""
        tables = (_SplitTable(folder, self._columns) for _split, folder in self._splits())
        return any(table.roles().multi_label for table in tables)

    def items(self) -> Iterator[SourceItem]:
        """See ``Source.items``."""
        if self._columns.id is not None:
            for split, folder in self._splits():
                check_unique(_SplitTable(folder, self._columns), f"{self.uri} {split or ''}".rstrip())
        yield from super().items()

    def covers(self, row_id: str, source: str) -> bool:
        """Whether it is a row of this data set, with its number as its id.

        Never where ids come from a column: a place does not tell them.
        """
        below = row_id.removeprefix(self.id_prefix)
        if self._columns.id is not None or row_id != self.id_prefix + below:
            return False
        return any(split.gives(below, source) for split in self._listed)

    def _notes(self) -> list[str]:
        _split, folder = self._splits()[0]
        return ["Hugging Face data set", _SplitTable(folder, self._columns).roles().describe()]

    def _nothing(self) -> str:
        return f"no row in the Hugging Face data set {self.uri!r}"

    def _splits(self) -> list[tuple[str | None, str]]:
        """Names of the splits and their folders."""
        written = os.path.join(self._path, "dataset_dict.json")
        if not os.path.lexists(written):
            return [(None, self._path)]
        names = _read_json(written).get("splits")
        if not isinstance(names, list) or not names:
            raise InvalidArgument(f"{text_of(written)} names no splits; save the data set again")
        return [(str(name), os.path.join(self._path, str(name))) for name in names]

    def _list(self, listing: Listing) -> Iterator[SourceItem]:
        listed = []
        for split, folder in self._splits():
            table = _SplitTable(folder, self._columns)
            before = table.rows_before
            start = f"{split}/" if split is not None else ""

            def number_id(
                location: str, row: int, before: dict[str, int] = before, start: str = start
            ) -> str:
                return f"{start}{before[location] + row:08d}"

            make = RowItems(
                roles=table.roles(),
                number_id=number_id,
                cell_start=table.cell_start(),
                id_prefix=self.id_prefix + (start if self._columns.id is not None else ""),
                split=SPLITS.get(split.lower(), split) if split is not None else None,
            )
            for part in table.parts(listing.problem):
                yield from make.items(part, listing)
            names = {text_of(location): rows for location, rows in before.items()}
            listed.append(_ListedSplit(text_of(folder), start, table.cell_start(), names))
        self._listed = tuple(listed)


class _SplitTable:
    """The Arrow files of one split; a ``tables.Table``."""

    first_row = 0

    def __init__(self, folder: str, columns: TableColumns) -> None:
        self._folder = folder
        self._columns = columns
        state = _read_json(os.path.join(folder, "state.json"))
        info = _read_json(os.path.join(folder, "dataset_info.json"))
        files = state.get("_data_files")
        if not isinstance(files, list) or not all(
            isinstance(file, dict) and "filename" in file for file in files
        ):
            raise InvalidArgument(f"{text_of(folder)}/state.json names no files; save the data set again")
        self.locations = [os.path.join(folder, os.path.basename(str(file["filename"]))) for file in files]
        features = info.get("features")
        self._features: Mapping[str, Any] = features if isinstance(features, dict) else {}
        # Rows of the files before each one, filled as they are read.
        self.rows_before: dict[str, int] = {}

    def roles(self) -> Roles:
        """See ``tables.Table``."""
        schema = self._schema()
        roles = assign(schema, self._columns, text_of(self._folder), self._features)
        if self._columns.id is not None or roles.id is None:
            return roles
        # Row numbers are the ids of a data set; its own column of ids is kept as a column.
        return dataclasses.replace(roles, id=None, metadata=(roles.id, *roles.metadata), numbered=True)

    def cell_start(self) -> str:
        """See ``tables.Table``."""
        column = self.roles().bytes
        return "" if column is None or images_column(self._schema()) == column else f"{column}/"

    def settle(self, look: Callable[[Part], None]) -> None:
        """See ``tables.Table``."""
        for part in self.parts(lambda _text: None):
            look(part)

    def parts(self, problem: Callable[[str], None]) -> Iterator[Part]:  # noqa: ARG002 - every row is whole
        """See ``tables.Table``."""
        columns = list(self.roles().listed)
        before = 0
        for path in self.locations:
            try:
                stamp = stamp_of(path)
                file = shard(path, stamp)
            except UnreadableFile as exc:
                # Rows after it would take other numbers, and so other ids.
                raise InvalidArgument(f"{text_of(path)} {exc.message}; save the data set again") from exc
            self.rows_before[path] = before
            first = 0
            for batch in file.batches:
                yield Part(path, stamp, first, batch.select(columns), batch.num_rows)
                first += batch.num_rows
            before += first

    def _schema(self) -> Any:
        for path in self.locations:
            try:
                return shard(path, stamp_of(path)).schema
            except UnreadableFile as exc:
                raise InvalidArgument(f"{text_of(path)} {exc.message}; save the data set again") from exc
        raise InvalidArgument(f"the data set {text_of(self._folder)!r} has no files; save it again")


def _read_json(path: str) -> dict[str, Any]:
    try:
        document = json.loads(FileReader(path)(_MOST_JSON))
    except UnreadableFile as exc:
        raise InvalidArgument(f"{text_of(path)} {exc.message}; save the data set again") from exc
    except ValueError as exc:
        raise InvalidArgument(f"{text_of(path)} is no JSON: {exc}; save the data set again") from exc
    if not isinstance(document, dict):
        raise InvalidArgument(f"{text_of(path)} is no JSON object; save the data set again")
    return document
