"""Rows whose source is gone: counted first, and looked at once more before they are deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from trunkline_service.collections.known import Known
from trunkline_service.jobs.shard import Shard
from trunkline_service.jobs.sources import Source
from trunkline_service.jobs.target import Target

# Rows come with their vectors when they are looked at once more.
_AT_ONCE = 1000
_MANY = 100


@dataclass(frozen=True)
class Vanished:
    """What `survey` found.

    Attributes:
        target: The collection.
        source: Listed to its end.
        known: Has noted what the source has.
        shard: Only its ids.
        count: Rows that were there at the start and that the source has no more.
        covered: All rows of the source, with these.
    """

    target: Target
    source: Source
    known: Known
    shard: Shard
    count: int
    covered: int

    def ids(self, since: datetime) -> Iterator[list[str]]:
        """Ids of the rows, in batches, without those that were written meanwhile.

        Every row is read once more: one that another writer replaced belongs to that writer. A row whose
        image another job found again with the same bytes keeps its moment, and can't be told.

        Args:
            since: When the job began, by the clock of whoever stores the rows, with a time zone.
        """
        for gone in vanished_ids(self.target, self.source, self.known, self.shard):
            kept = [
                row_id
                for start in range(0, len(gone), _AT_ONCE)
                for row_id in self._unwritten(gone[start : start + _AT_ONCE], since)
            ]
            if kept:
                yield kept

    def _unwritten(self, ids: Sequence[str], since: datetime) -> list[str]:
        rows = self.target.find(ids).values()
        return [
            row.id
            for row in rows
            if (row.embedded_at is None or row.embedded_at < since) and self.source.covers(row.id, row.source)
        ]


def survey(target: Target, source: Source, known: Known, shard: Shard) -> Vanished:
    """Counts the rows that this source should have and has no more. Nothing is held of them.

    Args:
        target: The collection.
        source: Listed to its end.
        known: Has noted what the source has.
        shard: Only its ids.
    """
    count = covered = 0
    for ids, mine in _covered(target, source, shard):
        covered += sum(mine)
        count += sum(of_it and gone for of_it, gone in zip(mine, known.unseen(ids), strict=True))
    return Vanished(target, source, known, shard, count, covered)


def too_many(vanished: int, covered: int) -> bool:
    """Whether so many rows vanished that rather the source is not all there, say an unmounted folder.

    Args:
        vanished: Rows that the source has no more.
        covered: All rows of the source, with these.
    """
    return vanished > _MANY and 2 * vanished > covered


def vanished_ids(target: Target, source: Source, known: Known, shard: Shard) -> Iterator[list[str]]:
    """Ids of rows that were there at the start, that this source should have, and that it has no more.

    Rows of other sources in the same collection are not its business.

    Args:
        target: The collection.
        source: Listed to its end.
        known: Has noted what the source has.
        shard: Only its ids.
    """
    for ids, sources in target.sources():
        gone = [
            row_id
            for row_id, where, unseen in zip(ids, sources, known.unseen(ids), strict=True)
            if unseen and source.covers(row_id, where) and shard.has(row_id)
        ]
        if gone:
            yield gone


def _covered(target: Target, source: Source, shard: Shard) -> Iterator[tuple[list[str], list[bool]]]:
    for ids, sources in target.sources():
        yield (
            ids,
            [
                source.covers(row_id, where) and shard.has(row_id)
                for row_id, where in zip(ids, sources, strict=True)
            ],
        )
