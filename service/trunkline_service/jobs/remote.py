"""A job's target behind a running server: images are read here, embedded and stored there, in the bulk lane."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import trunkline
from trunkline_service import errors
from trunkline_service.collections.known import Known
from trunkline_service.collections.partial import Touched
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import DecodeModeMismatch, FailedPrecondition, ImageError
from trunkline_service.jobs.target import Limits, Vectors

_CHUNK_IMAGES = 64
_CHUNK_BYTES = 8 * 1024 * 1024
_IDS_AT_ONCE = 500
_KNOWN = ("status", "size", "mtime", "etag", "content_hash", "source")


class RemoteTarget:
    """See `Target`.

    Args:
        client: Connected to the server.
        into: The collection; made if it does not exist.
        model: Which model; empty for the collection's own, or the server's default for a new one.
        multi_label: Whether a new collection holds lists of labels.

    Raises:
        trunkline.TrunklineError: The server can't be reached, or refuses.
        SpaceMismatch: The collection holds vectors of another space.
        FailedPrecondition: The collection's space was declared by hand: no model makes its vectors.
    """

    def __init__(
        self, client: trunkline.Client, into: str, model: str = "", *, multi_label: bool = False
    ) -> None:
        self._client = client
        server = client.server_info()
        info = _open(client, into, model, multi_label)
        if info.declared:
            raise FailedPrecondition(
                f"collection {into!r} holds vectors that were brought in; embed into another collection"
            )
        pinned = client.model(model or info.model)
        if pinned.space_id != info.space_id:
            raise errors.SpaceMismatch(
                f"model {pinned.name}@{pinned.version} makes vectors of space {pinned.space_id}; collection {into!r} "
                f"holds space {info.space_id}: name the model of that space"
            )
        self.name = into
        self.model = f"{pinned.name}@{pinned.version}"
        self.spec = CollectionSpec(
            space_id=info.space_id,
            dim=info.dim,
            model=info.model,
            artifact_id=info.artifact_id,
            decode=cast(Any, info.decode),
            pretrained=info.pretrained,
            dtype=cast(Any, info.dtype),
            multi_label=info.multi_label,
            metric=info.metric,
        )
        self.limits = Limits(
            images=min(_CHUNK_IMAGES, server.max_images_per_request),
            bytes=min(_CHUNK_BYTES, server.max_message_bytes // 2),
            image_bytes=server.max_image_bytes,
        )

    def known(self) -> Known:
        """See `Target`."""
        batches = self._client.scan(self.name, columns=_KNOWN, vectors=False)
        return Known(
            (
                rows.ids,
                rows.statuses,
                rows.sizes,
                rows.mtimes,
                rows.etags,
                rows.content_hashes,
                rows.sources,
            )
            for rows in batches
        )

    def find(self, ids: Sequence[str]) -> Mapping[str, Row]:
        """See `Target`."""
        found: dict[str, Row] = {}
        for part in _parts(ids):
            for rows in self._client.scan(self.name, where=_one_of("id", part), parameters=part):
                found |= {row.id: _row(row) for row in rows.rows}
        return found

    def find_contents(self, content_hashes: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """See `Target`."""
        found: dict[str, NDArray[np.float32]] = {}
        for part in _parts(content_hashes):
            condition = f"status = 'ok' AND decode = ? AND {_one_of('content_hash', part)}"
            parameters = [self.spec.decode, *part]
            for rows in self._client.scan(
                self.name, ["content_hash"], condition, parameters, vectors=True, dtype="float32"
            ):
                assert rows.vectors is not None
                found |= zip(rows.content_hashes, rows.vectors.astype(np.float32), strict=True)
        return found

    def embed(self, images: Sequence[bytes]) -> Vectors:
        """See `Target`."""
        result = self._client.embed(list(images), self.model, lane="bulk", expect_space=self.spec.space_id)
        decode = result.model.decode if result.model is not None else self.spec.decode
        if decode != self.spec.decode:
            raise DecodeModeMismatch(
                f"the server decodes {decode!r}, collection {self.name!r} holds {self.spec.decode!r}; run the server "
                f"with --decode {self.spec.decode}, or use another collection"
            )
        failures = {failure.index: _image_error(failure) for failure in result.errors}
        return Vectors(np.asarray(result.vectors, np.float32), failures)

    def upsert(self, rows: Sequence[Row]) -> None:
        """See `Target`."""
        self._client.upsert_rows(
            self.name, map(_sent, rows), space_id=self.spec.space_id, decode=self.spec.decode
        )

    def refresh(self, rows: Sequence[Row]) -> None:
        """See `Target`. What people said is read a moment before it is written back."""
        before = self.find([row.id for row in rows])
        self.upsert([_kept(row, before[row.id]) for row in rows if row.id in before])

    def touch(self, touched: Sequence[Touched]) -> None:
        """See `Target`; as `refresh`."""
        before = self.find([entry.id for entry in touched])
        self.upsert(
            [
                dataclasses.replace(before[entry.id], **entry._asdict())
                for entry in touched
                if entry.id in before
            ]
        )

    def delete(self, ids: Sequence[str]) -> int:
        """See `Target`."""
        return self._client.delete(self.name, ids).rows if ids else 0

    def sources(self) -> Iterator[tuple[list[str], list[str]]]:
        """See `Target`."""
        for rows in self._client.scan(self.name, columns=["source"], vectors=False):
            yield rows.ids, rows.sources

    def version(self) -> int:
        """See `Target`."""
        return self._client.collection(self.name).version

    def tidy(self) -> None:
        """See `Target`."""
        try:
            self._client.compact(self.name, keep_all=True)
        except trunkline.FailedPrecondition:
            # Others write at the same time; the next run tidies up.
            return


def _open(client: trunkline.Client, into: str, model: str, multi_label: bool) -> trunkline.CollectionInfo:
    try:
        return client.collection(into)
    except trunkline.NotFound:
        pass
    try:
        return client.create_collection(into, model, multi_label=multi_label)
    except trunkline.FailedPrecondition:
        # Another job was faster: what it made is looked at like any other.
        return client.collection(into)


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), _IDS_AT_ONCE):
        yield list(texts[start : start + _IDS_AT_ONCE])


def _one_of(column: str, values: Sequence[str]) -> str:
    return f"{column} IN ({', '.join('?' * len(values))})"


def _row(row: trunkline.Row) -> Row:
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(Row)}
    if row.embedding is not None:
        values["embedding"] = np.asarray(row.embedding, np.float32)
    return Row(**values)


def _sent(row: Row) -> trunkline.Row:
    return trunkline.Row(**{field.name: getattr(row, field.name) for field in dataclasses.fields(Row)})


def _kept(row: Row, before: Row) -> Row:
    said = {name: value for name, value in row.metadata.items() if value is not None}
    return dataclasses.replace(
        row, label=before.label, split=before.split, metadata={**before.metadata, **said}
    )


def _image_errors() -> dict[str, type[ImageError]]:
    return {kind.reason: kind for kind in ImageError.__subclasses__()}


def _image_error(failure: trunkline.ItemFailure) -> ImageError:
    """What the server says of an image, as the error that it would be here.

    Raises:
        FailedPrecondition: It says nothing of the image (a defect, a deadline): the job stops.
    """
    kind = _image_errors().get(failure.reason)
    if kind is None:
        raise FailedPrecondition(
            f"the server failed on an image ({failure.reason}: {failure.message}); run the job again"
        )
    return kind(failure.message)
