"""From the rows of a table to items."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument
from trunkline_service.jobs.sources.cells import CellReader
from trunkline_service.jobs.sources.containers import member_source
from trunkline_service.jobs.sources.item import Scalar, SourceItem
from trunkline_service.jobs.sources.layout import text_of
from trunkline_service.jobs.sources.locations import shown
from trunkline_service.jobs.sources.pattern import is_url
from trunkline_service.jobs.sources.reading import path_of, reader_of
from trunkline_service.jobs.sources.relative import beside
from trunkline_service.jobs.sources.roles import Roles
from trunkline_service.jobs.sources.source import Listing
from trunkline_service.jobs.sources.tables import Part, Table
from trunkline_service.jobs.sources.values import column_name, labels, said, scalars, texts

_TWICE_SHOWN = 3


@dataclass(frozen=True)
class RowItems:
    """Makes items of a table's rows.

    Attributes:
        roles: What the columns are.
        number_id: The id of a row without one, by its file and its number in it.
        cell_start: Stands before a row's number in the recorded source of an image inside the table.
        id_prefix: Stands before every id.
        split: Where no column says it.
        first_row: The number that people give the first row of the file.
    """

    roles: Roles
    number_id: Callable[[str, int], str]
    cell_start: str = ""
    id_prefix: str = ""
    split: str | None = None
    first_row: int = 0

    def items(self, part: Part, listing: Listing) -> Iterator[SourceItem]:
        """The items of some rows; rows without an id or a path are noted as problems."""
        roles, batch = self.roles, part.batch
        nothing: list[None] = [None] * part.rows
        ids = texts(batch.column(roles.id_column)) if roles.id_column else nothing
        paths = texts(batch.column(roles.path)) if roles.path else nothing
        found_labels: Sequence[str | tuple[str, ...] | None] = nothing
        if roles.label is not None:
            found_labels = labels(batch.column(roles.label), roles.class_names, roles.label_separator)
        splits = texts(batch.column(roles.split)) if roles.split else nothing
        metadata = {column_name(name): scalars(batch.column(name)) for name in roles.metadata}
        for number, (row_id, path) in enumerate(zip(ids, paths, strict=True)):
            row = part.first + number
            lacks = roles.id_column is not None and row_id is None
            if lacks or (roles.bytes is None and path is None):
                what = "id" if lacks and roles.id is not None else "path"
                listing.problem(
                    f"{shown(part.location)}: row {row + self.first_row:,} has no {what}; it was left out"
                )
                continue
            yield self._item(
                part,
                row,
                row_id if row_id is not None else self.number_id(part.location, row),
                path,
                found_labels[number],
                splits[number] or self.split,
                said((name, values[number]) for name, values in metadata.items()),
            )

    def _item(
        self,
        part: Part,
        row: int,
        row_id: str,
        path: str | None,
        label: str | tuple[str, ...] | None,
        split: str | None,
        metadata: dict[str, Scalar],
    ) -> SourceItem:
        if self.roles.bytes is not None:
            return SourceItem(
                id=self.id_prefix + row_id,
                source=member_source(text_of(part.location), f"{self.cell_start}{row}"),
                read=CellReader(part.location, part.stamp, self.roles.bytes, row),
                label=label,
                split=split,
                mtime=part.stamp.mtime,
                metadata=metadata,
            )
        assert path is not None, "a table without images has paths"
        source = beside(part.location, path)
        size, mtime = _status(source)
        return SourceItem(
            id=self.id_prefix + row_id,
            source=source,
            read=reader_of(source),
            label=label,
            split=split,
            size=size,
            mtime=mtime,
            metadata=metadata,
        )


def check_unique(table: Table, where: str) -> None:
    """Settles a table and refuses ids that come twice, in 8 bytes an id.

    Raises:
        InvalidArgument: Naming some of them.
    """
    column = table.roles().id_column
    hashes: dict[tuple[str, int], NDArray[np.int64]] = {}

    def remember(part: Part) -> None:
        if column is not None:
            values = texts(part.batch.column(column))
            found = (hash(value) for value in values if value is not None)
            hashes[part.location, part.first] = np.fromiter(found, np.int64)

    table.settle(remember)
    if column is None or not hashes:
        return
    every = np.concatenate(list(hashes.values()))
    hashes.clear()
    every.sort()
    twice = set(every[1:][every[1:] == every[:-1]].tolist())
    if not twice:
        return
    # Two texts can share a hash: looked at once more.
    counts: Counter[str] = Counter()
    for part in table.parts(lambda _text: None):
        values = texts(part.batch.column(column))
        counts.update(value for value in values if value is not None and hash(value) in twice)
    names = [f"{name!r} ({count} times)" for name, count in counts.most_common() if count > 1]
    if names:
        more = ", ..." if len(names) > _TWICE_SHOWN else ""
        raise InvalidArgument(
            f"{where}: ids have to be unique, and column {column!r} holds {', '.join(names[:_TWICE_SHOWN])}"
            f"{more}; leave out the repeated rows, or name another column with --id-col"
        )


def _status(source: str) -> tuple[int | None, float | None]:
    if is_url(source):
        return None, None
    try:
        status = os.stat(path_of(source))
    except (OSError, ValueError):
        # Reading it will say why, and the row will hold the reason.
        return None, None
    return status.st_size, status.st_mtime
