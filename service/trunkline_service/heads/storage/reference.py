"""References to heads: ``name``, ``name@version``, ``name@alias``."""

from __future__ import annotations

from typing import NamedTuple

from trunkline_service.errors import InvalidArgument
from trunkline_service.names import check_name, is_name, parse_version


class HeadReference(NamedTuple):
    """A head asked for by name.

    Attributes:
        name: A name that can be one.
        version: A positive integer, or None.
        alias: The word of an alias, or None; with neither, the serving version is meant.
    """

    name: str
    version: int | None = None
    alias: str | None = None


def parse_head(reference: str) -> HeadReference:
    """``"flowers"``, ``"flowers@3"``, ``"flowers@prod"``.

    Raises:
        InvalidArgument: A name that can't be one, or neither a version nor an alias after the ``@``.
    """
    name, at, word = reference.partition("@")
    check_name(name, "head")
    if not at:
        return HeadReference(name)
    version = parse_version(word)
    if version is not None:
        return HeadReference(name, version)
    if not is_alias(word):
        raise InvalidArgument(
            f"{reference!r} has no usable version: write {name!r} for the one that serves, '{name}@3' for version "
            f"3, or '{name}@prod' for an alias"
        )
    return HeadReference(name, alias=word)


def is_alias(word: str) -> bool:
    """Whether a word can be an alias: a name that is no number, for numbers are versions."""
    return is_name(word) and not word.isdigit()
