"""The one place where errors of Lance, Arrow and the operating system become Trunkline's."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from trunkline_service.collections.filters import shown
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
                f"where {shown(where)} can't be used on collection {name!r}: {_without_columns(text)} "
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


def _without_columns(text: str) -> str:
    said = _VALID_FIELDS.sub("", text).rstrip(". ")
    if len(said) > _MOST_SAID:
        said = f"{said[:_MOST_SAID]}..."
    return said if said.endswith("?") else f"{said}."


def _remedy(exc: Exception, text: str) -> str:
    if (isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)) or _NO_SPACE.search(text):
        return ". The disk is full: free space, then run it again; what was committed is kept"
    if isinstance(exc, PermissionError) or "ermission denied" in text:
        return ". Give this user the right to read and write the data folder"
    if _CONFLICT.search(text):
        return ". Other writers kept committing first; nothing was written, so run it again"
    return ""
