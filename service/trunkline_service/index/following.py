"""From one version of a collection to a later one: only what changed is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.fragments import FragmentRows, Fragments, Stamps
from trunkline_service.index.reading import read_rows
from trunkline_service.index.segment import Part, Segment, at_fragments, concatenated
from trunkline_service.index.view import View

# A part is merged into the one before it once it is half as large, so there are few of them, and a row is
# copied a few times at most.
_RATIO = 2
# A part of which so little lives is written anew.
_LIVING = 0.5
# An index of which this share was written anew is compared with what was written: where the vectors are the
# same, as after a relabelling, the rows stay in it. Fewer are not worth a copy of its texts.
_RENEWED = 0.05


def flat_view(fragments: Fragments) -> View:
    """A version without an index."""
    part = read_rows(fragments).part
    parts = () if part is None else (part,)
    return View(fragments.uid, fragments.version, fragments.spec, fragments.keys, parts)


def follow(view: View, now: Fragments) -> View:
    """The view of another version of the same collection, also of one that was set back.

    A row whose fragment is in both versions is the same in both. Of the other fragments, each row's pair of
    id and writing version is read: where a part knows that pair, its row lives, and only its place may be
    another; else it is read. What no fragment holds any more is dead.

    Args:
        view: An earlier version.
        now: The version to come to.

    Raises:
        StorageError: The version was removed meanwhile.
    """
    if now.keys == view.keys:
        return replace(view, version=now.version, spec=now.spec)
    known = {key: index for index, key in enumerate(now.keys)}
    moved = np.array([known.get(key, -1) for key in view.keys], np.int32)
    before = set(view.keys)
    fresh_keys = [key for key in now.keys if key not in before]
    stamps = now.stamps(fresh_keys)
    parts, unknown = _placed(view.parts, moved, stamps)
    if unknown.any():
        wanted = stamps.only(unknown)
        keys = [now.keys[index] for index in np.unique(wanted.fragment).tolist()]
        held = _worth_renewing(parts, wanted)
        read = read_rows(now, keys, wanted.row_ids, int(wanted.written.min()), held)
        if read.same is not None:
            parts[0] = _renewed(parts[0], read.same)
        if read.part is not None:
            parts.append(read.part)
    return replace(view, version=now.version, spec=now.spec, keys=now.keys, parts=_tidied(parts))


def _placed(
    parts: Sequence[Part], moved: NDArray[np.int32], stamps: Stamps
) -> tuple[list[Part], NDArray[np.bool_]]:
    """The parts with their rows' new places, and which stamps no part knows."""
    unknown = np.ones(len(stamps.row_ids), bool)
    same_places = bool((moved == np.arange(len(moved))).all())
    placed: list[Part] = []
    for part in parts:
        positions = part.segment.positions_of(stamps.row_ids)
        here = positions >= 0
        here[here] = part.segment.written[positions[here]] == stamps.written[here]
        unknown &= ~here
        at = positions[here]
        if same_places and not len(at):
            placed.append(part)
            continue
        # A dead row may name a fragment that is long gone.
        fragment = moved[np.where(part.alive, part.fragment, 0)] if len(moved) else part.fragment.copy()
        alive = part.alive & (fragment >= 0) if len(moved) else np.zeros(len(part.segment), bool)
        alive[at] = True
        fragment[at] = stamps.fragment[here]
        placed.append(at_fragments(part, alive, fragment.astype(np.int32, copy=False)))
    return placed, unknown


def _worth_renewing(parts: Sequence[Part], wanted: Stamps) -> Segment | None:
    """The indexed segment, where many of its rows were written anew."""
    if not parts or parts[0].segment.approximate is None:
        return None
    segment = parts[0].segment
    again = int(np.count_nonzero(segment.positions_of(wanted.row_ids) >= 0))
    return segment if again >= _RENEWED * len(segment) else None


def _renewed(part: Part, rows: FragmentRows) -> Part:
    """The part with rows that were written anew, and have the vectors that it has of them."""
    at = part.segment.positions_of(rows.stamps.row_ids)
    alive, fragment = part.alive.copy(), part.fragment.copy()
    alive[at] = True
    fragment[at] = rows.stamps.fragment
    return at_fragments(replace(part, segment=part.segment.renewed(at, rows)), alive, fragment)


def _tidied(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Without empty parts, dead weight and many small ones; what has an approximate structure stays."""
    indexed = [part for part in parts if part.segment.approximate is not None]
    rest = [part for part in parts if part.segment.approximate is None and part.living]
    kept = [part.kept() if part.living < _LIVING * len(part.segment) else part for part in rest]
    tidied: list[Part] = []
    for part in kept:
        tidied.append(part)
        first = len(tidied) - 1
        while first and len(tidied[first - 1].segment) <= _RATIO * sum(
            len(other.segment) for other in tidied[first:]
        ):
            first -= 1
        if first < len(tidied) - 1:
            tidied[first:] = [concatenated(tidied[first:])]
    return (*indexed, *tidied)
