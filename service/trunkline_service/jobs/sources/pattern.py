"""Globs: a fixed part and what may come below it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from trunkline_service.errors import InvalidArgument

_MOST_EXPANDED = 100_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Pattern:
    """What the names below a folder have to be.

    Attributes:
        parts: A wildcard pattern for each name of the path; ``**`` stands for any number of folders.
    """

    parts: tuple[str, ...]

    def matches(self, names: Sequence[str]) -> bool:
        """Whether a file of this path is meant."""
        return _match(self.parts, tuple(names), whole=True)

    def may_hold(self, names: Sequence[str]) -> bool:
        """Whether there can be such a file below a folder of this path."""
        return _match(self.parts, tuple(names), whole=False)

    def __str__(self) -> str:
        return "/".join(self.parts)


def is_url(text: str) -> bool:
    """Whether ``text`` begins with a scheme, as ``s3://`` is."""
    return _URL.match(text) is not None


def has_wildcard(text: str) -> bool:
    """Whether ``text`` is a glob. In a URL ``?`` begins options and is no wildcard."""
    return any(sign in text for sign in ("*[" if is_url(text) else "*?["))


def split_glob(text: str) -> tuple[str, Pattern]:
    """``"a/b/*/c*.jpg"`` -> ``"a/b"`` and the pattern ``*/c*.jpg``.

    Args:
        text: A path or URL with a wildcard.
    """
    parts = text.split("/")
    first = next(number for number, part in enumerate(parts) if has_wildcard(part))
    if is_url(text) and first < 3:
        raise InvalidArgument(f"{text!r} has a wildcard in its bucket or host; write those out")
    below = [part for part in parts[first:] if part not in ("", ".")]
    if below[-1] == "**":
        below.append("*")
    root = "/".join(parts[:first])
    return root or ("/" if text.startswith("/") else "."), Pattern(tuple(below))


def expand_braces(text: str) -> list[str]:
    """``"a-{000..002}.tar"`` -> three names; ``{a,b}`` -> two; text without braces -> itself.

    Raises:
        InvalidArgument: That many names can't be meant.
    """
    texts = [text]
    while True:
        grown = [name for one in texts for name in _expand_first(one)]
        if len(grown) > _MOST_EXPANDED:
            raise InvalidArgument(f"{text!r} stands for more than {_MOST_EXPANDED:,} names; use a wildcard")
        if grown == texts:
            return texts
        texts = grown


def _expand_first(text: str) -> list[str]:
    if found := _RANGE.search(text):
        first, last = found.groups()
        if int(last) - int(first) > _MOST_EXPANDED:
            raise InvalidArgument(f"{text!r} stands for more than {_MOST_EXPANDED:,} names; use a wildcard")
        inner = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    elif found := _CHOICE.search(text):
        inner = found.group(1).split(",")
    else:
        return [text]
    return [text[: found.start()] + part + text[found.end() :] for part in inner]


def _match(parts: tuple[str, ...], names: tuple[str, ...], whole: bool) -> bool:
    if not names:
        return not parts if whole else bool(parts)
    if not parts:
        return False
    if parts[0] == "**":
        return _match(parts[1:], names, whole) or _match(parts, names[1:], whole)
    return fnmatchcase(names[0], parts[0]) and _match(parts[1:], names[1:], whole)
