"""Rows whose source is gone."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline_service.collections.known import Known
from trunkline_service.jobs.shard import Shard
from trunkline_service.jobs.sources import Source
from trunkline_service.jobs.target import Target


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
            if unseen and source.covers(where) and row_id.startswith(source.id_prefix) and shard.has(row_id)
        ]
        if gone:
            yield gone
