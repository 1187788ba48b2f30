"""Whether a view is of the history that its collection has now; what of it holds in either case.

A collection that was put back from a backup counts its versions on from there, so that a version's number, and a
row's pair of id and writing version, may stand for other content than a view, or an index on the disk, knows.
Lance names every file that it writes at random: a fragment that two versions share was written before their
histories parted, and so was every row that a version up to that one wrote.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.errors import InvalidArgument
from trunkline_service.index.segment import Part
from trunkline_service.index.view import View

# No version has this number, so that no row of a version is taken for one that bears it.
_NOBODY = np.uint64(2**64 - 1)


def is_known(collection: Collection, view: View, now: Fragments) -> bool | None:
    """Whether the collection has the very version that the view is of; None where that is gone.

    Args:
        collection: Whose version is opened.
        view: Of any version of it.
        now: A version of the history that it has now.

    Raises:
        StorageError: It can't be read.
    """
    if now.version == view.version:
        return now.keys == view.keys
    try:
        then = collection.fragments(view.version)
    except InvalidArgument:
        return None
    return then.uid == view.uid and then.keys == view.keys


def certain(collection: Collection, view: View, now: Fragments) -> View:
    """The view as `follow` may take it to another version.

    The store is asked only where the fragments that both share do not tell.

    Args:
        collection: Whose.
        view: Of a version that it had.
        now: The version to come to.

    Raises:
        StorageError: It can't be read.
    """
    if not any(rows.any() for rows in _uncertain(view, now)) or is_known(collection, view, now):
        return view
    return doubted(view, now)


def doubted(view: View, now: Fragments) -> View:
    """The view without the stamps of rows that may have been written after the histories parted.

    `follow` reads such rows anew, and finds by their vectors which of them an index holds all the same.
    """
    uncertain = _uncertain(view, now)
    return replace(view, parts=tuple(map(_without_stamps, view.parts, uncertain)))


def _without_stamps(part: Part, rows: NDArray[np.bool_]) -> Part:
    if not rows.any():
        return part
    written = np.where(rows, _NOBODY, part.segment.written)
    return replace(part, segment=replace(part.segment, written=written))


def _uncertain(view: View, now: Fragments) -> list[NDArray[np.bool_]]:
    """For each part the rows that both histories may have written, each in its own way, bool (N,)."""
    there = set(now.keys)
    shared = np.array([key in there for key in view.keys], bool)
    parted = max((_latest(part.segment.written[_lies_in(part, shared)]) for part in view.parts), default=0)
    return [
        # What is later than the version to come to is in no row of it.
        (part.segment.written > parted) & (part.segment.written <= now.version)
        for part in view.parts
    ]


def _lies_in(part: Part, fragments: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which living rows lie in some of the fragments, bool (N,)."""
    if not len(fragments):
        return np.zeros(len(part.segment), bool)
    # A dead row may name a fragment that is long gone.
    return part.alive & fragments[np.where(part.alive, part.fragment, 0)]


def _latest(written: NDArray[np.uint64]) -> int:
    return int(written.max(initial=0))
