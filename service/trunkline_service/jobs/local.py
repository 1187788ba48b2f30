"""Runs a job in this process: read -> decode -> infer -> store, overlapped, each chunk one commit."""

from __future__ import annotations

import hashlib
import stat
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.engine import Caller, Embedded
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.errors import ImageError, ImageTooLarge, Overloaded, TrunklineError, UnreadableFile
from trunkline_service.images.inputs import EncodedImage
from trunkline_service.jobs.plan import Plan, chunks, make_plan
from trunkline_service.jobs.sources import FolderScan, SourceItem, text_of
from trunkline_service.settings import DecodeMode
from trunkline_service.workspace import Workspace

_CHUNK_IMAGES = 256
_CHUNK_BYTES = 48 * 1024 * 1024
# Chunks being embedded at once: while one drains, the next keeps the stages busy.
_IN_FLIGHT = 3


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        done: Images stored in this run, error rows among them.
        total: Images to do in this run.
        errors: Error rows of this run.
        seconds: Since it began.
    """

    done: int
    total: int
    errors: int
    seconds: float


@dataclass(frozen=True)
class JobResult:
    """What a job did.

    Attributes:
        job: Its id, recorded in every row it wrote.
        collection: Where it wrote.
        model: The model, ``name@version``.
        space_id: The space.
        embedded: Images embedded in this run.
        unchanged: Images that were done before.
        failed_before: Error rows of earlier runs, left as they are.
        errors: Error rows of this run, by reason.
        seconds: Wall-clock time of this run.
        version: The collection's version at the end.
    """

    job: str
    collection: str
    model: str
    space_id: str
    embedded: int
    unchanged: int
    failed_before: int
    errors: dict[str, int]
    seconds: float
    version: int


def run(
    workspace: Workspace,
    scan: FolderScan,
    into: str,
    model: str = "",
    retry_failed: bool = False,
    progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> JobResult:
    """Embeds the images of a folder into a collection; run again, it goes on where it ended.

    The upsert of a chunk is the only commit, so a run that was killed has stored whole chunks, and
    the next run plans what is missing from what the collection holds (contract 7).

    Args:
        workspace: Models and data.
        scan: The source.
        into: Name of the collection; made if it does not exist.
        model: Which model; empty for the collection's own, or the default for a new one.
        retry_failed: Try the error rows of earlier runs again.
        progress: Called after each commit.
        clock: Monotonic seconds.
        pause: Waits so many seconds; asked when others fill the engine's queue.

    Raises:
        SpaceMismatch: The collection holds vectors of another space.
        StorageError: The disk is full, say; what was committed stays.
    """
    started = clock()
    collection = workspace.open_for(into, model)
    # Pinned: a version that is published meanwhile belongs to the next job.
    pinned = workspace.models.get(model or collection.spec.model).card.reference
    plan = make_plan(scan.items, collection.states(), retry_failed)
    job = uuid.uuid4().hex[:12]
    errors: Counter[str] = Counter()
    done, version = 0, collection.version
    embedding = _Embedding(workspace, collection, pinned, job, pause)
    for rows, space_id in embedding.chunks(plan):
        version = collection.upsert(rows, space_id=space_id, decode=collection.spec.decode)
        done += len(rows)
        errors.update(row.error.partition(":")[0] for row in rows if row.error is not None)
        if progress is not None:
            progress(Progress(done, len(plan.todo), errors.total(), clock() - started))
    return JobResult(
        job=job,
        collection=into,
        model=pinned,
        space_id=collection.spec.space_id,
        embedded=done - errors.total(),
        unchanged=plan.done,
        failed_before=plan.failed_before,
        errors=dict(errors),
        seconds=clock() - started,
        version=version,
    )


class _Embedding:
    """Turns planned items into rows, a few chunks at once."""

    def __init__(
        self,
        workspace: Workspace,
        collection: Collection,
        model: str,
        job: str,
        pause: Callable[[float], None],
    ) -> None:
        self._workspace = workspace
        self._collection = collection
        self._model = model
        self._job = job
        self._pause = pause

    def chunks(self, plan: Plan) -> Iterator[tuple[list[Row], str]]:
        """Rows and the space of their vectors, chunk by chunk, in order."""
        # All chunks under way together must fit into the bulk lane's part of the engine's queue.
        queue = self._workspace.settings.queue
        most_images = max(1, min(_CHUNK_IMAGES, queue.max_images // (_IN_FLIGHT + 1)))
        most_bytes = max(1, min(_CHUNK_BYTES, queue.max_bytes // (_IN_FLIGHT + 1)))
        pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="job")
        waiting: deque[Future[tuple[list[Row], str]]] = deque()
        try:
            for chunk in chunks(plan.todo, most_images, most_bytes):
                waiting.append(pool.submit(self._rows, chunk))
                if len(waiting) == _IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _rows(self, chunk: list[SourceItem]) -> tuple[list[Row], str]:
        limit = self._workspace.settings.image.max_bytes
        read = [_read(item, limit) for item in chunk]
        embedded = self._embed([EncodedImage(data) for data in read if isinstance(data, bytes)])
        rows: list[Row] = []
        position = 0
        for item, data in zip(chunk, read, strict=True):
            if isinstance(data, ImageError):
                rows.append(_row(item, self._job, embedded.decode, b"", None, data))
                continue
            error = embedded.errors.get(position)
            if error is not None and not isinstance(error, ImageError):
                # A defect or a deadline says nothing about the image: the job stops, and can be run again.
                raise error
            vector = None if error else embedded.vectors[position]
            rows.append(_row(item, self._job, embedded.decode, data, vector, error))
            position += 1
        return rows, embedded.card.space_id

    def _embed(self, images: list[EncodedImage]) -> Embedded:
        while True:
            try:
                return self._workspace.embed_for(self._collection, images, self._model, Caller(lane="bulk"))
            except Overloaded as busy:
                self._pause(busy.retry_after_s)


def _read(item: SourceItem, limit: int) -> bytes | ImageError:
    try:
        # A FIFO or a device would block for ever.
        if not stat.S_ISREG(item.path.stat().st_mode):
            return UnreadableFile("not a regular file; leave it out or replace it")
        if item.size > limit:
            return ImageTooLarge(f"{item.size:,} bytes; at most {limit:,} are allowed: make it smaller")
        return item.path.read_bytes()
    except OSError as exc:
        return UnreadableFile(f"can't be read: {exc.strerror or exc}")


def _row(
    item: SourceItem,
    job: str,
    decode: DecodeMode,
    data: bytes,
    vector: NDArray[np.float32] | None,
    error: TrunklineError | None,
) -> Row:
    return Row(
        id=item.id,
        embedding=vector,
        label=item.label,
        split=item.split,
        source=text_of(item.path),
        content_hash=hashlib.sha256(data).hexdigest() if data else "",
        etag=None,
        size=item.size,
        mtime=item.mtime,
        decode=decode,
        status="error" if error else "ok",
        error=f"{error.reason}: {error.message}" if error else None,
        job=job,
    )
