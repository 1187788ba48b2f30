"""Tasks to rows, a few chunks at once, so that reading, decoding and inference overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from trunkline_service.collections.known import Known
from trunkline_service.jobs.chunk import ChunkWork, Done
from trunkline_service.jobs.contents import Contents
from trunkline_service.jobs.plan import Task, chunks
from trunkline_service.jobs.stages import StageTimes
from trunkline_service.jobs.target import Target

# Chunks being read and embedded at once: while one drains, the next keeps the stages busy.
IN_FLIGHT = 4
READERS = 16
_REMEMBERED_BYTES = 8 * 1024 * 1024


def done_chunks(
    target: Target, tasks: Iterable[Task], known: Known, times: StageTimes, job: str, replace: bool
) -> Iterator[Done]:
    """The outcomes of chunks of tasks, in the order of the tasks.

    Tasks are taken no further ahead than `IN_FLIGHT` chunks, so memory is bounded whatever the source.

    Args:
        target: Embeds.
        tasks: What to do.
        known: What the collection held at the start.
        times: Told how busy the stages are.
        job: Its id.
        replace: See `JobOptions`.

    Raises:
        TrunklineError: See `ChunkWork.do`.
    """
    readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
    workers = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="chunk")
    work = ChunkWork(target, known, readers, times, Contents(_REMEMBERED_BYTES), job, replace)
    waiting: deque[Future[Done]] = deque()
    try:
        for chunk in chunks(tasks, target.limits.images, target.limits.bytes):
            waiting.append(workers.submit(work.do, chunk))
            while len(waiting) >= IN_FLIGHT or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        workers.shutdown(wait=True, cancel_futures=True)
        readers.shutdown(wait=True, cancel_futures=True)
