"""One chunk of a job: read, compare, embed, make rows."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from trunkline_service.collections.known import Known
from trunkline_service.collections.rows import Row
from trunkline_service.errors import ImageError, JobStopped, UnreadableFile
from trunkline_service.jobs.contents import Contents, Outcome
from trunkline_service.jobs.plan import Task
from trunkline_service.jobs.sources import SourceItem
from trunkline_service.jobs.stages import StageTimes
from trunkline_service.jobs.target import Target


@dataclass(frozen=True)
class Done:
    """What became of a chunk.

    Attributes:
        rows: To be stored.
        unread: Reasons of the images that can't be read now and whose good rows stay as they are.
        touched: How many of them keep the vector they had.
        duplicates: How many took the vector of another image with the same bytes.
    """

    rows: list[Row]
    unread: list[str]
    touched: int
    duplicates: int


@dataclass(frozen=True)
class _Read:
    """Bytes of an image with their hash, or why they can't be read."""

    data: bytes
    content_hash: str
    error: ImageError | None


class ChunkWork:
    """Does chunks for one job; threads may share it.

    Args:
        target: Embeds.
        known: What the collection held at the start.
        readers: Threads that read.
        times: Told how busy they are.
        contents: Of this job.
        job: Its id.
        replace: See `JobOptions`.
    """

    def __init__(
        self,
        target: Target,
        known: Known,
        readers: Executor,
        times: StageTimes,
        contents: Contents,
        job: str,
        replace: bool,
    ) -> None:
        self._target = target
        self._known = known
        self._readers = readers
        self._times = times
        self._contents = contents
        self._job = job
        self._replace = replace

    def do(self, tasks: Sequence[Task]) -> Done:
        """Rows for the tasks, in their order.

        Raises:
            JobStopped: An image would take over the row of another source's image.
            TrunklineError: A request failed as a whole.
        """
        reads = list(self._readers.map(self._read, [task.item for task in tasks]))
        compared = [task.item.id for task in tasks if task.compare]
        before = self._target.find(compared) if compared else {}
        rows: list[Row | None] = [None] * len(tasks)
        to_embed: list[int] = []
        unread: list[str] = []
        touched = 0
        for position, (task, read) in enumerate(zip(tasks, reads, strict=True)):
            old = before.get(task.item.id)
            if isinstance(read.error, UnreadableFile) and old is not None and old.status == "ok":
                # That it can't be read says nothing about the image: a good vector is not given up for it.
                unread.append(read.error.reason)
            elif read.error is not None:
                rows[position] = self._row(task.item, read, Outcome(None, read.error), old)
            elif old is not None and old.status == "ok" and old.content_hash == read.content_hash:
                rows[position] = self._touched(old, task.item)
                touched += 1
            else:
                if old is not None:
                    self._check_owner(old, task.item)
                to_embed.append(position)
        outcomes, duplicates = self._embed([reads[position] for position in to_embed])
        for position, outcome in zip(to_embed, outcomes, strict=True):
            item = tasks[position].item
            rows[position] = self._row(item, reads[position], outcome, before.get(item.id))
        return Done([row for row in rows if row is not None], unread, touched, duplicates)

    def _read(self, item: SourceItem) -> _Read:
        with self._times.busy("read"):
            try:
                data = item.read(self._target.limits.image_bytes)
            except ImageError as exc:
                return _Read(b"", "", exc)
            return _Read(data, hashlib.sha256(data).hexdigest(), None)

    def _embed(self, reads: Sequence[_Read]) -> tuple[list[Outcome], int]:
        """An outcome for each, every content embedded once; and how many were another's."""
        claims: list[Future[Outcome]] = []
        mine: list[_Read] = []
        for read in reads:
            future, is_mine = self._contents.claim(read.content_hash)
            claims.append(future)
            if is_mine:
                mine.append(read)
        duplicates = len(reads) - len(mine)
        try:
            duplicates += self._settle(mine)
        except BaseException as exc:
            for read in mine:
                self._contents.give_up(read.content_hash, exc)
            raise
        return [future.result() for future in claims], duplicates

    def _settle(self, mine: Sequence[_Read]) -> int:
        """Produces what this chunk claimed; gives how many of the contents were in the collection."""
        asked = [read.content_hash for read in mine if self._known.has_content(read.content_hash)]
        stored = self._target.find_contents(asked) if asked else {}
        for content_hash, vector in stored.items():
            self._contents.settle(content_hash, Outcome(vector, None))
        fresh = [read for read in mine if read.content_hash not in stored]
        if fresh:
            answer = self._target.embed([read.data for read in fresh])
            for position, read in enumerate(fresh):
                error = answer.errors.get(position)
                # A copy: a view would keep the whole request's vectors alive.
                fine = None if error else answer.vectors[position].copy()
                self._contents.settle(read.content_hash, Outcome(fine, error))
        return len(stored)

    def _check_owner(self, old: Row, item: SourceItem) -> None:
        """Refuses that an image takes over a row of another source's image by chance."""
        if self._replace or old.status == "error" or _same_place(old.source, item.source):
            return
        raise JobStopped(
            f"row {old.id!r} of collection {self._target.name!r} is the image {old.source!r}, and this source has "
            f"another one under the same id at {item.source!r}; give this source's ids a prefix (--id-prefix), or "
            "replace the rows (--replace)"
        )

    def _touched(self, old: Row, item: SourceItem) -> Row:
        return dataclasses.replace(
            old,
            source=item.source or old.source,
            size=item.size,
            mtime=item.mtime,
            etag=item.etag,
            metadata={**old.metadata, **item.metadata},
        )

    def _row(self, item: SourceItem, read: _Read, outcome: Outcome, old: Row | None) -> Row:
        error = outcome.error
        # What the source does not say, people may have said: it stays.
        return Row(
            id=item.id,
            embedding=outcome.vector,
            label=item.label if item.label is not None or old is None else old.label,
            split=item.split if item.split is not None or old is None else old.split,
            source=item.source,
            content_hash=read.content_hash,
            etag=item.etag,
            size=item.size,
            mtime=item.mtime,
            decode=self._target.spec.decode,
            status="error" if error else "ok",
            error=f"{error.reason}: {error.message}" if error else None,
            job=self._job,
            metadata={**(old.metadata if old is not None else {}), **item.metadata},
        )


def _same_place(before: str, now: str) -> bool:
    # Rows of older versions hold the path as it was typed: the end of the whole one.
    return not before or before == now or now.endswith("/" + before.removeprefix("./"))
