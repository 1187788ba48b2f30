"""The pieces of an SQL condition, as Lance's reader of SQL tells them apart; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Self

from trunkline_service.errors import InvalidArgument

# A doubled quote inside a text or a quoted name stands for the quote itself (SQL-92, 5.3).
_TOKEN = re.compile(
    r"""
    (?P<text> (?:(?:timestamp|date)\s*)?'(?:[^']|'')*' )
    | (?P<number> \.?[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)? )
    | (?P<blank> \s+ | --[^\n]* | /\*.*?\*/ )
    | (?P<name> "(?:[^"]|"")*" | `[^`]*` | \w+ )
    | (?P<parameter> \? )
    | (?P<sign> <= | >= | <> | != | \|\| | :: | /\* | . )
    """,
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
_SHOWN = 300


class Token(NamedTuple):
    """A piece of a condition.

    Attributes:
        text: As it is written.
        kind: ``text`` (also a time), ``number``, ``blank`` (also a comment), ``name`` (also a word of SQL, and what
            stands in double quotes, which Lance takes for a text), ``parameter`` or ``sign``.
    """

    text: str
    kind: str


class Bound(str):
    """A condition with its values in place, that was found to be within the limits of one.

    The service puts its own beside it: ``Bound(f"{condition} AND status = 'ok'")`` is taken as it is, since what
    was added is little, and its author is not told of limits that others reached.

    Attributes:
        written: As its author wrote it, for messages.
    """

    written: str

    def __new__(cls, text: str, written: str | None = None) -> Self:
        """The condition, and how it was written where that is another text."""
        made = super().__new__(cls, text)
        made.written = text if written is None else written
        return made


def tokens(where: str) -> Iterator[Token]:
    """All of a condition, in order: joined, they are the condition."""
    for found in _TOKEN.finditer(where):
        yield Token(found[0], found.lastgroup or "")


def shown(where: str) -> str:
    """A condition as messages quote it: its beginning, where it is long."""
    text = where.written if isinstance(where, Bound) else where
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def unmatched(where: str) -> InvalidArgument:
    """The error of a condition whose end is not where it seems to be."""
    return InvalidArgument(f"where {shown(where)}: brackets and quotes don't match, or it holds a ';'")
