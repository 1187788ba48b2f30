"""Images on their way into a collection: from what a caller sent and the engine gave to rows. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from trunkline_service.batching.engine import Embedded
from trunkline_service.collections.convert import check_label
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.rows import Label, Row
from trunkline_service.errors import ImageError, InvalidArgument, TrunklineError
from trunkline_service.images.inputs import ImageInput, PixelTensor


@dataclass(frozen=True)
class NewRow:
    """An image to be stored.

    Attributes:
        image: The image.
        id: Of its row; empty for a hash of the content.
        label: Or None where nothing is said of it.
        source: Where it came from; kept as it is given, never opened.
        split: ``train``, ``test`` and the like, or None where nothing is said of it.
        metadata: The users' own columns, by name; None for null. Nothing is said of the others.
    """

    image: ImageInput
    id: str = ""
    label: Label = None
    source: str = ""
    split: str | None = None
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


def content_hash(image: ImageInput) -> str:
    """SHA-256 of an image's content, hexadecimal: of the file's bytes, or of the pixels and their shape."""
    digest = hashlib.sha256()
    if isinstance(image, PixelTensor):
        digest.update(f"{image.dtype}{list(image.shape)}".encode())
    digest.update(image.data)
    return digest.hexdigest()


def brings_lists(rows: Sequence[NewRow]) -> bool:
    """Whether the labels of the rows are lists, which a multi-label collection holds.

    Raises:
        InvalidArgument: Some are, and some are not.
    """
    kinds = {isinstance(row.label, tuple) for row in rows if row.label is not None}
    if len(kinds) > 1:
        raise InvalidArgument(
            "some rows have one label and others a list of labels; no collection holds both: send lists for "
            "all, or for none"
        )
    return True in kinds


def check_labels(rows: Sequence[NewRow], multi_label: bool) -> None:
    """Refuses labels that the collection can't hold, before anything is spent on the images.

    Raises:
        InvalidArgument: Naming the row by its id, or by its position where the id is yet to be made.
    """
    for position, row in enumerate(rows):
        check_label(row.id or f"(item {position})", row.label, multi_label)


def could_lose(rows: Sequence[NewRow], embedded: Embedded, own_columns: Collection[str]) -> list[int]:
    """Positions of the images whose storing could destroy what they do not bring.

    That is all of them but those that were embedded and say everything that a row can be told: label,
    split, and a value for every column of the users' own.

    Args:
        rows: As they came.
        embedded: Their errors.
        own_columns: The users' own columns of the collection.
    """
    return [
        index for index, row in enumerate(rows) if index in embedded.errors or not _says_all(row, own_columns)
    ]


def arriving_rows(
    rows: Sequence[NewRow],
    ids: Sequence[str],
    hashes: Sequence[str],
    embedded: Embedded,
    known: Mapping[str, Row],
) -> list[Row]:
    """What is to be stored of embedded images.

    A bad image becomes an error row, unless a good row of its id is known. What is not said is taken
    from the known row: label, split, and metadata column by column. Where an id comes twice, the rows
    are taken in their order, as if each had come in a call of its own.

    Args:
        rows: As they came, in the order of the vectors.
        ids: Of each.
        hashes: Of each one's content.
        embedded: Their vectors and errors.
        known: Rows that are stored under some of the ids.

    Returns:
        One row an id. None of them says when it was embedded, which is the moment of the write.
    """
    latest = dict(known)
    stored: dict[str, Row] = {}
    for index, row in enumerate(rows):
        row_id = ids[index]
        before = latest.get(row_id)
        if _is_stored(embedded.errors.get(index), before):
            latest[row_id] = stored[row_id] = _row(row, row_id, hashes[index], embedded, index, before)
    return list(stored.values())


def _says_all(row: NewRow, own_columns: Collection[str]) -> bool:
    return row.label is not None and row.split is not None and row.metadata.keys() >= set(own_columns)


def _is_stored(error: TrunklineError | None, before: Row | None) -> bool:
    if error is None:
        return True
    # What failed for a reason that passes (a deadline, a defect of ours) is no fact about the image.
    return isinstance(error, ImageError) and (before is None or before.status == "error")


def _row(new: NewRow, row_id: str, hashed: str, embedded: Embedded, index: int, before: Row | None) -> Row:
    error = embedded.errors.get(index)
    return Row(
        id=row_id,
        embedding=None if error else embedded.vectors[index],
        label=before.label if new.label is None and before is not None else new.label,
        split=before.split if new.split is None and before is not None else new.split,
        source=new.source,
        content_hash=hashed,
        etag=None,
        size=len(new.image.data),
        mtime=None,
        decode=embedded.decode,
        status="error" if error else "ok",
        error=f"{error.reason}: {error.message}" if error else None,
        metadata={**(before.metadata if before is not None else {}), **new.metadata},
    )
