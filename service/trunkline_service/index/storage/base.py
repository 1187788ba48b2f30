"""A build as it is searched: its rows and vectors, mapped into memory from its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.card import IndexCard
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.storage.files import damaged, unreadable

VECTORS_FILE = "vectors.f32"
ROWS_FILE = "rows.arrow"
FRAGMENTS_FILE = "fragments.json"


@dataclass(frozen=True, eq=False)
class Base:
    """The rows of one version of a collection, n of them: first those that the structure holds, then those held out.

    Attributes:
        card: Of the build.
        fragments: `Fragments.keys` of the version.
        row_ids: uint64 (n,).
        written: uint64 (n,), the version that last wrote each.
        fragment: int32 (n,), positions in ``fragments``.
        ids: Arrow large-string array.
        labels: The same, with nulls, or of lists of strings.
        sources: Arrow large-string array.
        vectors: float32 (n, dim), prepared.
        approximate: Over the first ``card.rows`` vectors.
    """

    card: IndexCard
    fragments: tuple[str, ...]
    row_ids: NDArray[np.uint64]
    written: NDArray[np.uint64]
    fragment: NDArray[np.int32]
    ids: Any
    labels: Any
    sources: Any
    vectors: NDArray[np.float32]
    approximate: Approximate


def load_base(folder: Path, card: IndexCard) -> Base:
    """Maps the files of a build.

    Args:
        folder: From `IndexStore.open`, which compares the files' sums.
        card: Of the build; not of kind ``flat``, which has no files.

    Raises:
        IndexDamaged: The files are not there, or not as the card says: other counts, dimension, metric or kind.
        StorageError: They can't be read now, as where too many files are open, or memory runs out.
    """
    from trunkline_service.index.kinds.reading import read

    fragments = _fragments(folder, card)
    rows = _rows(folder, card)
    row_ids, written, fragment = (
        rows.column(name).to_numpy(zero_copy_only=True) for name in ("row_id", "written", "fragment")
    )
    if fragment.min() < 0 or fragment.max() >= len(fragments):
        raise damaged(card, ROWS_FILE, f"names fragments beyond the {len(fragments)} of {FRAGMENTS_FILE}")
    vectors = _vectors(folder, card)
    return Base(
        card=card,
        fragments=fragments,
        row_ids=row_ids,
        written=written,
        fragment=fragment,
        ids=rows.column("id"),
        labels=rows.column("label"),
        sources=rows.column("source"),
        vectors=vectors,
        approximate=read(card.kind, folder, vectors[: card.rows], card.parameters, card.metric),
    )


def map_vectors(path: Path, rows: int, dim: int) -> NDArray[np.float32]:
    """The vectors of a file of packed little-endian floats: float32 (rows, dim), read-only."""
    # As a plain array: a memmap makes a memmap of every few rows that are taken of it, which takes time.
    return np.asarray(np.memmap(path, np.dtype("<f4"), "r", shape=(rows, dim)))


def _vectors(folder: Path, card: IndexCard) -> NDArray[np.float32]:
    rows, path = card.rows + card.held_out, folder / VECTORS_FILE
    try:
        size = path.stat().st_size
        if not size or size != 4 * rows * card.dim:
            raise damaged(card, VECTORS_FILE, f"has {size} bytes, which are not {rows} x {card.dim} floats")
        return map_vectors(path, rows, card.dim)
    except (OSError, MemoryError) as exc:
        raise unreadable(card, VECTORS_FILE, exc) from exc


def _fragments(folder: Path, card: IndexCard) -> tuple[str, ...]:
    try:
        keys = json.loads((folder / FRAGMENTS_FILE).read_text(encoding="utf-8"))
    except (OSError, MemoryError) as exc:
        raise unreadable(card, FRAGMENTS_FILE, exc) from exc
    except (ValueError, RecursionError) as exc:
        raise damaged(card, FRAGMENTS_FILE, f"is not valid JSON ({exc})") from exc
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise damaged(card, FRAGMENTS_FILE, "holds no list of strings")
    return tuple(keys)


def _rows(folder: Path, card: IndexCard) -> Any:
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(pa.memory_map(str(folder / ROWS_FILE), "r"))
        # In one piece: Arrow copies all the texts there are to take some of several pieces.
        rows = reader.get_batch(0) if reader.num_record_batches == 1 else None
    except (OSError, MemoryError) as exc:
        raise unreadable(card, ROWS_FILE, exc) from exc
    except pa.ArrowException as exc:
        raise damaged(card, ROWS_FILE, f"can't be read: {str(exc).splitlines()[0]}") from exc
    if rows is None or not _is_of(rows.schema) or rows.num_rows != card.rows + card.held_out:
        raise damaged(card, ROWS_FILE, f"does not hold the {card.rows} + {card.held_out} rows of its card")
    return rows


def _is_of(schema: Any) -> bool:
    import pyarrow as pa

    text = pa.large_utf8()
    wanted = {
        "row_id": pa.uint64(),
        "written": pa.uint64(),
        "fragment": pa.int32(),
        "id": text,
        "source": text,
    }
    labels = (text, pa.large_list(text))
    return (
        sorted(schema.names) == sorted([*wanted, "label"])
        and all(schema.field(name).type == kind for name, kind in wanted.items())
        and schema.field("label").type in labels
    )
