"""Folders and globs: what is an image, its id, label and split; hostile files; what is read of them."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import ImageError, ImageTooLarge, InvalidArgument, UnreadableFile
from trunkline_service.jobs.sources import FolderSource, reader_of, resolve
from trunkline_service.jobs.sources import folder as folder_module
from trunkline_service.jobs.sources.files import FileReader, read_upto
from trunkline_service.jobs.sources.layout import label_and_split
from trunkline_service.jobs.sources.pattern import Pattern, expand_braces, split_glob

LIMIT = 1000


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def by_id(source):
    return {item.id: item for item in source.items()}


def test_the_layout_gives_labels_and_splits(tmp_path):
    write(tmp_path, "train/cat/1.jpg", "Val/dog/b/2.JPEG", "3.png", "test/4.gif", "cat/train/5.bmp")
    found = {item.id: (item.label, item.split) for item in FolderSource(tmp_path).items()}
    assert found == {
        "train/cat/1.jpg": ("cat", "train"),
        "Val/dog/b/2.JPEG": ("b", "val"),
        "3.png": (None, None),
        "test/4.gif": (None, "test"),
        "cat/train/5.bmp": ("cat", "train"),
    }


def test_items_tell_size_time_and_place_and_are_read(tmp_path):
    write(tmp_path, "a/1.jpg")
    os.utime(tmp_path / "a/1.jpg", (7.5, 7.5))
    (item,) = resolve(str(tmp_path), id_prefix="x/").items()
    assert (item.id, item.source) == ("x/a/1.jpg", str(tmp_path / "a/1.jpg"))
    assert (item.size, item.mtime, item.etag) == (7, 7.5, None)
    assert item.read(LIMIT) == b"a/1.jpg" == reader_of(item.source)(LIMIT)
    # As Ray sends it to its workers.
    assert pickle.loads(pickle.dumps(item)).read(LIMIT) == b"a/1.jpg"


def test_hidden_files_are_left_out(tmp_path):
    write(tmp_path, "a/1.jpg", ".h/2.jpg", "a/.3.jpg", "a/notes.TXT", "a/none")
    source = FolderSource(tmp_path)
    assert list(by_id(source)) == ["a/1.jpg"]
    assert source.left_out() == {".txt": 1, "no suffix": 1}
    assert source.problems() == ()


def test_a_link_to_a_folder_is_a_problem_because_its_images_are_missing(tmp_path):
    write(tmp_path, "a/1.jpg", "b.jpg")
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / ".hidden").symlink_to(tmp_path / "a")
    source = FolderSource(tmp_path)
    assert list(by_id(source)) == ["b.jpg", "a/1.jpg"]
    assert source.problems() == (f"{tmp_path}/again: a link to a folder; not followed",)
    assert source.left_out() == {}
    # A glob that would not look into it misses nothing.
    flat = resolve(f"{tmp_path}/*.jpg")
    assert list(by_id(flat)) == ["b.jpg"]
    assert flat.problems() == ()


def test_two_names_of_one_id_are_not_both_given(tmp_path):
    write(tmp_path, "a\\xff.jpg", "b.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.jpg")).write_bytes(b"raw")
    source = FolderSource(tmp_path)
    items = list(source.items())
    assert sorted(item.id for item in items) == ["a\\xff.jpg", "b.jpg"]
    (problem,) = source.problems()
    assert problem.startswith(f"id {items[0].id!r} comes twice; ")
    assert "1 problems (id" in source.describe()


def test_the_interpretation_is_said(tmp_path):
    write(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "a.txt")
    assert FolderSource(tmp_path).describe() == (
        "2 images; 2 labels from folder names (cat, dog); splits train 2; 1 other files left out (.txt)"
    )
    flat = write(tmp_path / "flat", "1.jpg", "2.jpg")
    source = FolderSource(flat)
    assert source.describe() == "2 images; no labels (no folders below)"
    source._head = 1
    assert source.describe() == "at least 1 images; no labels (no folders below)"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are Unix's")
def test_hostile_files_are_items_whose_reading_says_why(tmp_path):
    write(tmp_path, "x.jpg/1.jpg", "gone.jpg")
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "empty.jpg").write_bytes(b"")
    raw = os.fsencode(tmp_path) + b"/\xff.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"raw")
    source = FolderSource(tmp_path)
    items = by_id(source)
    assert all(source.covers(item.id, item.source) for item in items.values())
    (tmp_path / "gone.jpg").unlink()

    reasons = {}
    for name, item in items.items():
        for read in (item.read, reader_of(item.source)):
            try:
                reasons.setdefault(name, set()).add(read(LIMIT))
            except ImageError as exc:
                reasons.setdefault(name, set()).add(exc.message)
    assert reasons == {
        "x.jpg/1.jpg": {b"x.jpg/1.jpg"},
        "gone.jpg": {"can't be read: No such file or directory"},
        "fifo.jpg": {"not a regular file; leave it out or replace it"},
        "broken.jpg": {"can't be read: No such file or directory"},
        "loop.jpg": {"can't be read: Too many levels of symbolic links"},
        "device.jpg": {"not a regular file; leave it out or replace it"},
        "empty.jpg": {b""},
        "\\xff.jpg": {b"raw"},
    }
    assert items["broken.jpg"].size is None
    assert items["broken.jpg"].mtime is None


def test_a_fifo_that_takes_a_files_place_is_not_waited_for(tmp_path, monkeypatch):
    regular = write(tmp_path, "1.jpg") / "1.jpg"
    os.mkfifo(tmp_path / "fifo")
    before = regular.stat()
    # Looked at while it was a file, and opened when it is none any more.
    monkeypatch.setattr(os, "stat", lambda *_args, **_kwargs: before)
    with pytest.raises(UnreadableFile, match="not a regular file"):
        FileReader(str(tmp_path / "fifo"))(LIMIT)


def test_large_and_growing_files_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "1.jpg"
    path.write_bytes(b"x" * 20)
    assert FileReader(str(path))(20) == b"x" * 20
    with pytest.raises(ImageTooLarge, match=r"20 bytes; at most 19 are allowed"):
        FileReader(str(path))(19)
    with path.open("rb") as file:
        # It had 5 bytes when it was looked at.
        assert read_upto(file.fileno(), 5, 20) == b"x" * 20
        file.seek(0)
        with pytest.raises(ImageTooLarge, match="at least 11 bytes"):
            read_upto(file.fileno(), 5, 10)
        assert file.tell() == 11


def test_a_path_that_is_none_is_an_unreadable_file():
    with pytest.raises(UnreadableFile, match="null byte"):
        FileReader("/a\0b")(LIMIT)
    with pytest.raises(UnreadableFile, match="not recorded"):
        reader_of("")(LIMIT)
    with pytest.raises(UnreadableFile, match="neither an absolute path nor a URL"):
        reader_of("a/b.jpg")(LIMIT)


def test_a_name_with_a_backslash_of_its_own_is_read(tmp_path):
    write(tmp_path, "\\xff.jpg", "x.tar#1.jpg")
    for item in FolderSource(tmp_path).items():
        assert reader_of(item.source)(LIMIT) == item.read(LIMIT) == item.id.encode()


def test_a_folder_that_can_not_be_listed_is_a_problem(tmp_path, monkeypatch):
    write(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    source = FolderSource(tmp_path)
    assert list(by_id(source)) == ["a/1.jpg"]
    assert source.problems() == (f"{tmp_path}/b can't be listed: Permission denied",)


def test_nothing_found_is_refused_and_says_what_was_looked_for(tmp_path):
    write(tmp_path, "a.txt")
    source = FolderSource(tmp_path)
    for look in (source.describe, lambda: list(source.items())):
        with pytest.raises(InvalidArgument, match=r"no image below .*looked for .bmp.*1 other files.*txt"):
            look()


def test_a_folder_is_held_in_stretches(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "_WINDOW", 3)
    write(tmp_path, *(f"{number}.jpg" for number in range(10)), "a/1.jpg")
    found = [item.id for item in FolderSource(tmp_path).items()]
    assert sorted(found) == sorted([*(f"{number}.jpg" for number in range(10)), "a/1.jpg"])
    assert found[:3] == sorted(found[:3])


def test_what_a_folder_covers(tmp_path):
    source = FolderSource(write(tmp_path, "1.jpg"))
    assert source.covers("gone/2.jpg", f"{tmp_path}/gone/2.jpg")
    assert FolderSource(tmp_path, id_prefix="x/").covers("x/1.jpg", f"{tmp_path}/1.jpg")
    assert FolderSource("/").covers("a/1.jpg", "/a/1.jpg")


@pytest.mark.parametrize(
    ("row_id", "source"),
    [
        # Of `--id-prefix x/`, of the folder below, of a table with its own ids.
        ("x/train/1.jpg", "{root}/train/1.jpg"),
        ("1.jpg", "{root}/train/1.jpg"),
        ("7", "{root}/train/1.jpg"),
        # Of a shard, of a table, of a neighbour, of nobody.
        ("x.tar#1.jpg", "{root}/x.tar#1.jpg"),
        ("t.parquet#3", "{root}/t.parquet#3"),
        ("1.jpg", "{root}2/1.jpg"),
        ("1.jpg", ""),
        # What it does not give: hidden, no image, no file's name.
        (".h/1.jpg", "{root}/.h/1.jpg"),
        ("../1.jpg", "{root}/../1.jpg"),
        ("a//1.jpg", "{root}/a//1.jpg"),
        ("a.txt", "{root}/a.txt"),
    ],
)
def test_rows_of_other_jobs_are_no_business_of_a_folder(tmp_path, row_id, source):
    assert not FolderSource(tmp_path).covers(row_id, source.format(root=tmp_path))


def test_a_glob_takes_what_matches_below_its_fixed_part(tmp_path):
    write(tmp_path, "train/cat/1.jpg", "train/cat/2.png", "train/dog/3.jpg", "val/cat/4.jpg", "5.jpg")
    source = resolve(f"{tmp_path}/train/*/?.jpg")
    assert {item.id: item.label for item in source.items()} == {"cat/1.jpg": "cat", "dog/3.jpg": "dog"}
    assert source.covers("gone/7.jpg", f"{tmp_path}/train/gone/7.jpg")
    assert not source.covers("cat/2.png", f"{tmp_path}/train/cat/2.png")
    # Of a glob whose fixed part ends elsewhere.
    assert not source.covers("train/gone/7.jpg", f"{tmp_path}/train/gone/7.jpg")
    assert not source.multi_label
    assert sorted(by_id(resolve(f"{tmp_path}/**"))) == sorted(by_id(FolderSource(tmp_path)))
    with pytest.raises(InvalidArgument, match=r"no image that matches '\*.gif'"):
        list(resolve(f"{tmp_path}/*.gif").items())


def test_a_name_with_wildcards_that_exists_is_no_glob(tmp_path):
    write(tmp_path, "[1]/a.jpg", "1/b.jpg")
    assert list(by_id(resolve(f"{tmp_path}/[1]"))) == ["a.jpg"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty text names no source"),
        ("nowhere", "does not exist; give a folder"),
        ("x.tar.gz", "decompress it"),
        ("{root}/1.jpg", "is one image; give the folder"),
        ("{root}/a.txt", "is no source"),
        ("{root}/1.jpg/*.jpg", "is not a folder"),
    ],
)
def test_what_is_no_source_is_refused(tmp_path, text, said):
    write(tmp_path, "1.jpg", "a.txt")
    with pytest.raises(InvalidArgument, match=said):
        resolve(text.format(root=tmp_path))


NAMES = st.lists(st.sampled_from(["a", "b", "ab", "train", "x.jpg"]), min_size=1, max_size=5)


@given(NAMES, st.lists(st.sampled_from(["*", "**", "a*", "?", "train", "x.jpg"]), min_size=1, max_size=4))
def test_a_folder_that_holds_a_match_is_entered(names, parts):
    pattern = Pattern(tuple(parts))
    if pattern.matches(names):
        assert all(pattern.may_hold(names[:depth]) for depth in range(1, len(names)))


@given(NAMES)
def test_a_label_is_no_split(names):
    label, split = label_and_split(names)
    assert label != "train"
    assert (split == "train") == ("train" in names)


def test_globs_are_cut_and_braces_expanded():
    assert split_glob("a/b*/c.jpg") == ("a", Pattern(("b*", "c.jpg")))
    assert split_glob("/*") == ("/", Pattern(("*",)))
    assert split_glob("*") == (".", Pattern(("*",)))
    assert split_glob("s3://b/p/**") == ("s3://b/p", Pattern(("**", "*")))
    with pytest.raises(InvalidArgument, match="bucket"):
        split_glob("s3://*/p")
    assert expand_braces("x-{08..11}-{a,b}") == [
        f"x-{number}-{letter}" for number in ("08", "09", "10", "11") for letter in "ab"
    ]
    assert expand_braces("{x}") == ["{x}"]
    with pytest.raises(InvalidArgument, match="100,000"):
        expand_braces("{0..999999}")


def test_listing_leaves_no_thread(tmp_path):
    before = threading.active_count()
    next(FolderSource(write(tmp_path, "1.jpg")).items())
    assert threading.active_count() == before
