"""Names of models, collections and heads, and references to them: ``name`` or ``name@version``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

from trunkline_service.errors import InvalidArgument

# Names are folder names: no separators, no leading dot, and short enough for every file system.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_SHOWN = 10


class Reference(NamedTuple):
    """Something asked for by name.

    Attributes:
        name: A name that can be one.
        version: A positive integer, or None for the newest.
    """

    name: str
    version: int | None


def is_name(text: str) -> bool:
    """Whether ``text`` can be a name: letters, digits, ``. _ -``, at most 100, no leading punctuation."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str, what: str) -> str:
    """``name`` itself.

    Args:
        name: To be looked at.
        what: ``model``, ``collection`` or ``head``, for the message.

    Raises:
        InvalidArgument: It can't be a name.
    """
    if not is_name(name):
        raise InvalidArgument(
            f"{name!r} can't name a {what}: use 1 to 100 letters, digits, '.', '_' or '-', "
            "beginning with a letter or a digit"
        )
    return name


def parse_version(text: str) -> int | None:
    """The version that ``text`` spells, or None if it spells none (leading zeros included)."""
    return int(text) if _VERSION.fullmatch(text) else None


def parse_reference(reference: str, what: str) -> Reference:
    """``"flowers@3"`` -> ``("flowers", 3)``.

    Raises:
        InvalidArgument: A name that can't be one, or a version that is no positive integer.
    """
    name, at, text = reference.partition("@")
    check_name(name, what)
    version = parse_version(text)
    if at and version is None:
        raise InvalidArgument(
            f"{reference!r} has no usable version: write {name!r} for the newest or '{name}@3' for version 3"
        )
    return Reference(name, version)


def near(name: str, known: Iterable[str]) -> str:
    """A half-sentence that helps after a name that does not exist; empty if there is nothing to say."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(map(repr, close))}?"
    if not names:
        return ""
    return f"; there are {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
