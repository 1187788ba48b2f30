"""Which columns of a table hold what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableColumns:
    """Names of a table's columns; None means that the header decides.

    Attributes:
        id: Ids of the rows. Guessed: ``id``, ``image_id``, ``key``; else paths or row numbers are ids.
        path: Paths or URLs. Guessed: ``path``, ``file``, ``filename``, ``file_name``, ``image``,
            ``image_path``, ``url``, ``uri``.
        label: Labels. Guessed: ``label``, ``class``, ``category``.
        split: Splits. Guessed: ``split``, ``subset``.
        bytes: The images themselves. Guessed: ``bytes``, or a column ``image`` of bytes.
        label_separator: Cuts the text of a label into several, e.g. ``"|"``.
    """

    id: str | None = None
    path: str | None = None
    label: str | None = None
    split: str | None = None
    bytes: str | None = None
    label_separator: str | None = None


GUESSED = TableColumns()
"""Everything is guessed."""
