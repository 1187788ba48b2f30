"""What a condition may say beside names and values: its functions, its signs, and where a parameter may stand.

Functions are listed, since some that DataFusion has make gigabytes of a short text (``lpad``, ``repeat``,
``array_repeat``, ``replace``) or give something else each time (``now``, ``random``), while the rows of a condition
are kept. Those listed here give no more than they get. Some well-known ones are missing because Lance 14 reads none of
them: ``substr``, ``trim``, ``floor``, ``ceil``, ``position``, ``extract``.
"""

from __future__ import annotations

from trunkline_service.collections.tokens import Token, shown, unmatched
from trunkline_service.errors import InvalidArgument

FUNCTIONS = frozenset([
    "lower", "upper", "initcap", "reverse", "length", "char_length", "character_length", "octet_length", "left",
    "right", "btrim", "ltrim", "rtrim", "split_part", "starts_with", "ends_with", "contains", "strpos",
    "regexp_like", "regexp_match", "regexp_count", "abs", "signum", "round", "trunc", "sqrt", "cbrt", "power", "pow",
    "exp", "ln", "log", "log2", "log10", "isnan", "greatest", "least", "date_part", "date_trunc", "to_date",
    "to_timestamp", "to_timestamp_seconds", "to_timestamp_millis", "to_timestamp_micros", "to_unixtime", "coalesce",
    "nullif", "ifnull", "nvl", "array_has", "array_contains", "array_has_any", "array_has_all", "array_length",
    "array_position", "array_element", "cardinality", "empty", "list_has", "list_contains", "make_array",
])  # fmt: skip
"""Of a condition, in lower case."""
_BEFORE_VALUES = frozenset([
    "and", "or", "not", "is", "from", "like", "ilike", "rlike", "regexp", "similar", "to", "escape", "between", "xor",
    "div", "case", "when", "then", "else",
])  # fmt: skip
_TYPES = ("decimal", "numeric", "timestamp", "datetime", "float", "double")
# What a bracket may follow that is no function.
_BEFORE_BRACKETS = _BEFORE_VALUES.union(["in", "cast", "try_cast"], _TYPES)
# What stands on the left of a comparison begins at one of them.
_BEFORE_OPERANDS = frozenset(["(", "[", ",", "and", "or", "not", "xor", "case", "when", "then", "else"])
_COMPARING = frozenset([
    "=", "<>", "!=", "<", "<=", ">", ">=", "is", "in", "not", "like", "ilike", "rlike", "regexp", "similar", "between",
])  # fmt: skip
# They are read as functions without brackets.
_CLOCKS = frozenset(["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"])
_SIGNS = frozenset(["<=", ">=", "<>", "!=", "||", "::", *"()[],.+-*/%=<>"])
_OPEN = frozenset(["'", '"', "`", ";"])
# A letter before a text changes how the text is read: backslashes, hexadecimal digits, other characters.
_PREFIXES = frozenset(["e", "b", "n", "x", "r", "q", "nq", "br", "rb", "u"])


class Grammar:
    """Looks at a condition piece by piece, and refuses what it may not say.

    Args:
        where: The whole condition, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._before: Token | None = None
        self._apart = True
        # What stands in double quotes where a column is meant, if its comparison comes next.
        self._named: str | None = None
        # Whether the innermost bracket that was opened last encloses an operand, and no function's.
        self._plain = False

    def see(self, token: Token) -> None:
        """The next piece.

        Raises:
            InvalidArgument: It may not stand here.
        """
        if token.kind == "blank":
            self._apart = True
            return
        self._compared(token)
        if token.kind == "sign":
            self._sign(token.text)
        elif token.kind == "parameter":
            self._parameter()
        elif token.text.startswith(("'", '"')):
            self._quoted(token.text)
        elif token.text.lower() in _CLOCKS:
            raise self._wrong(
                f"{token.text!r} gives something else each time, and answers are kept; send the moment as a parameter"
            )
        self._before, self._apart = token, False

    def _compared(self, token: Token) -> None:
        """Refuses ``"label" <> 'rose'``, which compares two texts and lets every row through."""
        if self._named is not None and token.text.lower() in _COMPARING:
            raise self._wrong(
                f"{shown(self._named)} is a text to Lance and no column; a name stands in backticks, a text in single "
                "quotes"
            )
        begins = self._before is None or self._before.text.lower() in _BEFORE_OPERANDS
        enclosed = self._before is not None and self._before.text == "("
        if token.text.startswith('"'):
            self._named = token.text if begins else None
            self._plain = self._plain and enclosed
        elif token.text == "(":
            self._plain = begins and (self._plain or not enclosed)
        elif token.text != ")" or not self._plain:
            self._named = None

    def _sign(self, sign: str) -> None:
        if sign in _OPEN:
            raise unmatched(self._where)
        if sign == "/*":
            raise self._wrong("a comment that begins with /* is not closed")
        if sign not in _SIGNS:
            raise self._wrong(
                f"{sign!r} means nothing in a condition; a parameter is written ?, a text in single quotes"
            )
        before = self._before
        if before is None or sign not in "(.":
            return
        if before.kind == "parameter":
            raise self._wrong(f"{sign!r} can't follow a parameter; put an operator between them")
        if sign == "(" and before.kind == "name" and not _before_bracket(before.text):
            raise self._wrong(
                f"{before.text!r} is none of the functions of a condition, which are {', '.join(sorted(FUNCTIONS))}; "
                "store what else is computed in a column of its own"
            )

    def _parameter(self) -> None:
        before = self._before
        if before is None or (before.kind == "sign" and before.text not in (")", "]", ".", "::")):
            return
        word = before.text.lower()
        if before.kind == "name" and word in _BEFORE_VALUES:
            return
        if word == "in":
            advice = "write IN (?, ?), with as many as there are values"
        elif word in ("timestamp", "date", "datetime", "interval"):
            advice = "leave the word out, and send a datetime"
        else:
            advice = "put an operator or a comma between them"
        raise self._wrong(f"a parameter can't follow {shown(before.text)}; {advice}")

    def _quoted(self, text: str) -> None:
        before = self._before
        if before is not None and not self._apart and before.text.lower() in _PREFIXES:
            raise self._wrong(
                f"a text is written {shown(text)}, without {before.text!r} before it; backslashes are plain characters"
            )

    def _wrong(self, what: str) -> InvalidArgument:
        return InvalidArgument(f"where {shown(self._where)}: {what}")


def is_call(name: str) -> bool:
    """Whether a bracket after this word encloses what a function takes."""
    return name.lower() not in _BEFORE_BRACKETS


def _before_bracket(name: str) -> bool:
    return not is_call(name) or name.strip("`").lower() in FUNCTIONS
