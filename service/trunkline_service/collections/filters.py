"""SQL conditions with bound parameters; pure.

Lance takes a condition as text and knows no parameters, and reads one expression and drops what
follows it. So the text is read here, token by token, as SQL's literals and comments are written: a
``?`` becomes a literal that can only be a value, and what could end the condition early is refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from trunkline_service.collections.metadata import Scalar
from trunkline_service.errors import InvalidArgument

# A doubled quote inside a literal or a quoted name stands for the quote itself (SQL-92, 5.3).
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|.", re.DOTALL)

_LEAST_INT = -(2**63)


def bind(where: str | None, parameters: Sequence[Scalar] = ()) -> str | None:
    """A condition with its parameters put in, enclosed in parentheses; None for no condition.

    Args:
        where: An SQL condition over a collection's columns; each ``?`` outside quotes is a parameter.
        parameters: Their values, in order.

    Raises:
        InvalidArgument: Not as many values as parameters, brackets or quotes that don't match, or ``;``.
    """
    if where is None:
        if parameters:
            raise InvalidArgument(f"{len(parameters)} parameters, but no condition to put them into")
        return None
    values = list(parameters)
    written: list[str] = []
    used = depth = 0
    for piece in _TOKEN.findall(where):
        if piece == "?":
            if used == len(values):
                raise _wrong_count(where, len(values))
            written.append(literal(values[used]))
            used += 1
            continue
        depth += (piece == "(") - (piece == ")")
        # One that closes what it did not open would end the enclosing pair, and what follows be dropped.
        if depth < 0 or piece in ("'", '"', "`", ";"):
            raise InvalidArgument(f"where {where!r}: brackets and quotes don't match, or it holds a ';'")
        written.append(" " if piece.startswith(("--", "/*")) else piece)
    if used != len(values):
        raise _wrong_count(where, len(values))
    if depth:
        raise InvalidArgument(f"where {where!r}: a bracket is not closed")
    return f"({''.join(written)})"


def unbound(condition: str) -> str:
    """A bound condition as its caller wrote it, but for values in the place of parameters."""
    pieces = _TOKEN.findall(condition)
    depths = itertools.accumulate((piece == "(") - (piece == ")") for piece in pieces)
    # Two that were joined are left as they are.
    enclosed = pieces[:1] == ["("] and list(depths).index(0) == len(pieces) - 1
    return condition[1:-1] if enclosed else condition


def literal(value: Scalar) -> str:
    """A value as an SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value == _LEAST_INT and isinstance(value, int):
        # SQL has no negative literals, and the positive one is beyond 64 bits: Lance makes it a float.
        return f"({_LEAST_INT + 1} - 1)"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, datetime):
        return f"timestamp '{value.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f')}'"
    return "'" + value.replace("'", "''") + "'"


def any_of(column: str, values: Sequence[str]) -> str:
    """A condition that lets rows through whose column is one of the values."""
    return f"{column} IN ({','.join(map(literal, values))})"


def _wrong_count(where: str, given: int) -> InvalidArgument:
    return InvalidArgument(
        f"where {where!r} takes {_TOKEN.findall(where).count('?')} parameters, {given} are given"
    )
