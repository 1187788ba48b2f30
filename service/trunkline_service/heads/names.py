"""Names of heads, and references to them: ``flowers`` (the newest version) or ``flowers@3``."""

from __future__ import annotations

import re

from trunkline_service.errors import InvalidArgument

# Names are folder names: no separators, no leading dot, and short enough for every file system.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def is_name(text: str) -> bool:
    """Whether ``text`` can name a head."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> str:
    """``name`` itself.

    Raises:
        InvalidArgument: It can't name a head.
    """
    if not is_name(name):
        raise InvalidArgument(
            f"{name!r} can't name a head: use 1 to 100 letters, digits, '.', '_' or '-', "
            "beginning with a letter or a digit"
        )
    return name


def parse_version(text: str) -> int | None:
    """The version that ``text`` spells, or ``None`` if it spells none (leading zeros included)."""
    return int(text) if _VERSION.fullmatch(text) else None


def parse_ref(ref: str) -> tuple[str, int | None]:
    """Name and version of a reference; the version is ``None`` where the newest is meant.

    Raises:
        InvalidArgument: A name that can't be one, or a version that is no positive integer.
    """
    name, at, text = ref.partition("@")
    check_name(name)
    version = parse_version(text)
    if at and version is None:
        raise InvalidArgument(
            f"{ref!r} has no usable version: write {name!r} for the newest or '{name}@3' for version 3"
        )
    return name, version
