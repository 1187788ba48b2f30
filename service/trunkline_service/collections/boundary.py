"""The one place where errors of Lance, Arrow and the operating system become Trunkline's."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from trunkline_service.collections.tokens import shown, tokens
from trunkline_service.errors import (
    CollectionNotFound,
    InvalidArgument,
    StorageError,
    TrunklineError,
)

# Lance ends its messages with the places in its own source that they passed through.
_SOURCE_PLACE = re.compile(r",?\s*\S+\.rs:\d+(:\d+)?")
_BAD_FILTER = re.compile(
    r"invalid user input|schema error|error during planning|execution error|cast error|feature is not implemented",
    re.IGNORECASE,
)
# Lance lists the columns as well, those of its own among them.
_VALID_FIELDS = re.compile(r"\.?\s*Valid fields are .*", re.DOTALL)
# Planning reads nothing, whatever Lance names its errors.
_NOT_PLANNED = re.compile(r"error optimizing sql filter", re.IGNORECASE)
# Lance puts a condition into a statement that its writer never saw.
_NOT_READ = re.compile(
    r"Error (?:parsing|tokenizing) statement: SELECT 1 FROM t WHERE (?P<condition>.*) "
    r"\((?:sql parser error: )?(?P<said>.*)\)",
    re.DOTALL,
)
_EXPECTED = re.compile(r"Expected: (?P<expected>.*), found: (?P<found>.*)", re.DOTALL)
_SHOWN_BEFORE = 60
_NO_FIELD = re.compile(r"no field named", re.IGNORECASE)
# DataFusion prints its own structures.
_MOST_SAID = 400
_READ_FAULT = re.compile(r"LanceError\(IO\)|not found: ")
_NO_SPACE = re.compile(r"no space left|os error 28\b|disk quota|os error 122\b", re.IGNORECASE)
_CONFLICT = re.compile(
    r"conflict|too many concurrent writers|contention|incompatible transaction", re.IGNORECASE
)
_ABSENT = re.compile(r"dataset at path .* was not found", re.IGNORECASE | re.DOTALL)


@contextmanager
def storage_errors(name: str, action: str, *, where: str | None = None, columns: str = "") -> Iterator[None]:
    """Translates what Lance, Arrow or the operating system raise inside the block.

    Args:
        name: The collection.
        action: What was being done, e.g. ``"read"``: it continues "can't be".
        where: The caller's filter, if one is being applied: its faults are the caller's.
        columns: The columns that a filter may name, for the message.

    Raises:
        InvalidArgument: The filter was at fault.
        CollectionNotFound: The dataset is not there (any more).
        StorageError: Anything else of theirs.
    """
    import pyarrow as pa

    try:
        yield
    except TrunklineError:
        raise
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as exc:
        text = _plain(exc)
        if where is not None and _is_of_filter(str(exc)):
            raise InvalidArgument(
                f"where {shown(where)} can't be used on collection {name!r}: {_of_filter(text)} "
                f"The columns are {columns}"
            ) from exc
        if _ABSENT.search(text):
            raise CollectionNotFound(f"there is no collection {name!r} (any more)") from exc
        raise StorageError(f"collection {name!r} can't be {action}: {text}{_remedy(exc, text)}") from exc


def _is_of_filter(text: str) -> bool:
    if _NOT_PLANNED.search(text):
        return True
    return bool(_BAD_FILTER.search(text)) and not _READ_FAULT.search(text)


def _plain(exc: Exception) -> str:
    text = _SOURCE_PLACE.sub("", str(exc)).strip()
    return text.removeprefix("Invalid user input: ").rstrip(".") or type(exc).__name__


def _of_filter(text: str) -> str:
    """What Lance says of a condition, in sentences."""
    if unread := _NOT_READ.search(text):
        return f"it can't be read as SQL: {_place(unread['condition'], unread['said'])}."
    said = _VALID_FIELDS.sub("", text).rstrip(". ")
    if len(said) > _MOST_SAID:
        said = f"{said[:_MOST_SAID]}..."
    said = said if said.endswith("?") else f"{said}."
    if _NO_FIELD.search(said):
        return f"{said} A text stands in single quotes, or is a parameter (?)."
    return said


def _place(condition: str, said: str) -> str:
    """What the reader of SQL expected, and where, as far as it can be told: it names a piece and no place.

    Args:
        condition: As Lance got it: in brackets, which its writer did not see.
        said: What the reader says.
    """
    named = _EXPECTED.fullmatch(said)
    if named is None:
        return said
    expected = "an operator, or its end" if named["expected"] == ")" else named["expected"]
    pieces = [token.text for token in tokens(condition)]
    places = [at for at, piece in enumerate(pieces) if piece == named["found"]]
    if len(places) > 1:
        # An operator is missing after an operand, an expression after an operator.
        after_operand = named["expected"] == ")"
        places = [at for at in places if _ends_operand("".join(pieces[:at]).rstrip()) == after_operand]
    if len(places) != 1:
        return f"expected {expected}, found {named['found']}"
    before = "".join(pieces[1 : places[0]]).strip()
    found = "its end" if places[0] == len(pieces) - 1 else named["found"]
    if not before:
        return "it is empty" if found == "its end" else f"expected {expected}, and it begins with {found}"
    tail = before if len(before) <= _SHOWN_BEFORE else f"...{before[-_SHOWN_BEFORE:]}"
    return f"expected {expected}, found {found} after {tail!r}"


def _ends_operand(text: str) -> bool:
    return text[-1:].isalnum() or text[-1:] in tuple("_)]'\"`")


def _remedy(exc: Exception, text: str) -> str:
    if (isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)) or _NO_SPACE.search(text):
        return ". The disk is full: free space, then run it again; what was committed is kept"
    if isinstance(exc, PermissionError) or "ermission denied" in text:
        return ". Give this user the right to read and write the data folder"
    if _CONFLICT.search(text):
        return ". Other writers kept committing first; nothing was written, so run it again"
    return ""
