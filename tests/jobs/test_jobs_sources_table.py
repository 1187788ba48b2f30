"""Tables: columns named and guessed, types of CSV, ids, paths and URLs, images inside Parquet."""

from __future__ import annotations

import http.server
import os
import pickle
import threading
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trunkline_service.collections.metadata import check_column
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.errors import ImageTooLarge, InvalidArgument, UnreadableFile
from trunkline_service.jobs.sources import TableColumns, cells, reader_of, resolve, tables
from trunkline_service.jobs.sources.shelf import Shelf
from trunkline_service.jobs.sources.values import column_name
from trunkline_service.jobs.sources.web import read_url

LIMIT = 1000


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "img").mkdir()
    for number in range(3):
        (tmp_path / f"img/{number}.jpg").write_bytes(b"i%d" % number)
    return tmp_path


def table(folder: Path, data: bytes, name: str = "t.csv", **columns: str):
    (folder / name).write_bytes(data)
    return resolve(str(folder / name), TableColumns(**columns))


def ids(source):
    return [item.id for item in source.items()]


def test_a_csv_with_a_mark_and_all_columns_guessed(folder):
    source = table(folder, "\ufefffile_name,Class,subset,w\nimg/0.jpg,a,train,1\nimg/1.jpg,,,\n".encode())
    one, two = source.items()
    assert (one.id, one.label, one.split, one.metadata) == ("img/0.jpg", "a", "train", {"w": 1})
    assert (two.id, two.label, two.split, two.metadata) == ("img/1.jpg", None, None, {})
    assert (one.source, one.size) == (f"{folder}/img/0.jpg", 2)
    assert one.read(LIMIT) == b"i0" == pickle.loads(pickle.dumps(one)).read(LIMIT)
    assert source.describe() == (
        "2 images; 1 labels from column 'Class' (a); splits train 1; paths from column 'file_name'; "
        "splits from column 'subset'; paths are ids; kept as columns: w"
    )


def test_columns_that_are_named(folder):
    data = b"n,where,tags\n7,img/0.jpg,a| b\n8,img/1.jpg,\n"
    source = table(folder, data, "t.csv", id="n", path="where", label="tags", label_separator="|")
    assert [(item.id, item.label) for item in source.items()] == [("7", ("a", "b")), ("8", None)]
    assert source.multi_label
    assert not table(folder, data, id="n", path="where", label="tags").multi_label
    # A separator of nothing.
    assert not table(folder, b"path\nimg/0.jpg\n", label_separator="|").multi_label
    # A separator of columns.
    assert ids(table(folder, data.replace(b",", b"\t"), "t.tsv", id="n", path="where")) == ["7", "8"]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (["1", "2"], [1, 2]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1", "x"], ["1", "x"]),
        (["", "3"], [None, 3]),
        (["true", "false"], [True, False]),
        (["true", "maybe"], ["true", "maybe"]),
        (["2020-01-02 03:04:05", ""], ["2020-01-02T03:04:05", None]),
        (["NA", "null"], ["NA", "null"]),
        (["nan", "1.5"], [None, 1.5]),
    ],
)
def test_types_of_a_csv_hold_for_all_of_it(folder, monkeypatch, values, kept):
    # Each row is a block of its own, so that what the first one says need not be the last word.
    monkeypatch.setattr(tables, "_BLOCK", 40)
    rows = "".join(f"img/{number}.jpg,{value}\n" for number, value in enumerate(values))
    source = table(folder, f"path,v\n{rows}".encode())
    found = [item.metadata.get("v") for item in source.items()]
    assert found == kept
    assert [type(value) for value in found] == [type(value) for value in kept]
    # What is not said is left out.
    assert ["v" in item.metadata for item in source.items()] == [value is not None for value in kept]


def test_rows_that_can_not_be_used_are_problems(folder):
    source = table(folder, b"path,id,v\nimg/0.jpg,a,1\nimg/1.jpg,b\n,c,3\nimg/2.jpg,,4\n")
    assert ids(source) == ["a"]
    assert [problem.partition(": ")[2] for problem in source.problems()] == [
        "row 3 has 2 values for 3 columns; it was left out",
        "row 3 has no path; it was left out",
        "row 4 has no id; it was left out",
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"path\nx.jpg\ny.jpg\nx.jpg\n", r"column 'path' holds 'x.jpg' \(2 times\).*--id-col"),
        (b"id,path\n1,x.jpg\n1,y.jpg\n", r"column 'id' holds '1' \(2 times\)"),
        (b"a,b\n1,2\n", r"no column of paths or images .*columns are a, b: name one with --path-col"),
        (b"path,path\na,b\n", "two columns 'path'"),
        (b"", "Empty CSV file"),
        (b"path\n", "no row with an image"),
        (b"path\n\xff.jpg\n", "save it as UTF-8"),
        (b"path,v\nx.jpg,\xff\n", "save it as UTF-8"),
    ],
)
def test_a_table_that_can_not_be_used_is_refused(folder, data, said):
    with pytest.raises(InvalidArgument, match=said):
        list(table(folder, data).items())


def test_a_column_that_does_not_exist_is_refused(folder):
    with pytest.raises(InvalidArgument, match=r"no column 'nope' \(--label-col\); its columns are path"):
        table(folder, b"path\nx.jpg\n", label="nope").describe()
    with pytest.raises(InvalidArgument, match="No such file"):
        resolve(str(folder / "none.csv")).describe()


def test_two_ids_of_one_hash_are_two(folder, monkeypatch):
    monkeypatch.setattr("builtins.hash", len)
    assert ids(table(folder, b"path\nx.jpg\ny.jpg\n")) == ["x.jpg", "y.jpg"]


def test_names_of_columns_become_what_a_collection_takes():
    names = ["image size", "size", "1st", "größe", "x" * 80, "", "-"]
    for name in names:
        check_column(column_name(name), COLUMNS)
    assert [column_name(name) for name in names[:3]] == ["image_size", "user_size", "user_1st"]


def test_paths_of_a_table_are_no_business_of_prune(folder):
    source = table(folder, b"path\nimg/0.jpg\n")
    assert not source.covers("img/0.jpg", f"{folder}/img/0.jpg")
    assert not source.covers("img/0.jpg", f"{folder}/t.csv#0")


class Site(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        elif self.path.startswith("/short"):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        else:
            super().do_GET()

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def site(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_urls_of_a_table_are_read(folder, site):
    (folder / "img/a b.jpg").write_bytes(b"spaced")
    urls = [
        f"{site}/{name}" for name in ("img/0.jpg", "img/a b.jpg?x=1", "none.jpg", "moved.jpg", "short.jpg")
    ]
    items = list(table(folder, "\n".join(["url", *urls, "http://127.0.0.1:1/x"]).encode()).items())
    assert [item.id for item in items[:5]] == urls
    assert [item.read(LIMIT) for item in items[:2]] == [b"i0", b"spaced"]
    assert reader_of(items[0].source)(LIMIT) == b"i0"
    with pytest.raises(ImageTooLarge, match="2 bytes; at most 1"):
        items[0].read(1)
    for item, said in zip(
        items[2:], ("answered 404", "answered 302", "90 bytes early", "refused"), strict=True
    ):
        with pytest.raises(UnreadableFile, match=said):
            item.read(LIMIT)


def test_a_server_that_never_ends_is_given_up(folder, site):
    ticks = iter([0.0, 301.0])
    with pytest.raises(UnreadableFile, match="not there after 300 s"):
        read_url(f"{site}/img/0.jpg", LIMIT, clock=lambda: next(ticks))


# Parquet ---------------------------------------------------------------------------------------------------

FEATURES = (
    '{"info": {"features": {"image": {"_type": "Image"}, '
    '"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}}'
)


@pytest.fixture
def images():
    return pa.table(
        {
            "image": [{"bytes": b"x%d" % number, "path": None} for number in range(4)]
            + [{"bytes": None, "path": "img/1.jpg"}, None],
            "label": [0, 1, -1, 0, 1, None],
            "when": pa.array([1, 2, 3, 4, 5, None], pa.timestamp("ns")),
            "boxes": [[1]] * 6,
        }
    )


def test_images_inside_parquet_are_read_when_asked_for(folder, images, monkeypatch):
    path = folder / "t.parquet"
    pq.write_table(images.replace_schema_metadata({"huggingface": FEATURES}), path, row_group_size=2)
    groups = []
    monkeypatch.setattr(cells, "_groups", Shelf(2))
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, group, **options: groups.append(group) or original(self, group, **options),
    )
    source = resolve(str(path))
    items = list(source.items())
    assert groups == []
    assert [item.id for item in items] == [f"{number:08d}" for number in range(6)]
    assert [item.label for item in items] == ["cat", "dog", None, "cat", "dog", None]
    assert items[0].metadata == {"when": "1970-01-01T00:00:00"}
    assert items[0].source == f"{path}#0"
    assert [item.read(LIMIT) for item in items[:5]] == [b"x0", b"x1", b"x2", b"x3", b"i1"]
    assert groups == [0, 1, 2]
    assert len(cells._groups._kept) == 2
    with pytest.raises(UnreadableFile, match="neither bytes nor a path"):
        items[5].read(LIMIT)
    with pytest.raises(ImageTooLarge):
        items[0].read(1)
    assert pickle.loads(pickle.dumps(items[3])).read(LIMIT) == b"x3" == reader_of(items[3].source)(LIMIT)
    assert all(source.covers(item.id, item.source) for item in items)
    assert source.covers("00000017", f"{path}#17")
    for row_id, other in (
        ("x/00000017", f"{path}#17"),
        ("17", f"{path}#17"),
        ("00000016", f"{path}#17"),
        ("00000017", f"{path}#image/17"),
        ("00000017", f"{path}#{'9' * 5000}"),
        ("00000017", f"{folder}/t2.parquet#17"),
        ("00000017", ""),
    ):
        assert not source.covers(row_id, other)
    assert "left out, because they are no plain values: boxes" in source.describe()


def test_bytes_of_a_column_that_is_named(folder):
    path = folder / "t.parquet"
    pq.write_table(pa.table({"key": ["a", "b", None], "raw": [b"1", b"2", b"3"]}), path)
    source = resolve(str(path), TableColumns(bytes="raw"))
    one, two = source.items()
    assert (one.id, two.id, one.source) == ("a", "b", f"{path}#raw/0")
    assert reader_of(two.source)(LIMIT) == b"2"
    # The place does not tell an id of a column.
    assert not source.covers(one.id, one.source)
    assert source.problems() == (f"{path}: row 2 has no id; it was left out",)
    with pytest.raises(InvalidArgument, match="no column of paths or images"):
        resolve(str(path)).describe()


def test_a_folder_of_parquet_is_one_table(folder, images):
    (folder / "p").mkdir()
    for name in ("a", "b"):
        pq.write_table(images, folder / f"p/{name}.parquet")
    source = resolve(str(folder / "p"))
    assert ids(source) == [f"{name}/{number:08d}" for name in ("a", "b") for number in range(6)]
    assert ids(resolve(f"{folder}/p/*.parquet")) == ids(source)
    assert all(source.covers(item.id, item.source) for item in source.items())
    one = resolve(str(folder / "p/a.parquet"))
    assert not one.covers("a/00000001", f"{folder}/p/a.parquet#1")


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_lists_of_labels_in_parquet(folder, kind):
    column = pa.array([["a", "b"], None], kind(pa.string()))
    pq.write_table(pa.table({"bytes": [b"1", b"2"], "label": column}), folder / "t.parquet")
    source = resolve(str(folder / "t.parquet"))
    assert source.multi_label
    assert [item.label for item in source.items()] == [("a", "b"), None]


def test_a_single_label_beside_lists_is_a_list_of_one(folder):
    # A separator that cuts texts, and labels that are numbers.
    pq.write_table(pa.table({"bytes": [b"1"], "label": [7]}), folder / "t.parquet")
    source = resolve(str(folder / "t.parquet"), TableColumns(label_separator="|"))
    assert source.multi_label
    assert [item.label for item in source.items()] == [("7",)]


def test_parquet_of_images_alone(folder):
    pq.write_table(pa.table({"bytes": [b"1", b"2"]}), folder / "t.parquet")
    assert [item.read(LIMIT) for item in resolve(str(folder / "t.parquet")).items()] == [b"1", b"2"]


def test_parquet_that_changed_or_is_none(folder, images):
    path = folder / "t.parquet"
    pq.write_table(images, path)
    first, *_ = resolve(str(path)).items()
    pq.write_table(images.slice(4), path)
    os.utime(path, (1, 1))
    with pytest.raises(UnreadableFile, match="changed after it was listed"):
        first.read(LIMIT)
    with pytest.raises(UnreadableFile, match="row 5 any more"):
        reader_of(f"{path}#5")(LIMIT)
    with pytest.raises(UnreadableFile, match="names no row"):
        reader_of(f"{path}#x")(LIMIT)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(InvalidArgument, match="can't be read as a table"):
        resolve(str(path)).describe()
    with pytest.raises(UnreadableFile):
        reader_of(f"{path}#0")(LIMIT)


def test_a_shelf_keeps_more_of_what_is_small():
    shelf, made = Shelf(2, room=6, size_of=len), []
    for key in ("a", "bb", "ccc", "a", "bb", "dddd", "a"):
        shelf.get(key, lambda key=key: made.append(key) or key)
    # All three fit; the fourth takes the room of the others, but for the one that was asked for last.
    assert made == ["a", "bb", "ccc", "dddd", "a"]
    assert list(shelf._kept) == ["dddd", "a"]


def test_a_shelf_makes_each_thing_once_and_keeps_no_failure():
    shelf = Shelf(2)
    made = []

    def make(key):
        return lambda: made.append(key) or key

    assert [shelf.get(key, make(key)) for key in "aabaca"] == list("aabaca")
    assert made == ["a", "b", "c"]
    with pytest.raises(ZeroDivisionError):
        shelf.get("d", lambda: 1 // 0)
    assert shelf.get("d", make("d")) == "d"
    together, started = threading.Barrier(4), []

    def ask():
        together.wait()
        started.append(shelf.get("e", make("e")))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (started, made.count("e")) == (["e"] * 4, 1)
