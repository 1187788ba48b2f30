"""One chunk of a job: read, compare, embed, make rows."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from trunkline_service.collections.known import Known
from trunkline_service.collections.partial import Touched
from trunkline_service.collections.rows import Label, Row
from trunkline_service.errors import ImageError, JobStopped, UnreadableFile
from trunkline_service.jobs.contents import Contents, Outcome
from trunkline_service.jobs.plan import Task
from trunkline_service.jobs.sources import SourceItem
from trunkline_service.jobs.stages import StageTimes
from trunkline_service.jobs.target import Target

# Contents are found by a scan of their hashes; in more rows than these, embedding an image again is cheaper.
_LOOKED_UP = 1_000_000


@dataclass(frozen=True)
class Done:
    """What became of a chunk.

    Attributes:
        new: Rows to be inserted.
        refreshed: Rows that are there and get another vector, or a reason instead of one.
        touched: Rows whose vector stays.
        unread: Reasons of the images that can't be read now and whose good rows stay as they are.
        duplicates: How many took the vector of another image with the same bytes.
    """

    new: list[Row]
    refreshed: list[Row]
    touched: list[Touched]
    unread: list[str]
    duplicates: int

    @property
    def images(self) -> int:
        """How many it were."""
        return len(self.new) + len(self.refreshed) + len(self.touched) + len(self.unread)

    @property
    def reasons(self) -> list[str]:
        """Why images failed, one for each that did."""
        rows = (row.error for row in (*self.new, *self.refreshed))
        return [*(error.partition(":")[0] for error in rows if error is not None), *self.unread]


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
        done = Done([], [], [], [], 0)
        to_embed: list[int] = []
        for position, (task, read) in enumerate(zip(tasks, reads, strict=True)):
            item = task.item
            good = task.compare and self._known.has_embedding(item.id)
            if good and read.error is None and self._known.same_content(item.id, read.content_hash):
                done.touched.append(Touched(item.id, item.source, item.size, item.mtime, item.etag))
            elif good and isinstance(read.error, UnreadableFile):
                # That it can't be read says nothing about the image: a good vector is not given up for it.
                done.unread.append(read.error.reason)
            else:
                to_embed.append(position)
        taken_over = self._taken_over([tasks[position] for position in to_embed])
        usable = [position for position in to_embed if reads[position].error is None]
        outcomes, duplicates = self._embed([reads[position] for position in usable])
        by_position = dict(zip(usable, outcomes, strict=True))
        for position in to_embed:
            task, read = tasks[position], reads[position]
            row = self._row(task.item, read, by_position.get(position) or Outcome(None, read.error))
            # Of another image, what people said of the one before means nothing.
            (done.refreshed if task.compare and row.id not in taken_over else done.new).append(row)
        return dataclasses.replace(done, duplicates=duplicates)

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
        my_claims: list[Future[Outcome]] = []
        mine: list[_Read] = []
        for read in reads:
            future, is_mine = self._contents.claim(read.content_hash)
            claims.append(future)
            if is_mine:
                mine.append(read)
                my_claims.append(future)
        try:
            stored = self._settle(mine)
        except BaseException as exc:
            for read in mine:
                self._contents.give_up(read.content_hash, exc)
            raise
        outcomes = [future.result() for future in claims]
        failed = sum(outcome.error is not None for outcome in outcomes)
        my_failures = sum(claim.result().error is not None for claim in my_claims)
        return outcomes, stored + (len(reads) - len(mine)) - (failed - my_failures)

    def _settle(self, mine: Sequence[_Read]) -> int:
        """Produces what this chunk claimed; gives how many of the contents were in the collection."""
        asked = [read.content_hash for read in mine if self._known.has_content(read.content_hash)]
        if len(self._known) > _LOOKED_UP:
            asked = []
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

    def _taken_over(self, tasks: Sequence[Task]) -> set[str]:
        """Ids of rows that are another source's image so far, and are to be this one's.

        Raises:
            JobStopped: There is one, and nobody asked for that: two sources happen to have one id.
        """
        known = [
            task.item
            for task in tasks
            if task.compare
            and self._known.has_embedding(task.item.id)
            and not self._known.same_source(task.item.id, task.item.source)
        ]
        before = self._target.find([item.id for item in known]) if known else {}
        taken = {
            item.id: item
            for item in known
            if item.id in before and not _same_place(before[item.id].source, item.source)
        }
        if taken and not self._replace:
            item = next(iter(taken.values()))
            raise JobStopped(
                f"row {item.id!r} of collection {self._target.name!r} is the image {before[item.id].source!r}, and "
                f"this source has another one under the same id at {item.source!r}; give this source's ids a prefix "
                "(--id-prefix), or replace the rows (--replace)"
            )
        return set(taken)

    def _row(self, item: SourceItem, read: _Read, outcome: Outcome) -> Row:
        error = outcome.error
        return Row(
            id=item.id,
            embedding=outcome.vector,
            label=self._label(item.label),
            split=item.split,
            source=item.source,
            content_hash=read.content_hash,
            etag=item.etag,
            size=item.size,
            mtime=item.mtime,
            decode=self._target.spec.decode,
            status="error" if error else "ok",
            error=f"{error.reason}: {error.message}" if error else None,
            job=self._job,
            metadata=item.metadata,
        )

    def _label(self, label: Label) -> Label:
        """One label of a collection of lists is a list of one."""
        return (label,) if self._target.spec.multi_label and isinstance(label, str) else label


def _same_place(before: str, now: str) -> bool:
    # Rows of older versions hold the path as it was typed: the end of the whole one.
    return not before or before == now or now.endswith("/" + before.removeprefix("./"))
