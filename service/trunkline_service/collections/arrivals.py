"""Images on their way into a collection: from what a caller sent and the engine gave to rows. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trunkline_service.batching.engine import Embedded
from trunkline_service.collections.rows import Row
from trunkline_service.errors import ImageError, TrunklineError
from trunkline_service.images.inputs import ImageInput, PixelTensor


@dataclass(frozen=True)
class NewRow:
    """An image to be stored.

    Attributes:
        image: The image.
        id: Of its row; empty for a hash of the content.
        label: Or None for unlabelled.
        source: Where it came from; kept as it is given, never opened.
    """

    image: ImageInput
    id: str = ""
    label: str | None = None
    source: str = ""


def content_hash(image: ImageInput) -> str:
    """SHA-256 of an image's content, hexadecimal: of the file's bytes, or of the pixels and their shape."""
    digest = hashlib.sha256()
    if isinstance(image, PixelTensor):
        digest.update(f"{image.dtype}{list(image.shape)}".encode())
    digest.update(image.data)
    return digest.hexdigest()


def could_lose(rows: Sequence[NewRow], embedded: Embedded) -> list[int]:
    """Positions of the images whose storing could destroy what they do not bring: a label, a good vector."""
    return [index for index, row in enumerate(rows) if row.label is None or index in embedded.errors]


def arriving_rows(
    rows: Sequence[NewRow],
    ids: Sequence[str],
    hashes: Sequence[str],
    embedded: Embedded,
    known: Mapping[str, Row],
) -> list[Row]:
    """What is to be stored of embedded images.

    A bad image becomes an error row, unless a good row of its id is known. A label that is not given is
    taken from the known row.

    Args:
        rows: As they came, in the order of the vectors.
        ids: Of each.
        hashes: Of each one's content.
        embedded: Their vectors and errors.
        known: Rows that are stored under some of the ids.
    """
    return [
        _row(row, ids[index], hashes[index], embedded, index, known.get(ids[index]))
        for index, row in enumerate(rows)
        if _is_stored(embedded.errors.get(index), known.get(ids[index]))
    ]


def _is_stored(error: TrunklineError | None, before: Row | None) -> bool:
    if error is None:
        return True
    # What failed for a reason that passes (a deadline, a defect of ours) is no fact about the image.
    return isinstance(error, ImageError) and (before is None or before.status == "error")


def _row(new: NewRow, row_id: str, hashed: str, embedded: Embedded, index: int, before: Row | None) -> Row:
    error = embedded.errors.get(index)
    label = before.label if new.label is None and before is not None else new.label
    return Row(
        id=row_id,
        embedding=None if error else embedded.vectors[index],
        label=label,
        split=before.split if before is not None else None,
        source=new.source,
        content_hash=hashed,
        etag=None,
        size=len(new.image.data),
        mtime=None,
        decode=embedded.decode,
        status="error" if error else "ok",
        error=f"{error.reason}: {error.message}" if error else None,
    )
