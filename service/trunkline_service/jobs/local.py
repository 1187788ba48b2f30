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

from trunkline_service.batching.engine import Caller
from trunkline_service.collections.rows import Row
from trunkline_service.errors import ImageError, TrunklineError
from trunkline_service.images.inputs import EncodedImage
from trunkline_service.jobs.plan import Plan, chunks, make_plan
from trunkline_service.jobs.sources import FolderScan, SourceItem
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


class UnreadableFile(ImageError):
    """A file that can't be read: gone, not allowed, not a regular file."""

    reason = "unreadable_file"


def run(
    workspace: Workspace,
    scan: FolderScan,
    into: str,
    model: str = "",
    retry_failed: bool = False,
    progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
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

    Raises:
        SpaceMismatch, DecodeModeMismatch: The collection holds other vectors.
        StorageError: The disk is full, say; what was committed stays.
    """
    started = clock()
    collection = workspace.open_for(into, model)
    plan = make_plan(scan.items, collection.states(), retry_failed)
    job = uuid.uuid4().hex[:12]
    name = model or collection.spec.model
    errors: Counter[str] = Counter()
    done, version = 0, collection.version
    for rows in _embedded_chunks(workspace, plan, name, job):
        version = collection.upsert(rows, space_id=collection.spec.space_id, decode=workspace.settings.decode)
        done += len(rows)
        errors.update(row.error.partition(":")[0] for row in rows if row.error is not None)
        if progress is not None:
            progress(Progress(done, len(plan.todo), errors.total(), clock() - started))
    return JobResult(
        job=job,
        collection=into,
        model=workspace.repository.resolve(name).card.reference,
        space_id=collection.spec.space_id,
        embedded=done - errors.total(),
        unchanged=plan.done,
        failed_before=plan.failed_before,
        errors=dict(errors),
        seconds=clock() - started,
        version=version,
    )


def _embedded_chunks(workspace: Workspace, plan: Plan, model: str, job: str) -> Iterator[list[Row]]:
    """Rows by chunk, in order, with a few chunks under way at once."""
    pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="job")
    waiting: deque[Future[list[Row]]] = deque()
    try:
        for chunk in chunks(plan.todo, _CHUNK_IMAGES, _CHUNK_BYTES):
            waiting.append(pool.submit(_embed_chunk, workspace, chunk, model, job))
            if len(waiting) == _IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _embed_chunk(workspace: Workspace, chunk: list[SourceItem], model: str, job: str) -> list[Row]:
    limit = workspace.settings.image.max_bytes
    read = [_read(item, limit) for item in chunk]
    images = [EncodedImage(data) for data in read if isinstance(data, bytes)]
    embedded = workspace.embed(images, model, Caller(lane="bulk"))
    rows: list[Row] = []
    position = 0
    for item, data in zip(chunk, read, strict=True):
        if isinstance(data, ImageError):
            rows.append(_row(item, job, embedded.decode, b"", None, data))
            continue
        error = embedded.errors.get(position)
        if error is not None and not isinstance(error, ImageError):
            # A defect or a deadline says nothing about the image: the job stops, and can be run again.
            raise error
        vector = None if error else embedded.vectors[position]
        rows.append(_row(item, job, embedded.decode, data, vector, error))
        position += 1
    return rows


def _read(item: SourceItem, limit: int) -> bytes | ImageError:
    try:
        # A FIFO or a device would block for ever.
        if not stat.S_ISREG(item.path.stat().st_mode):
            return UnreadableFile("not a regular file; leave it out or replace it")
        if item.size > limit:
            return UnreadableFile(
                f"{item.size:,} bytes, more than the {limit:,} that are allowed; make it smaller"
            )
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
        source=str(item.path),
        content_hash=hashlib.sha256(data).hexdigest() if data else "",
        etag=None,
        size=item.size,
        mtime=item.mtime,
        decode=decode,
        status="error" if error else "ok",
        error=f"{error.reason}: {error.message}" if error else None,
        job=job,
    )
