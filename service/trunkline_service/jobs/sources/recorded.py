"""The images of another collection, read again from where it recorded them."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.jobs.sources.item import SourceItem
from trunkline_service.jobs.sources.reading import UnreadableReader, reader_of
from trunkline_service.jobs.sources.source import ListedSource, Listing
from trunkline_service.jobs.sources.values import said

_KEPT = ("id", "source", "label", "split", "size", "mtime", "etag", "job")
_BATCH = 8192
_BY_A_CALLER = UnreadableReader(
    "its source was recorded by a caller, not by a job; embed it from its own source"
)


class RecordedSource(ListedSource):
    """Every row of a collection, with its id, labels, split and the users' columns.

    A row whose source was not recorded, or was recorded by no job, is given too: reading it raises
    ``UnreadableFile``. A job reads what its operator named; a caller could have written any path.

    Args:
        collection: Where rows were embedded, with whatever model.
    """

    _ids_are_unique = True
    _labels_from = "from the collection"
    _no_labels = "no labels"

    def __init__(self, collection: Collection) -> None:
        super().__init__(f"collection {collection.name}")
        self._collection = collection

    @property
    def multi_label(self) -> bool:
        """See ``Source.multi_label``."""
        return self._collection.spec.multi_label

    def covers(self, row_id: str, source: str) -> bool:  # noqa: ARG002 - every source takes them
        """Never: the places of its rows are those of other sources."""
        return False

    def _nothing(self) -> str:
        return f"collection {self._collection.name!r} has no rows"

    def _list(self, listing: Listing) -> Iterator[SourceItem]:  # noqa: ARG002 - nothing is left out
        own = [name for name in self._collection.columns() if name not in COLUMNS]
        for batch in self._collection.scan([*_KEPT, *own], batch_size=_BATCH):
            values = [column.to_pylist() for column in batch.columns]
            for row_id, source, label, split, size, mtime, etag, job, *metadata in zip(*values, strict=True):
                yield SourceItem(
                    id=row_id,
                    source=source,
                    read=reader_of(source) if job or not source else _BY_A_CALLER,
                    label=tuple(label) if isinstance(label, list) else label,
                    split=split,
                    size=size,
                    mtime=mtime,
                    etag=etag,
                    metadata=said(zip(own, metadata, strict=True)),
                )
