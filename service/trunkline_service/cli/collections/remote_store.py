"""A server's collections with as much of the store's surface as an import asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import trunkline
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import FailedPrecondition, SpaceMismatch

_FIELDS = [field.name for field in fields(Row)]


class RemoteCollection:
    """See `Collection`: the methods that an import calls, over a client.

    Attributes:
        name: Its name, without alias.
    """

    def __init__(self, client: trunkline.Client, info: trunkline.CollectionInfo) -> None:
        self.name = info.name
        self._client = client
        self._info = info

    @property
    def metric(self) -> str:
        """See `Collection.metric`."""
        return self._info.metric

    @property
    def version(self) -> int:
        """The version when it was opened."""
        return self._info.version

    def check_space(self, space_id: str) -> None:
        """See `Collection.check_space`."""
        if space_id != self._info.space_id:
            raise SpaceMismatch(
                f"collection {self.name!r} holds vectors of space {self._info.space_id}, these are of space "
                f"{space_id}; use the collection's model, or another collection"
            )

    def upsert(
        self, rows: Sequence[Row], *, space_id: str, decode: str | None, allow_mixed_decode: bool = False
    ) -> int:
        """See `Collection.upsert`; a server takes no rows of another decode mode, whatever is allowed."""
        del allow_mixed_decode
        sent = (trunkline.Row(**{name: getattr(row, name) for name in _FIELDS}) for row in rows)
        return self._client.upsert_rows(self.name, sent, space_id=space_id, decode=decode)


class RemoteStore:
    """See `CollectionStore`: the methods that an import calls, over a client."""

    def __init__(self, client: trunkline.Client) -> None:
        self._client = client

    def exists(self, name: str) -> bool:
        """See `CollectionStore.exists`."""
        try:
            self._client.collection(name)
        except trunkline.NotFound:
            return False
        return True

    def open(self, name: str) -> RemoteCollection:
        """See `CollectionStore.open`."""
        return RemoteCollection(self._client, self._client.collection(name))

    def open_or_create(self, name: str, spec: CollectionSpec) -> RemoteCollection:
        """See `CollectionStore.open_or_create`.

        Raises:
            FailedPrecondition: The spec is of a model that the server does not have.
        """
        if self.exists(name):
            return self.open(name)
        info = self._declared(name, spec) if spec.declared else self._made(name, spec)
        return RemoteCollection(self._client, info)

    def _declared(self, name: str, spec: CollectionSpec) -> trunkline.CollectionInfo:
        return self._client.create_collection(
            name,
            space_id=spec.space_id,
            dim=spec.dim,
            dtype=spec.dtype,
            multi_label=spec.multi_label,
            decode=spec.decode,
            metric=spec.metric,
        )

    def _made(self, name: str, spec: CollectionSpec) -> trunkline.CollectionInfo:
        try:
            space = self._client.model(spec.model).space_id
        except trunkline.NotFound:
            space = ""
        if space != spec.space_id:
            raise FailedPrecondition(
                f"the file's vectors were made by model {spec.model} in space {spec.space_id}, and the server has no "
                "such model; put the model there first, or import where --data is"
            )
        return self._client.create_collection(
            name,
            spec.model,
            dtype=spec.dtype,
            multi_label=spec.multi_label,
            decode=spec.decode,
            metric=spec.metric,
        )
