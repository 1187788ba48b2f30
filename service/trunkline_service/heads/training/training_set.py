"""What a head is fitted on: embeddings of one space, with their labels."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline_service.errors import InvalidArgument, NotEnoughData

_MIN_CLASS_ROWS = 2
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labelled embeddings, checked and cleaned as they come in.

    Rows whose label is ``None`` or blank are left out. So are classes of a single row: held out, such
    a row could not have been learned from, so nothing honest could be said of its class; and one
    mistyped label should not forbid the fit of all others. Both are said in ``notes``.

    Attributes:
        embeddings: (N, dim) float32, finite, C-contiguous.
        labels: N labels, kept as they were written. ``None`` may go in, never comes out.
        space_id: The space that all embeddings are of.
        collection: Name of the collection that they come from.
        collection_version: Its version at the time of reading.
        model: ``name@version`` of the model that embedded them.
        notes: What was left out and what looks odd, in sentences.

    Raises:
        InvalidArgument: Arrays of a wrong shape or dtype, values that are not finite, labels that are
            not text.
        NotEnoughData: Fewer than two classes with at least two rows each.
    """

    embeddings: npt.NDArray[np.float32]
    labels: Sequence[str | None]
    space_id: str
    collection: str
    collection_version: int
    model: str
    notes: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        _check_arrays(self.embeddings, self.labels)
        _check_labels(self.labels)
        counts = Counter(label for label in self.labels if _is_label(label))
        single = {label for label, count in counts.items() if count < _MIN_CLASS_ROWS}
        kept = [i for i, label in enumerate(self.labels) if _is_label(label) and label not in single]
        if len(counts) - len(single) < 2:
            raise NotEnoughData(_too_few(self.collection, len(self.labels), counts, single))
        rows = np.ascontiguousarray(self.embeddings[kept])
        _check_finite(rows, kept)
        rows.setflags(write=False)
        unlabelled = len(self.labels) - sum(counts.values())
        object.__setattr__(self, "embeddings", rows)
        object.__setattr__(self, "labels", tuple(self.labels[i] for i in kept))
        object.__setattr__(self, "notes", _notes(unlabelled, single, counts))

    @property
    def dim(self) -> int:
        """Length of one embedding."""
        return int(self.embeddings.shape[1])

    @property
    def classes(self) -> tuple[str, ...]:
        """The distinct labels, sorted by code point: the order of a head's outputs."""
        return tuple(sorted({str(label) for label in self.labels}))

    def codes(self) -> npt.NDArray[np.int64]:
        """(N,) for each row, the position of its label in ``classes``."""
        position = {label: i for i, label in enumerate(self.classes)}
        return np.array([position[str(label)] for label in self.labels], dtype=np.int64)

    def training_hash(self) -> str:
        """SHA-256 (hex) over the shape, the embeddings' little-endian bytes and the labels, in row order."""
        digest = hashlib.sha256(b"trunkline-training-1\0")
        digest.update(np.array(self.embeddings.shape, dtype="<i8").tobytes())
        digest.update(self.embeddings.astype("<f4", copy=False).data)
        for label in self.labels:
            # The length goes first, so that no two lists of labels give the same bytes.
            data = str(label).encode()
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()


def _is_label(label: str | None) -> bool:
    return label is not None and label.strip() != ""


def _check_arrays(embeddings: Any, labels: Sequence[str | None]) -> None:
    if not isinstance(embeddings, np.ndarray) or embeddings.dtype != np.float32:
        got = getattr(embeddings, "dtype", type(embeddings).__name__)
        raise InvalidArgument(f"embeddings must be a float32 array, and are {got}")
    if embeddings.ndim != 2 or embeddings.shape[1] == 0:
        raise InvalidArgument(f"embeddings must be (N, dim), and are of shape {embeddings.shape}")
    if len(labels) != len(embeddings):
        raise InvalidArgument(f"{len(embeddings)} embeddings came with {len(labels)} labels; give one each")


def _check_labels(labels: Sequence[Any]) -> None:
    for i, label in enumerate(labels):
        if label is None:
            continue
        if not isinstance(label, str):
            raise InvalidArgument(
                f"the label of row {i} is {label!r}, of type {type(label).__name__}; labels are text"
            )
        try:
            label.encode()
        except UnicodeEncodeError as exc:
            raise InvalidArgument(
                f"the label of row {i}, {label!r}, is not valid Unicode; relabel it"
            ) from exc


def _check_finite(rows: npt.NDArray[np.float32], kept: Sequence[int]) -> None:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist()
    if bad:
        raise InvalidArgument(
            f"{len(bad)} of {len(rows)} labelled rows hold NaN or infinity (rows "
            f"{_some(str(kept[i]) for i in bad)}); leave failed rows out, or embed them again"
        )


def _too_few(collection: str, rows: int, counts: Counter[str | None], single: set[str | None]) -> str:
    usable = {label: count for label, count in counts.items() if label not in single}
    found = _some(f"{label!r} ({count} rows)" for label, count in usable.items()) if usable else "none"
    alone = f" {len(single)} more have a single row." if single else ""
    return (
        f"a head needs at least 2 classes of at least {_MIN_CLASS_ROWS} rows each. Collection {collection!r} "
        f"gives {rows} rows, {sum(counts.values())} of them labelled; classes found: {found}.{alone} "
        "Label more rows"
    )


def _notes(unlabelled: int, single: set[str | None], counts: Counter[str | None]) -> tuple[str, ...]:
    notes = []
    if unlabelled:
        notes.append(f"{unlabelled} rows without a label were left out")
    if single:
        shown = _some(repr(label) for label in sorted(map(str, single)))
        notes.append(
            f"{len(single)} classes of a single row were left out ({shown}): "
            f"a class needs {_MIN_CLASS_ROWS} rows to be learned and evaluated"
        )
    alike = look_alikes(str(label) for label in counts)
    if alike:
        shown = _some(" / ".join(map(repr, group)) for group in alike)
        notes.append(f"labels that differ only by case or blanks are kept as separate classes: {shown}")
    return tuple(notes)


def look_alikes(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of distinct labels that are equal once case, blanks and Unicode composition are levelled."""
    groups: dict[str, set[str]] = {}
    for label in labels:
        level = " ".join(unicodedata.normalize("NFKC", label).split()).casefold()
        groups.setdefault(level, set()).add(label)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def _some(items: Iterable[str]) -> str:
    """The first few items, and how many follow."""
    listed = list(items)
    rest = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
