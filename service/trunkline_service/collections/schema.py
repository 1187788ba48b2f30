"""The columns of a collection, and the record of its identity in the dataset's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import InvalidArgument, StorageError

SCHEMA_VERSION = 1
RECORD_KEY = b"trunkline"


@dataclass(frozen=True)
class CollectionRecord:
    """What a dataset says of itself.

    Attributes:
        spec: The identity of its vectors.
        uid: Tells a collection from a later one of the same name, whose versions begin at 1 again.
        created_at: ISO 8601, UTC.
    """

    spec: CollectionSpec
    uid: str
    created_at: str

    def to_json(self) -> str:
        """The record as JSON text, with its schema version."""
        values = {"schema_version": SCHEMA_VERSION, "uid": self.uid, "created_at": self.created_at}
        return json.dumps(values | asdict(self.spec), sort_keys=True)


def arrow_schema(dim: int, record: CollectionRecord | None = None) -> Any:
    """The Arrow schema of a collection of ``dim`` floats a row.

    ``id`` is declared the key: without it, Lance lets concurrent merges of the same new ids each
    insert them.
    """
    import pyarrow as pa

    key = {"lance-schema:unenforced-primary-key": "true"}
    text = pa.utf8()
    columns = [
        pa.field("id", text, nullable=False, metadata=key),
        pa.field("embedding", pa.list_(pa.float32(), dim)),
        pa.field("label", text),
        pa.field("split", text),
        pa.field("source", text, nullable=False),
        pa.field("content_hash", text, nullable=False),
        pa.field("etag", text),
        pa.field("size", pa.int64()),
        pa.field("mtime", pa.float64()),
        pa.field("decode", text, nullable=False),
        pa.field("status", text, nullable=False),
        pa.field("error", text),
        pa.field("job", text),
        pa.field("embedded_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
    return pa.schema(columns, metadata=None if record is None else {RECORD_KEY: record.to_json().encode()})


def read_record(metadata: Mapping[bytes, bytes] | None, name: str) -> CollectionRecord:
    """The record in a dataset's schema metadata.

    Raises:
        StorageError: No record, one that can't be read, or one of a newer Trunkline.
    """
    text = (metadata or {}).get(RECORD_KEY)
    if text is None:
        raise StorageError(f"collection {name!r} is a Lance dataset that Trunkline did not write")
    try:
        values = json.loads(text)
        version = int(values.pop("schema_version"))
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise StorageError(
            f"collection {name!r}: its trunkline record can't be read; restore it from a copy"
        ) from exc
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"collection {name!r} has schema version {version}, this Trunkline reads up to {SCHEMA_VERSION}; "
            "upgrade trunkline to open it"
        )
    try:
        spec = CollectionSpec(**{entry.name: values[entry.name] for entry in fields(CollectionSpec)})
        return CollectionRecord(spec, uid=str(values["uid"]), created_at=str(values["created_at"]))
    except (KeyError, TypeError, InvalidArgument) as exc:
        raise StorageError(
            f"collection {name!r}: its trunkline record is incomplete ({exc}); restore it from a copy"
        ) from exc
