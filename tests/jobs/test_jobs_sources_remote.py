"""Stores behind URLs: listed side by side, read by range; drivers that are missing; S3 for real."""

from __future__ import annotations

import io
import pickle
import tarfile
import threading

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trunkline_service.errors import (
    ImageTooLarge,
    InvalidArgument,
    MissingExtra,
    StorageError,
    UnreadableFile,
)
from trunkline_service.jobs.sources import reader_of, resolve, tars
from trunkline_service.jobs.sources.parallel import Unlisted, list_below
from trunkline_service.jobs.sources.stores import Entry, _arrow_filesystem, child_uri

LIMIT = 100_000


@pytest.fixture
def memory():
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def test_images_below_a_url(memory):
    names = [f"train/c{number % 3}/{number}.jpg" for number in range(30)]
    for name in names:
        memory.pipe(f"/p/{name}", name.encode())
    for name in ("notes.txt", ".hidden/1.jpg", "a/.2.jpg"):
        memory.pipe(f"/p/{name}", b"x")
    source = resolve("memory://p/", id_prefix="m/")
    found = {item.id: item for item in source.items()}
    assert sorted(found) == sorted(f"m/{name}" for name in names)
    assert source.left_out() == {".txt": 1}
    item = found["m/train/c1/4.jpg"]
    assert (item.label, item.split, item.size) == ("c1", "train", 14)
    assert item.source == "memory://p/train/c1/4.jpg"
    assert pickle.loads(pickle.dumps(item)).read(LIMIT) == b"train/c1/4.jpg" == reader_of(item.source)(LIMIT)
    with pytest.raises(ImageTooLarge, match="14 bytes"):
        item.read(13)
    memory.rm("/p/train/c1/4.jpg")
    with pytest.raises(UnreadableFile, match="can't be read"):
        item.read(LIMIT)
    assert source.covers("m/gone/1.jpg", "memory://p/gone/1.jpg")
    for row_id, other in (
        ("gone/1.jpg", "memory://p/gone/1.jpg"),
        ("m/1.jpg", "memory://p/gone/1.jpg"),
        ("m/1.jpg", "memory://p2/1.jpg"),
        ("m/.h/1.jpg", "memory://p/.h/1.jpg"),
    ):
        assert not source.covers(row_id, other)
    assert source.describe().startswith("29 images; 3 labels from folder names")
    globbed = resolve("memory://p/*/c2/*.jpg")
    assert {item.label for item in globbed.items()} == {"c2"}


def test_a_prefix_without_images_is_refused(memory):
    memory.pipe("/p/a.txt", b"")
    with pytest.raises(InvalidArgument, match="no image below 'memory://p'"):
        list(resolve("memory://p").items())
    with pytest.raises(InvalidArgument, match="there is no folder 'memory://q'"):
        list(resolve("memory://q").items())


def test_tables_and_shards_behind_urls(memory):
    sink = io.BytesIO()
    pq.write_table(pa.table({"bytes": [b"0", b"1"]}), sink)
    memory.pipe("/t/t.parquet", sink.getvalue())
    memory.pipe("/t/t.csv", b"path\nx.jpg\nmemory://t/sub/y.jpg\n")
    memory.pipe("/t/x.jpg", b"x")
    memory.pipe("/t/sub/y.jpg", b"y")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo("1.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"tar"))
    memory.pipe("/t/a/s.tar", packed.getvalue())
    for text, ids, data in (
        ("memory://t/t.parquet", ["00000000", "00000001"], [b"0", b"1"]),
        ("memory://t/t.csv", ["x.jpg", "memory://t/sub/y.jpg"], [b"x", b"y"]),
        ("memory://t/*/s.tar", ["a/s/1"], [b"tar"]),
    ):
        source = resolve(text)
        items = list(source.items())
        assert [item.id for item in items] == ids
        assert [item.read(LIMIT) for item in items] == data
        assert [reader_of(item.source)(LIMIT) for item in items] == data


def packed(data: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        info = tarfile.TarInfo("1.jpg")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def test_a_shard_that_was_replaced_is_not_read_by_old_offsets(memory, monkeypatch):
    moment = [0.0]
    monkeypatch.setattr(tars, "_looks", tars.ShardLooks(lambda: moment[0]))
    memory.pipe("/t/s.tar", packed(b"tar"))
    (item,) = resolve("memory://t/s.tar").items()
    assert pickle.loads(pickle.dumps(item)).read(LIMIT) == b"tar"
    # Longer by a block of zeros, and another image under the same name at the same place.
    memory.pipe("/t/s.tar", packed(b"two") + bytes(512))
    moment[0] = 6.0
    with pytest.raises(UnreadableFile, match="the shard changed since it was listed; run the job again"):
        item.read(LIMIT)
    # What is listed now is read, though the look of a moment ago says otherwise.
    (again,) = resolve("memory://t/s.tar").items()
    assert again.read(LIMIT) == b"two"
    memory.pipe("/t/s.tar", packed(b"six") + bytes(1024))
    (last,) = resolve("memory://t/s.tar").items()
    assert last.read(LIMIT) == b"six"


def test_a_remote_shard_is_looked_at_once_for_many_members(memory, monkeypatch):
    monkeypatch.setattr(tars, "_looks", tars.ShardLooks(lambda: 1.0))
    memory.pipe("/t/s.tar", packed(b"tar"))
    (item,) = resolve("memory://t/s.tar").items()
    looks = []
    stamp_of = tars.stamp_of
    monkeypatch.setattr(tars, "stamp_of", lambda url: looks.append(url) or stamp_of(url))
    assert [item.read(LIMIT) for _ in range(5)] == [b"tar"] * 5
    assert looks == ["memory://t/s.tar"]


def test_a_missing_driver_is_named():
    with pytest.raises(MissingExtra, match="az:// needs a driver that is not installed: pip install adlfs"):
        resolve("az://container/x")
    with pytest.raises(InvalidArgument, match="nosuch"):
        resolve("nosuch://x")
    with pytest.raises(UnreadableFile, match="pip install adlfs"):
        reader_of("az://container/x.jpg")(LIMIT)


@pytest.mark.parametrize("text", ["s3://key:secret@bucket/p", "ftp://me:secret@host/p"])
def test_passwords_are_not_recorded(text):
    with pytest.raises(InvalidArgument, match="holds a password") as caught:
        resolve(text)
    assert "secret" not in caught.value.message


def test_a_url_without_a_bucket_is_refused():
    with pytest.raises(InvalidArgument, match="names no bucket"):
        resolve("gs://")


def test_names_that_a_url_would_cut_are_escaped():
    assert child_uri("s3://b/p?region=x", "a#b?c%d é.jpg") == "s3://b/p/a%23b%3Fc%25d %C3%A9.jpg?region=x"
    assert child_uri("memory://p", "a#b") == "memory://p/a#b"


def file(path: str) -> Entry:
    return Entry(path, False, 1, None, None)


def test_files_are_given_while_other_folders_are_listed():
    seen = threading.Event()

    def entries(folder):
        if folder == "r":
            return [Entry("r/slow", True, None, None, None), Entry("r/quick", True, None, None, None)]
        if folder == "r/slow":
            # Not before a file of the other folder was used.
            assert seen.wait(60)
        return [file(f"{folder}/1.jpg")]

    found = list_below(entries, "r", lambda _folder: True, threads=2)
    first = next(found)
    assert first.path == "r/quick/1.jpg"
    seen.set()
    assert [entry.path for entry in found] == ["r/slow/1.jpg"]


def test_a_listing_that_is_given_up_ends_its_threads():
    before = threading.active_count()
    found = list_below(lambda _folder: map(file, map(str, range(1_000_000))), "r", lambda _: True, threads=2)
    next(found)
    found.close()
    assert threading.active_count() == before


def test_a_folder_that_fails_is_told_and_the_others_go_on():
    def entries(folder):
        if folder == "r/bad":
            raise RuntimeError("a driver's own error")
        return [file("r/1.jpg"), Entry("r/bad", True, None, None, None)]

    found = list(list_below(entries, "r", lambda _: True, threads=2))
    (unlisted,) = [entry for entry in found if isinstance(entry, Unlisted)]
    assert (unlisted.folder, str(unlisted.reason)) == ("r/bad", "a driver's own error")
    assert file("r/1.jpg") in found


# S3 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def forgetting():
    """Nothing is kept of a server that is gone after the tests."""
    _arrow_filesystem.cache_clear()
    yield
    _arrow_filesystem.cache_clear()


@pytest.mark.usefixtures("forgetting")
def test_s3(s3_bucket):
    from pyarrow import fs

    store, bucket = fs.FileSystem.from_uri(s3_bucket)
    names = ["train/cat/1.jpg", "train/dog/a#b %3F.jpg", "val/cat/3.jpg", "note.txt"]
    for name in names:
        with store.open_output_stream(f"{bucket}/p/{name}") as stream:
            stream.write(name.encode())
    source = resolve(f"{s3_bucket}/p")
    items = {item.id: item for item in source.items()}
    assert sorted(items) == sorted(names[:3])
    assert (items[names[0]].label, items[names[0]].split, items[names[0]].size) == ("cat", "train", 15)
    assert items[names[0]].mtime is not None
    for item in items.values():
        assert item.read(LIMIT) == item.id.encode() == reader_of(item.source)(LIMIT)
        assert source.covers(item.id, item.source)
    assert [item.id for item in resolve(f"{s3_bucket}/p/*/dog/*").items()] == [names[1]]
    with pytest.raises(UnreadableFile, match="can't be read"):
        reader_of(f"{s3_bucket}/p/none.jpg")(LIMIT)
    with pytest.raises(ImageTooLarge):
        items[names[0]].read(3)
    with pytest.raises((InvalidArgument, StorageError), match="nobucket"):
        list(resolve("s3://nobucket/p").items())
