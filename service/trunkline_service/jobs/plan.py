"""What a job still has to do: the anti-join of a source and what the collection holds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from trunkline_service.collections.known import Known, Verdict, stamp
from trunkline_service.jobs.shard import WHOLE, Shard
from trunkline_service.jobs.sources import SourceItem

_AT_ONCE = 256
_HELD_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Task:
    """One image to do.

    Attributes:
        item: The image.
        compare: There is a row of its id: if the bytes are the same, the vector stays.
    """

    item: SourceItem
    compare: bool


@dataclass
class Listed:
    """What the plan has seen of the source so far.

    Attributes:
        tasks: Images to do.
        unchanged: Rows that are as their sources are.
        failed_before: Error rows that are left as they are.
        complete: The source was listed to its end.
    """

    tasks: int = 0
    unchanged: int = 0
    failed_before: int = 0
    complete: bool = False

    @property
    def items(self) -> int:
        """All that were listed, of this shard."""
        return self.tasks + self.unchanged + self.failed_before


def plan(
    items: Iterable[SourceItem],
    known: Known,
    listed: Listed,
    *,
    shard: Shard = WHOLE,
    retry_failed: bool = False,
    verify: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Task]:
    """The images of a source that are not done, lazily.

    Compares size and modification time (or the store's tag) of each with what its row recorded.

    Args:
        items: The source.
        known: What the collection holds; notes what the source has.
        listed: Is kept up to date.
        shard: The part to do.
        retry_failed: Do error rows again.
        verify: Do every row again whose bytes are not what its content hash says.
        stop: Asked before every item; True ends the plan there.
    """
    stopped = False

    def listing() -> Iterator[SourceItem]:
        nonlocal stopped
        for item in items:
            stopped = stop()
            if stopped:
                return
            if shard.has(item.id):
                yield item

    mine = listing()
    while group := _ahead(mine):
        stamps = [stamp(item.size, item.mtime, item.etag) for item in group]
        for item, verdict in zip(
            group, known.judge([item.id for item in group], stamps).tolist(), strict=True
        ):
            if verdict == Verdict.FAILED and not retry_failed:
                listed.failed_before += 1
            elif verdict == Verdict.SAME and not verify:
                listed.unchanged += 1
            else:
                listed.tasks += 1
                yield Task(item, compare=verdict != Verdict.NEW)
    listed.complete = not stopped


def _ahead(items: Iterator[SourceItem]) -> list[SourceItem]:
    """The next items, to be judged together: few where each holds its bytes already."""
    group: list[SourceItem] = []
    held = 0
    for item in items:
        group.append(item)
        # Where no place is recorded, the bytes came with the item.
        held += 0 if item.source else item.size or UNKNOWN_BYTES
        if len(group) == _AT_ONCE or held >= _HELD_BYTES:
            break
    return group


def chunks(tasks: Iterable[Task], most_images: int, most_bytes: int) -> Iterator[list[Task]]:
    """Cuts tasks into chunks within both bounds; an image larger than ``most_bytes`` goes alone.

    What has no size yet counts as `UNKNOWN_BYTES`.
    """
    chunk: list[Task] = []
    size = 0
    for task in tasks:
        bytes_ = UNKNOWN_BYTES if task.item.size is None else task.item.size
        if chunk and (len(chunk) == most_images or size + bytes_ > most_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(task)
        size += bytes_
    if chunk:
        yield chunk


UNKNOWN_BYTES = 1024 * 1024
"""What an image is taken to hold where listing does not tell: rather too much, since it bounds memory."""
