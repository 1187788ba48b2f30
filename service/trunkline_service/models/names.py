"""Names and references: ``name`` or ``name@version``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from trunkline_service.errors import InvalidArgument

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class ModelName:
    """A model asked for by name.

    Attributes:
        name: Letters, digits, ``.``, ``_`` and ``-``; at most 100; no leading punctuation.
        version: A positive integer, or None for the newest.
    """

    name: str
    version: int | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


def check_name(name: str, what: str = "model") -> str:
    """Returns ``name`` if it can be the name of a folder, whatever the platform.

    Raises:
        InvalidArgument: It is empty, too long, or holds anything but letters, digits, ``. _ -``.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{what} name {name!r} can't be used: take 1 to 100 letters, digits, '.', '_' or '-', "
            "beginning with a letter or a digit"
        )
    return name


def parse(reference: str) -> ModelName:
    """``"deit@2"`` -> ``ModelName("deit", 2)``.

    Raises:
        InvalidArgument: The name or the version can't be one.
    """
    name, at, version = reference.partition("@")
    check_name(name)
    if not at:
        return ModelName(name)
    if not version.isascii() or not version.isdigit() or int(version) < 1:
        raise InvalidArgument(f"model {reference!r}: the version after '@' must be a positive integer")
    return ModelName(name, int(version))


def near(name: str, known: Iterable[str]) -> str:
    """A half-sentence that helps after a name that does not exist; empty if there is nothing to say."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(repr(match) for match in close)}?"
    if not names:
        return ""
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"; there are: {shown}"
