"""What a server says about its collections, and what it did to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class CollectionInfo:
    """A collection of embeddings.

    Attributes:
        name: Name of the collection.
        version: Rises with every write.
        model: What made it, ``"name@version"``; empty where the space is declared.
        space_id: The space of all its vectors.
        dim: Length of a vector.
        decode: The decode mode of its rows; ``"unknown"`` for vectors that were brought in.
        rows: Rows with an embedding.
        errors: Rows with a reason instead.
        labelled: Rows with a label.
        labels: Rows by label, most frequent first.
        multi_label: Whether a row has a tuple of labels instead of one.
        dtype: The floats on disk, ``"float32"`` or ``"float16"``.
        declared: Whether the space was named by hand, so that nothing proves it.
        size_bytes: Bytes in the store, of all versions together.
        columns: Types by name, in Arrow's words, of this version; empty in a list of collections.
        created_at: UTC; None where the server does not say.
        pretrained: Whether a model with trained weights made it. False for random weights, whose vectors mean
            nothing, and where the space is declared, of which nothing is known.
        artifact_id: The exported file that made it; empty where the space is declared.
        aliases: Names that stand for it.
        metric: How its vectors are compared: ``"cosine"``, ``"dot"`` or ``"euclidean"``.
    """

    name: str
    version: int
    model: str
    space_id: str
    dim: int
    decode: str
    rows: int
    errors: int
    labelled: int
    labels: dict[str, int] = field(hash=False)
    multi_label: bool = False
    dtype: str = "float32"
    declared: bool = False
    size_bytes: int = 0
    columns: dict[str, str] = field(default_factory=dict, hash=False, repr=False)
    created_at: datetime | None = None
    pretrained: bool = True
    artifact_id: str = ""
    aliases: tuple[str, ...] = ()
    metric: str = "cosine"


@dataclass(frozen=True)
class VersionInfo:
    """One version of a collection.

    Attributes:
        version: Its number.
        created_at: When it was committed, UTC.
        rows: Rows with an embedding, and rows with an error.
        tags: Names that it was given.
    """

    version: int
    created_at: datetime
    rows: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class AliasInfo:
    """A movable name of a collection.

    Attributes:
        name: ``"photos@prod"``.
        collection: What it stands for.
        version: Of the collection; None for whatever is the latest.
    """

    name: str
    collection: str
    version: int | None = None


@dataclass(frozen=True)
class Written:
    """What a change of rows did.

    Attributes:
        rows: How many it changed or deleted. After a lost connection, the last attempt's number.
        version: A version of the collection that has the change.
    """

    rows: int
    version: int


@dataclass(frozen=True)
class Purged:
    """What a purge did.

    Attributes:
        rows: Rows that the latest version had of those to be purged.
        versions_removed: Older versions, which can no longer be read.
        bytes_freed: In the store.
        unowned_files: Files of writers that are at work, or were killed lately, which may hold purged
            rows; where no one else writes, purge again with ``exclusive=True``.
    """

    rows: int
    versions_removed: int
    bytes_freed: int
    unowned_files: int = 0


@dataclass(frozen=True)
class Compacted:
    """What a compaction did.

    Attributes:
        version: The latest version after it.
        fragments_before: Pieces that the rows were stored in.
        fragments_after: The same, after it.
        versions_removed: Old versions that can no longer be read.
        bytes_freed: In the store.
    """

    version: int
    fragments_before: int
    fragments_after: int
    versions_removed: int
    bytes_freed: int
