"""SQL conditions with bound parameters; pure.

Lance takes a condition as text and knows no parameters, and reads one expression and drops what
follows it. So the text is read here, token by token, as SQL's literals and comments are written: a
``?`` becomes a literal that can only be a value, and what could end the condition early is refused.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from trunkline_service.collections.metadata import Scalar
from trunkline_service.errors import InvalidArgument

# A doubled quote inside a literal or a quoted name stands for the quote itself (SQL-92, 5.3).
_TOKEN = re.compile(
    r"""
    (?P<literal> '(?:[^']|'')*' | (?:timestamp|date)\s*'(?:[^']|'')*' | \.?\d+(?:\.\d*)?(?:e[+-]?\d+)? )
    | (?P<blank> \s+ | --[^\n]* | /\*.*?\*/ )
    | (?P<word> "(?:[^"]|"")*" | `[^`]*` | \w+ | \? )
    | (?P<sign> <= | >= | <> | != | \|\| | :: | . )
    """,
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)

MAX_OPERATORS = 150
"""Of one condition, also inside functions; a list of literals has none.

DataFusion goes through an expression by recursion, and a stack that overflows ends the process. By trying, on
threads of 8 MB: 350 ``IS TRUE`` one after the other did, 800 ``+``, 900 ``::``, 1,000 ``=`` or ``||``.
"""
MAX_DEPTH = 12
"""Of brackets in brackets. The time to read ``NOT (`` and ``coalesce(`` doubles with each: 18 took 4 s."""
MAX_LENGTH = 64 * 1024
"""Characters of a condition, without its literals, blanks and comments."""
_SHOWN = 300

_LEAST_INT = -(2**63)


def bind(where: str | None, parameters: Sequence[Scalar] = ()) -> str | None:
    """A condition with its parameters put in, enclosed in parentheses; None for no condition.

    Args:
        where: An SQL condition over a collection's columns; each ``?`` outside quotes is a parameter.
        parameters: Their values, in order.

    Raises:
        InvalidArgument: Not as many values as parameters, a value that is no number, brackets or quotes that
            don't match, ``;``, or more than `MAX_OPERATORS`, `MAX_DEPTH` or `MAX_LENGTH`.
    """
    if where is None:
        if parameters:
            raise InvalidArgument(f"{len(parameters)} parameters, but no condition to put them into")
        return None
    values = list(parameters)
    written: list[str] = []
    used = 0
    effort = _Effort(where)
    for token in _TOKEN.finditer(where):
        piece, kind = token[0], token.lastgroup or ""
        if piece in ("'", '"', "`", ";"):
            raise _unmatched(where)
        effort.see(piece, kind)
        if piece == "?":
            if used == len(values):
                raise _wrong_count(where, len(values))
            written.append(_bound(values[used], used + 1))
            used += 1
        else:
            written.append(" " if piece.startswith(("--", "/*")) else piece)
    if used != len(values):
        raise _wrong_count(where, len(values))
    if effort.depth:
        raise InvalidArgument(f"where {shown(where)}: a bracket is not closed")
    return f"({''.join(written)})"


def shown(where: str) -> str:
    """A condition as messages quote it: its beginning, where it is long."""
    return repr(where if len(where) <= _SHOWN else f"{where[:_SHOWN]}...")


class _Effort:
    """How deep and how long a condition is; refuses one that is more than DataFusion can take.

    An operator is a sign, or whatever follows an operand without a sign: ``IS`` after a column, ``AND`` after a
    literal. A comma is one too, save after a literal and a parameter: those may be many.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._operators = self._length = self.depth = 0
        # What the piece before was: "" for none that could be an operand.
        self._before = ""
        self._opened = True

    def see(self, piece: str, kind: str) -> None:
        """Counts the next piece.

        Raises:
            InvalidArgument: It is one too many, or it closes a bracket that was not opened.
        """
        if kind == "blank":
            return
        if kind == "literal" or piece == "?":
            self._operators += bool(self._before)
            self._before, self._opened = "value", False
        elif kind == "word":
            self._length += len(piece)
            self._operators += bool(self._before)
            # A word after an operand is an operator, and what follows it is an operand.
            self._before, self._opened = "" if self._before else "operand", False
        else:
            self._sign(piece)
        self._check()

    def _sign(self, piece: str) -> None:
        self._length += len(piece)
        if piece in "([":
            self.depth += piece == "("
            self._operators += piece == "["
            self._before, self._opened = "", True
        elif piece == ")":
            self.depth -= 1
            # One that closes what it did not open would end the enclosing pair, and what follows be dropped.
            if self.depth < 0:
                raise _unmatched(self._where)
            self._before, self._opened = "operand", False
        elif piece == ",":
            self._operators += self._before == "operand"
            self._before, self._opened = "", True
        else:
            # The sign of a number in a list is part of it.
            self._operators += not (piece in "+-" and self._opened)
            self._before, self._opened = ("operand" if piece == "]" else ""), False

    def _check(self) -> None:
        if self._operators > MAX_OPERATORS:
            raise InvalidArgument(
                f"where {shown(self._where)} has more than {MAX_OPERATORS} operators; write column IN (?, ?, ...) "
                "instead of many OR, send literals as parameters, or store what is computed in a column of its own"
            )
        if self.depth > MAX_DEPTH:
            raise InvalidArgument(
                f"where {shown(self._where)} has brackets more than {MAX_DEPTH} deep; leave out those that are not "
                "needed, or store what is computed in a column of its own"
            )
        if self._length > MAX_LENGTH:
            raise InvalidArgument(
                f"where {shown(self._where)} has more than {MAX_LENGTH:,} characters beside its literals; write "
                "column IN (?, ?, ...) with parameters"
            )


def unbound(condition: str) -> str:
    """A bound condition as its caller wrote it, but for values in the place of parameters."""
    pieces = [token[0] for token in _TOKEN.finditer(condition)]
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


def _bound(value: Scalar, number: int) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument(
            f"parameter {number} is {value}, which a condition can't compare with; leave it out, or compare with a "
            "finite number"
        )
    return literal(value)


def _unmatched(where: str) -> InvalidArgument:
    return InvalidArgument(f"where {shown(where)}: brackets and quotes don't match, or it holds a ';'")


def _wrong_count(where: str, given: int) -> InvalidArgument:
    taken = sum(token[0] == "?" for token in _TOKEN.finditer(where))
    return InvalidArgument(f"where {shown(where)} takes {taken} parameters, {given} are given")
