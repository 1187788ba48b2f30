"""A job's target in this process: a workspace's engine and its collections."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.engine import Caller, Embedded
from trunkline_service.collections.convert import valid_vectors
from trunkline_service.collections.filters import any_of
from trunkline_service.collections.known import Known
from trunkline_service.collections.partial import Touched
from trunkline_service.collections.rows import Row
from trunkline_service.errors import ImageError, Overloaded, StorageError
from trunkline_service.images.inputs import EncodedImage
from trunkline_service.jobs.target import Limits, Vectors, within
from trunkline_service.workspace import Workspace

_log = logging.getLogger(__name__)

_CHUNK_IMAGES = 64
_CHUNK_BYTES = 16 * 1024 * 1024
_BATCH = 65_536
# Fewer fragments than these cost readers little, and merging them costs memory and time.
_SCATTERED = 32


class LocalTarget:
    """See `Target`.

    Args:
        workspace: Models and data.
        into: The collection; made if it does not exist.
        model: Which model; empty for the collection's own, or the default for a new one.
        in_flight: Requests that the job keeps under way.
        pause: Waits so many seconds; asked when others fill the engine's queue.

    Raises:
        SpaceMismatch: The collection holds vectors of another space.
    """

    def __init__(
        self,
        workspace: Workspace,
        into: str,
        model: str = "",
        *,
        in_flight: int,
        multi_label: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._workspace = workspace
        self._collection = workspace.open_for(into, model, multi_label=multi_label)
        self._pause = pause
        self.name = into
        self.spec = self._collection.spec
        self.model = workspace.models.get(model or self.spec.model).card.reference
        # All chunks under way together must fit into the bulk lane's part of the engine's queue.
        queue = workspace.settings.queue
        self.limits = Limits(
            images=max(1, min(_CHUNK_IMAGES, queue.max_images // (in_flight + 1))),
            bytes=max(1, min(_CHUNK_BYTES, queue.max_bytes // (in_flight + 1))),
            # A single image must fit, too.
            image_bytes=min(workspace.settings.image.max_bytes, max(1, queue.max_bytes // (in_flight + 1))),
        )

    def known(self) -> Known:
        """See `Target`."""
        return self._collection.known()

    def find(self, ids: Sequence[str]) -> Mapping[str, Row]:
        """See `Target`."""
        return self._collection.find(ids)

    def find_contents(self, content_hashes: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """See `Target`."""
        condition = f"status = 'ok' AND decode = ? AND {any_of('content_hash', content_hashes)}"
        columns = ["content_hash", "embedding"]
        found: dict[str, NDArray[np.float32]] = {}
        for batch in self._collection.scan(columns, condition, parameters=[self.spec.decode]):
            hashes = batch.column("content_hash").to_pylist()
            found |= zip(hashes, valid_vectors(batch.column("embedding")).copy(), strict=True)
        return found

    def embed(self, images: Sequence[bytes]) -> Vectors:
        """See `Target`."""
        parts = [self._embed(part) for part in within(images, self.limits)]
        errors: dict[int, ImageError] = {}
        start = 0
        for part in parts:
            for position, error in part.errors.items():
                if not isinstance(error, ImageError):
                    # A defect or a deadline says nothing about the image: the job stops, and can be run again.
                    raise error
                errors[start + position] = error
            start += len(part.vectors)
        return Vectors(np.concatenate([part.vectors for part in parts]), errors)

    def _embed(self, images: Sequence[bytes]) -> Embedded:
        encoded = [EncodedImage(data) for data in images]
        caller = Caller(lane="bulk")
        while True:
            try:
                return self._workspace.embed_for(self._collection, encoded, self.model, caller)
            except Overloaded as busy:
                self._pause(busy.retry_after_s)

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Target`."""
        self._collection.upsert(rows, space_id=self.spec.space_id, decode=self.spec.decode)

    def refresh(self, rows: Sequence[Row]) -> None:
        """See `Target`."""
        self._collection.refresh(rows, space_id=self.spec.space_id, decode=self.spec.decode)

    def touch(self, touched: Sequence[Touched]) -> None:
        """See `Target`."""
        self._collection.touch(touched)

    def delete(self, ids: Sequence[str]) -> int:
        """See `Target`."""
        return self._collection.delete(ids)

    def sources(self) -> Iterator[tuple[list[str], list[str]]]:
        """See `Target`."""
        for batch in self._collection.scan(["id", "source"], batch_size=_BATCH):
            yield batch.column("id").to_pylist(), batch.column("source").to_pylist()

    def version(self) -> int:
        """See `Target`."""
        return self._collection.version

    def tidy(self) -> None:
        """See `Target`."""
        if self._collection.fragment_count() < _SCATTERED:
            return
        try:
            self._collection.compact(keep=None)
        except StorageError as exc:
            # Others write at the same time. The next run tidies up.
            _log.info("collection %s was not compacted: %s", self.name, exc)
