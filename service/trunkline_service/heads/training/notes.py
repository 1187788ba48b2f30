"""Sentences about what was left out of a training set, and what looks odd in it. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_SHOWN = 5


def look_alikes(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of distinct labels that are equal once case, blanks and Unicode composition are levelled."""
    groups: dict[str, set[str]] = {}
    for label in labels:
        level = " ".join(unicodedata.normalize("NFKC", label).split()).casefold()
        groups.setdefault(level, set()).add(label)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def some(items: Iterable[str]) -> str:
    """The first few items, and how many follow."""
    listed = list(items)
    rest = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def unlabelled_notes(rows: int) -> list[str]:
    """On rows that had no label."""
    return [f"{rows} rows without a label were left out"] if rows else []


def look_alike_notes(labels: Iterable[str]) -> list[str]:
    """On labels that somebody may have meant to be one."""
    alike = look_alikes(labels)
    if not alike:
        return []
    shown = some(" / ".join(map(repr, group)) for group in alike)
    return [f"labels that differ only by case or blanks are kept as separate classes: {shown}"]
