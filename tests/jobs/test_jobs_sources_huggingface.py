"""Data sets that Hugging Face's `save_to_disk` wrote: splits, classes, images, rows by number."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from trunkline_service.errors import InvalidArgument, UnreadableFile
from trunkline_service.jobs.sources import TableColumns, reader_of, resolve

LIMIT = 1000
FEATURES = {
    "photo": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
    "id": {"_type": "Value", "dtype": "int64"},
}


def save(folder: Path, table: pa.Table, files: int = 1, stream: bool = True) -> None:
    """As ``Dataset.save_to_disk`` lays it out."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    rows = -(-table.num_rows // files)
    for number, name in enumerate(names):
        new = pa.ipc.new_stream if stream else pa.ipc.new_file
        with pa.OSFile(str(folder / name), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table.slice(number * rows, rows), max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


@pytest.fixture
def images(tmp_path):
    (tmp_path / "beside.jpg").write_bytes(b"beside")
    return pa.table(
        {
            "photo": [{"bytes": b"p%d" % number, "path": None} for number in range(4)]
            + [{"bytes": None, "path": str(tmp_path / "beside.jpg")}],
            "label": [0, 1, -1, 1, 0],
            "id": [7, 7, 8, 9, 9],
        }
    )


@pytest.mark.parametrize("stream", [True, False])
def test_rows_of_a_data_set(tmp_path, images, stream):
    save(tmp_path / "set", images, files=2, stream=stream)
    source = resolve(str(tmp_path / "set"), id_prefix="h-")
    items = list(source.items())
    assert [item.id for item in items] == [f"h-{number:08d}" for number in range(5)]
    assert [item.label for item in items] == ["cat", "dog", None, "dog", "cat"]
    assert [item.split for item in items] == [None] * 5
    # Its own column of ids says nothing of rows, and is kept.
    assert [item.metadata for item in items] == [{"user_id": number} for number in (7, 7, 8, 9, 9)]
    expected = [b"p0", b"p1", b"p2", b"p3", b"beside"]
    assert [pickle.loads(pickle.dumps(item)).read(LIMIT) for item in items] == expected
    assert [reader_of(item.source)(LIMIT) for item in items] == expected
    assert items[4].source == f"{tmp_path}/set/data-00001-of-00002.arrow#photo/1"
    assert all(source.covers(item.id, item.source) for item in items)
    place = f"{tmp_path}/set/data-00001-of-00002.arrow#photo/"
    # Rows that it has no more, of files that it has and of one that it has no more.
    assert source.covers("h-00000012", f"{place}9")
    assert source.covers("h-00000012", f"{tmp_path}/set/data-00002-of-00003.arrow#photo/2")
    for row_id, other in (
        # Of another prefix, with other ids, of another row, column or folder.
        ("00000004", f"{place}1"),
        ("h-7", f"{place}1"),
        ("h-00000003", f"{place}1"),
        ("h-00000004", f"{tmp_path}/set/data-00001-of-00002.arrow#1"),
        ("h-00000004", f"{tmp_path}/set2/data-00001-of-00002.arrow#photo/1"),
        ("h-00000001", f"{tmp_path}/set/data-00002-of-00003.arrow#photo/2"),
        ("h-00000004", ""),
    ):
        assert not source.covers(row_id, other)
    assert not source.multi_label
    assert source.describe().startswith(
        "5 images; 2 labels from the data set (cat, dog); Hugging Face data set; "
    )


def test_splits_of_a_data_set(tmp_path, images):
    for name in ("train", "validation"):
        save(tmp_path / "set" / name, images)
    (tmp_path / "set/dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    source = resolve(str(tmp_path / "set"))
    items = list(source.items())
    assert all(source.covers(item.id, item.source) for item in items)
    assert not source.covers("train/00000000", items[5].source)
    assert not resolve(str(tmp_path / "set")).covers(items[0].id, items[0].source)
    assert [(item.id, item.split) for item in items[3:7]] == [
        ("train/00000003", "train"),
        ("train/00000004", "train"),
        ("validation/00000000", "val"),
        ("validation/00000001", "val"),
    ]


def test_a_column_of_ids_that_is_named_has_to_be_unique(tmp_path, images):
    save(tmp_path / "set", images)
    with pytest.raises(InvalidArgument, match=r"column 'id' holds '[79]' \(2 times\)"):
        list(resolve(str(tmp_path / "set"), TableColumns(id="id")).items())
    save(tmp_path / "one", images.slice(2, 2))
    named = resolve(str(tmp_path / "one"), TableColumns(id="id"))
    (eight, nine) = named.items()
    assert (eight.id, nine.id) == ("8", "9")
    # The place does not tell it.
    assert not named.covers(eight.id, eight.source)


def test_lists_of_labels_of_a_data_set(tmp_path, images):
    save(tmp_path / "set", images.set_column(1, "label", [[[0, 1], [], None, [1], [0]]]))
    source = resolve(str(tmp_path / "set"))
    assert source.multi_label
    assert [item.label for item in source.items()] == [("cat", "dog"), (), None, ("dog",), ("cat",)]


def test_a_data_set_that_is_damaged_is_refused(tmp_path, images):
    save(tmp_path / "set", images, files=2)
    first, *_ = resolve(str(tmp_path / "set")).items()
    (tmp_path / "set/data-00000-of-00002.arrow").write_bytes(b"no arrow")
    with pytest.raises(
        InvalidArgument, match=r"data-00000-of-00002.arrow is no Arrow file.*save the data set"
    ):
        list(resolve(str(tmp_path / "set")).items())
    with pytest.raises(UnreadableFile, match="no Arrow file"):
        reader_of(first.source)(LIMIT)
    (tmp_path / "set/state.json").write_text("{")
    with pytest.raises(InvalidArgument, match=r"state\.json is no JSON"):
        resolve(str(tmp_path / "set")).describe()
    (tmp_path / "set/state.json").write_text("{}")
    with pytest.raises(InvalidArgument, match="names no files"):
        list(resolve(str(tmp_path / "set")).items())
