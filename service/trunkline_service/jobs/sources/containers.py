"""Images inside files that hold many: ``/a/shard.tar#b.jpg``, ``/a/t.parquet#17``."""

from __future__ import annotations

import re

_ROW = re.compile(r"0|[1-9][0-9]{0,17}")
_MEMBER = re.compile(r"(.*?\.(?:tar|parquet|pq|arrow))#(.+)", re.DOTALL | re.IGNORECASE)


def is_member(source: str) -> bool:
    """Whether a recorded source names an image inside a file."""
    return _MEMBER.fullmatch(source) is not None


def member_source(container: str, member: str | int) -> str:
    """The source to be recorded for an image inside a file."""
    return f"{container}#{member}"


def split_member(source: str) -> tuple[str, str]:
    """The file, and what names the image inside it."""
    found = _MEMBER.fullmatch(source)
    if found is None:
        raise ValueError(f"{source!r} names no image inside a file")
    return found.group(1), found.group(2)


def split_cell(source: str, cell_start: str) -> tuple[str, int] | None:
    """The file and the row number of an image in a cell; None for another place or another column.

    Args:
        source: What a row recorded.
        cell_start: What stands before the row number; see ``cells.read_cell``.
    """
    if not is_member(source):
        return None
    container, member = split_member(source)
    number = member.removeprefix(cell_start)
    if member != cell_start + number or _ROW.fullmatch(number) is None:
        return None
    return container, int(number)
