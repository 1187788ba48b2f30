"""SQL conditions with bound parameters; pure.

Lance takes a condition as text and knows no parameters, and reads one expression and drops what
follows it. So the text is read here, piece by piece, as SQL's literals and comments are written: a
``?`` becomes a literal that can only be a value, set apart from what stands beside it, and what could
end the condition early is refused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import overload

from trunkline_service.collections.effort import Effort
from trunkline_service.collections.grammar import Grammar
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.tokens import Bound, shown, tokens
from trunkline_service.errors import InvalidArgument

_LEAST_INT = -(2**63)
_INT64 = range(_LEAST_INT, 2**63)
# What a value may touch without becoming part of it.
_NEUTRAL = "(,)"


@overload
def bind(where: str, parameters: Sequence[Scalar] = ...) -> Bound: ...
@overload
def bind(where: str | None, parameters: Sequence[Scalar] = ...) -> Bound | None: ...
def bind(where: str | None, parameters: Sequence[Scalar] = ()) -> Bound | None:
    """A condition with its parameters put in, enclosed in parentheses; None for no condition.

    What is bound already comes back as it is, so the limits hold for what a caller wrote, and not for what the
    service put beside it.

    Args:
        where: An SQL condition over a collection's columns; each ``?`` outside quotes is a parameter.
        parameters: Their values, in order; a ``datetime`` has a time zone.

    Raises:
        InvalidArgument: Not as many values as parameters, a value that can't be compared with, brackets or quotes
            that don't match, ``;``, what `Grammar` does not know, or more than `Effort` allows.
    """
    if where is None:
        if parameters:
            raise InvalidArgument(f"{_counted(len(parameters))}, but no condition to put them into")
        return None
    if not _is_unicode(where):
        raise InvalidArgument(f"where {shown(where)} is no valid Unicode text; escape it")
    values = list(parameters)
    if isinstance(where, Bound):
        if values:
            raise InvalidArgument(f"{_counted(len(values))}, but those of the condition are in place")
        return where
    used = 0
    grammar, effort = Grammar(where), Effort(where)
    text = _Text()
    for token in tokens(where):
        grammar.see(token)
        if token.kind == "parameter":
            if used == len(values):
                raise _wrong_count(where, len(values))
            value = _bound(values[used], used + 1)
            used += 1
            effort.see(token, len(value))
            text.add_value(value)
        else:
            effort.see(token, len(token.text))
            text.add(" " if token.text.startswith(("--", "/*")) else token.text)
    if used != len(values):
        raise _wrong_count(where, len(values))
    effort.finish()
    return Bound(f"({text})", where)


class _Text:
    """The condition that is being written, with its values set apart.

    ``-?`` with -5 would begin a comment, ``E?`` with a text make it one of backslashes.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._after_value = False

    def add(self, piece: str) -> None:
        if self._after_value and piece[0] not in _NEUTRAL and not piece[0].isspace():
            self._pieces.append(" ")
        self._pieces.append(piece)
        self._after_value = False

    def add_value(self, value: str) -> None:
        before = self._pieces[-1][-1] if self._pieces else "("
        if self._after_value or (before not in _NEUTRAL and not before.isspace()):
            self._pieces.append(" ")
        self._pieces.append(value)
        self._after_value = True

    def __str__(self) -> str:
        return "".join(self._pieces)


def unbound(condition: str) -> str:
    """A bound condition as its caller wrote it, but for values in the place of parameters."""
    pieces = [token.text for token in tokens(condition)]
    depths = itertools.accumulate((piece == "(") - (piece == ")") for piece in pieces)
    # Two that were joined are left as they are.
    enclosed = pieces[:1] == ["("] and list(depths).index(0) == len(pieces) - 1
    return condition[1:-1] if enclosed else condition


def literal(value: Scalar) -> str:
    """A value as an SQL literal; in brackets where it begins with a sign.

    Raises:
        InvalidArgument: A time that is in no year from 1 to 9999 in UTC.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value == _LEAST_INT and isinstance(value, int):
        # SQL has no negative literals, and the positive one is beyond 64 bits: Lance makes it a float.
        return f"({_LEAST_INT + 1} - 1)"
    if isinstance(value, (int, float)):
        # Not as a subclass may write itself, such as NumPy's. A zero has no sign, which an IN list would compare.
        number = float.__repr__(value + 0.0) if isinstance(value, float) else int.__repr__(value)
        return f"({number})" if number.startswith("-") else number
    if isinstance(value, datetime):
        return f"timestamp '{_moment(value)}'"
    return "'" + value.replace("'", "''") + "'"


def any_of(column: str, values: Sequence[str]) -> str:
    """A condition that lets rows through whose column is one of the values."""
    return f"{column} IN ({','.join(map(literal, values))})"


def _moment(value: datetime) -> str:
    try:
        # Years of less than four digits keep their zeros, which `strftime` leaves out.
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    except OverflowError as exc:
        raise InvalidArgument(
            f"the time {value} is in no year from 1 to 9999 in UTC; use one that is"
        ) from exc


def _bound(value: Scalar, number: int) -> str:
    """The literal of a parameter, the first of which has the number 1."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument(
            f"parameter {number} is {value}, which a condition can't compare with; leave it out, or compare with a "
            "finite number"
        )
    if isinstance(value, int) and value not in _INT64:
        raise InvalidArgument(
            f"parameter {number} is {value}, which does not fit into 64 bits; no number that is stored is beyond them"
        )
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidArgument(
            f"parameter {number} is {value}, which has no time zone; give it one (UTC, say)"
        )
    if isinstance(value, str) and not _is_unicode(value):
        raise InvalidArgument(f"parameter {number} is no valid Unicode text; escape it")
    if value is not None and not isinstance(value, (str, bool, int, float, datetime)):
        raise InvalidArgument(
            f"parameter {number} is of type {type(value).__name__}; use text, a number, true or false, a time, or None"
        )
    return literal(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong_count(where: str, given: int) -> InvalidArgument:
    taken = sum(token.kind == "parameter" for token in tokens(where))
    return InvalidArgument(
        f"where {shown(where)} takes {_counted(taken)}, {given} {'is' if given == 1 else 'are'} given"
    )


def _counted(parameters: int) -> str:
    return f"{parameters} parameter{'' if parameters == 1 else 's'}"
