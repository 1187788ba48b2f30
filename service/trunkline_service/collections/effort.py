"""How much a condition asks of who reads and computes it, with limits; pure."""

from __future__ import annotations

from trunkline_service.collections.grammar import is_call
from trunkline_service.collections.tokens import Token, shown, unmatched
from trunkline_service.errors import InvalidArgument

MAX_OPERATORS = 150
"""Of one condition, also inside functions; a list of literals has none.

DataFusion goes through an expression by recursion, and a stack that overflows ends the process. By trying, on
threads of 8 MB: 350 ``IS TRUE`` one after the other did, 800 ``+``, 900 ``::``, 1,000 ``=`` or ``||``.
"""
MAX_DEPTH = 12
"""Of brackets in brackets. The time to read ``NOT (`` and ``coalesce(`` doubles with each: 18 took 4 s."""
MAX_LENGTH = 64 * 1024
"""Characters of a condition, without its literals and the commas between them, blanks and comments."""
MAX_VALUES = 64 * 1024
"""Literals and parameters of a condition."""
MAX_JOINS = 8
"""``||``, and commas of columns in square brackets: each makes a text or list longer, for 8,192 rows at a time."""
MAX_LISTED = 1024
"""Literals and parameters in square brackets and ``make_array``, less one for each of these.

Some functions (``array_has_all``, ``array_position``) get such a list for each of 8,192 rows: one of 16,000 numbers
took 2 GB.
"""
MAX_TEXT = 4096
"""Characters of the texts that a condition computes with: functions and ``||`` make 8,192 copies of each.

Without functions and ``||``, texts are compared as they are, and have no limit; nor have those of an IN list.
"""

_ARRAYS = frozenset(["[", "list"])
_LISTS = _ARRAYS.union(["in"])


class Effort:
    """Adds up what a condition asks for, piece by piece, and refuses what is more than DataFusion can take.

    An operator is a sign, or whatever follows an operand without a sign: ``IS`` after a column, ``AND`` after a
    literal. A comma is one too, save after a literal and a parameter in an IN list, square brackets and
    ``make_array``: those may be many.

    Args:
        where: The whole condition, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._operators = self._length = self._values = self._joins = self._text = self._listed = 0
        self._computes = False
        # Of the brackets that are open: "[", "list" of make_array, "in", "call", or "(" for any other.
        self._open: list[str] = []
        # Whether all that the innermost bracket holds so far is one number with its sign, and the length before it.
        self._number_alone = False
        self._length_before = 0
        # What the piece before was: "" for none that could be an operand.
        self._before = ""
        self._begins = True
        self._signed = False
        self._word = ""
        # Characters of a text that is a member of an IN list, unless something else than its end follows.
        self._member = 0

    def see(self, token: Token, size: int) -> None:
        """Counts the next piece.

        Args:
            token: The piece.
            size: Characters that are written for it.

        Raises:
            InvalidArgument: It is one too many, or it closes a bracket that was not opened.
        """
        if token.kind == "blank":
            return
        if self._member and token.text not in (",", ")"):
            self._text += self._member
        self._member = 0
        if token.kind == "sign":
            self._sign(token.text)
        elif token.kind == "name":
            self._name(token.text)
        else:
            self._value(token.kind, size)
        self._word = token.text.lower() if token.kind == "name" else ""
        self._check()

    def finish(self) -> None:
        """Nothing follows.

        Raises:
            InvalidArgument: A bracket is open.
        """
        if self._open:
            raise InvalidArgument(f"where {shown(self._where)}: a bracket is not closed")

    def _value(self, kind: str, size: int) -> None:
        self._values += 1
        self._operators += bool(self._before)
        self._number_alone = kind == "number" and (self._begins or self._signed)
        if kind != "number":
            self._count_text(size)
        self._before, self._begins, self._signed = "value", False, False

    def _count_text(self, size: int) -> None:
        if self._begins and self._open[-1:] == ["in"]:
            self._member = size
        else:
            self._text += size

    def _name(self, name: str) -> None:
        self._length += len(name)
        if name.startswith('"'):
            # A text to Lance.
            self._text += len(name)
        self._operators += bool(self._before)
        self._number_alone = False
        # A word after an operand is an operator, and what follows it is an operand.
        self._before, self._begins, self._signed = "" if self._before else "operand", False, False

    def _sign(self, sign: str) -> None:
        if sign in "([":
            self._opened(sign)
            return
        # The commas of lists of values are as many as those, which are counted.
        self._length += 0 if sign == "," and self._before == "value" else len(sign)
        if sign in ")]":
            self._closed(sign)
        elif sign == ",":
            inside, value = self._open[-1] if self._open else "", self._before == "value"
            self._operators += not (value and inside in _LISTS)
            self._listed += value and inside in _ARRAYS
            self._joins += self._before == "operand" and inside in _ARRAYS
            self._before, self._begins, self._number_alone = "", True, False
        else:
            self._joins += sign == "||"
            self._computes = self._computes or sign == "||"
            # The sign of a number in a list is part of it.
            self._signed = sign in "+-" and self._begins
            self._operators += not self._signed
            self._before, self._begins, self._number_alone = "", False, False
            return
        self._signed = False

    def _opened(self, sign: str) -> None:
        self._length_before = self._length
        self._length += 1
        if sign == "[":
            self._operators += 1
            self._open.append("[")
        elif self._word and is_call(self._word):
            self._computes = True
            self._open.append("list" if self._word.strip("`") == "make_array" else "call")
        else:
            self._open.append("in" if self._word == "in" else "(")
        self._before, self._begins, self._signed, self._number_alone = "", True, False, False

    def _closed(self, sign: str) -> None:
        # One that closes what it did not open would end the enclosing pair, and what follows be dropped.
        if not self._open or (self._open[-1] == "[") != (sign == "]"):
            raise unmatched(self._where)
        closed = self._open.pop()
        # A negative number that was bound stands in brackets, and is bound again with its condition.
        alone = closed == "(" and self._number_alone
        if alone:
            self._length = self._length_before
        self._before, self._begins, self._number_alone = "value" if alone else "operand", False, False

    def _check(self) -> None:
        if self._joins > MAX_JOINS:
            raise self._more(
                f"than {MAX_JOINS} joins (|| and columns in square brackets); store what is joined in a column of "
                "its own"
            )
        if self._operators > MAX_OPERATORS:
            raise self._more(
                f"than {MAX_OPERATORS} operators; write column IN (?, ?, ...) instead of many OR, send literals as "
                "parameters, or store what is computed in a column of its own"
            )
        if len(self._open) - self._open.count("[") > MAX_DEPTH:
            raise InvalidArgument(
                f"where {shown(self._where)} has brackets more than {MAX_DEPTH} deep; leave out those that are not "
                "needed, or store what is computed in a column of its own"
            )
        if self._values > MAX_VALUES:
            raise self._more(
                f"than {MAX_VALUES:,} values; ask several times with a part of them each, or mark those rows in a "
                "column of their own"
            )
        if self._listed >= MAX_LISTED:
            raise self._more(
                f"than {MAX_LISTED:,} values in square brackets; ask several times with a part of them each, or mark "
                "those rows in a column of their own"
            )
        if self._length > MAX_LENGTH:
            raise self._more(
                f"than {MAX_LENGTH:,} characters beside its values; write column IN (?, ?, ...) with parameters "
                "instead of many conditions"
            )
        if self._computes and self._text > MAX_TEXT:
            raise self._more(
                f"than {MAX_TEXT:,} characters of text, which are too many beside functions and ||; compare long "
                "texts in a condition without them"
            )

    def _more(self, than: str) -> InvalidArgument:
        return InvalidArgument(f"where {shown(self._where)} has more {than}")
