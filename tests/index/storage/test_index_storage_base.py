"""A build is mapped from its files, and every count that its card tells is compared with them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.index.storage.conftest import DIM, HELD_OUT, ROWS

from trunkline_service.errors import IndexDamaged
from trunkline_service.index.card import IndexCard
from trunkline_service.index.storage.base import load_base

CardOf = Callable[..., IndexCard]


@pytest.fixture
def folder(tmp_path: Path, write_base: Callable[[Path], None]) -> Path:
    write_base(tmp_path)
    return tmp_path


def test_what_was_written_is_mapped(folder: Path, card_of: CardOf) -> None:
    base = load_base(folder, card_of())
    count = ROWS + HELD_OUT
    assert base.vectors.shape == (count, DIM)
    assert isinstance(base.vectors.base, np.memmap)
    assert not base.vectors.flags.writeable
    assert base.row_ids.tolist() == list(range(count))
    assert (base.row_ids.dtype, base.written.dtype, base.fragment.dtype) == (np.uint64, np.uint64, np.int32)
    assert base.fragments == ("f0", "f1")
    assert base.ids.take([3, 44]).to_pylist() == ["id3", "id44"]
    assert base.labels.take([3, 44]).to_pylist() == [None, "a"]
    assert (base.approximate.kind, len(base.approximate)) == ("ivf_flat", ROWS)
    scores, positions = base.approximate.search(base.vectors[:3], 1, 4)
    assert positions.ravel().tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores.ravel(), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rows": ROWS + 1}, "rows.arrow .* does not hold"),
        ({"held_out": HELD_OUT - 1}, "rows.arrow .* does not hold"),
        ({"rows": ROWS + 1, "held_out": HELD_OUT - 1}, "again"),
        ({"dim": DIM + 1}, "vectors.f32 .* has"),
        ({"kind": "hnsw", "parameters": {"M": 8, "efConstruction": 8}}, "again"),
        ({"kind": "flat"}, "again"),
        ({"parameters": {"nlist": 5}}, "again"),
        ({"metric": "euclidean"}, "again"),
    ],
)
def test_a_card_that_says_otherwise_is_refused(
    folder: Path, card_of: CardOf, change: dict[str, Any], word: str
) -> None:
    with pytest.raises(IndexDamaged, match=word):
        load_base(folder, dataclasses.replace(card_of(), **change))


@pytest.mark.parametrize("name", ["vectors.f32", "rows.arrow", "fragments.json", "index.faiss"])
@pytest.mark.parametrize("size", [None, 0, 100])
def test_files_that_are_missing_or_short_are_refused(
    folder: Path, card_of: CardOf, name: str, size: int | None
) -> None:
    if name == "fragments.json" and size:
        size = 5
    if size is None:
        (folder / name).unlink()
    else:
        os.truncate(folder / name, size)
    with pytest.raises(IndexDamaged):
        load_base(folder, card_of())


@pytest.mark.parametrize("keys", [["f0"], {"f0": 1}, [1, 2], []])
def test_fragments_that_rows_do_not_fit_are_refused(folder: Path, card_of: CardOf, keys: Any) -> None:
    (folder / "fragments.json").write_text(json.dumps(keys))
    with pytest.raises(IndexDamaged, match=r"fragments\.json"):
        load_base(folder, card_of())


def test_rows_of_other_columns_or_in_several_pieces_are_refused(folder: Path, card_of: CardOf) -> None:
    table = pa.ipc.open_file(pa.memory_map(str(folder / "rows.arrow"))).read_all()
    for changed, pieces in (
        (table.drop_columns(["source"]), None),
        (table.set_column(0, "row_id", table.column("row_id").cast(pa.int64())), None),
        (table, 10),
    ):
        (folder / "rows.arrow").unlink()
        with pa.ipc.new_file(str(folder / "rows.arrow"), changed.schema) as writer:
            writer.write_table(changed, max_chunksize=pieces)
        with pytest.raises(IndexDamaged, match=r"rows\.arrow .* does not hold"):
            load_base(folder, card_of())
