"""WebDataset shards: samples, labels, shards that are damaged, reading by offset."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path

import pytest

from trunkline_service.errors import ImageTooLarge, InvalidArgument, UnreadableFile
from trunkline_service.jobs.sources import reader_of, resolve

LIMIT = 10_000


def shard(path: Path, *members: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def plain(path: Path, count: int = 3) -> Path:
    return shard(path, *((f"{number}.jpg", b"%d" % number * 600) for number in range(count)))


def test_members_of_one_stem_are_a_sample(tmp_path):
    shard(
        tmp_path / "s-000.tar",
        ("./f/1.cls", b"7\n"),
        ("f/1.json", b'{"width": 3, "when": null, "boxes": [1], "split": "train", "a b": 1e999}'),
        ("f/1.mask.png", b"mask"),
        ("f/1.jpg", b"image"),
        ("f/1.npy", b""),
        ("f/._2.jpg", b"apple"),
        ("f/2.png", b"two"),
        ("f/2.json", b'{"label": ["a", "b"]}'),
        ("f/2.txt", b"a caption \n"),
        ("f/3.json", b"{}"),
    )
    source = resolve(str(tmp_path / "s-000.tar"), id_prefix="p/")
    one, two = source.items()
    # The other one's label is a list.
    assert source.multi_label
    assert (one.id, one.label, one.split, one.size) == ("p/s-000/f/1", ("7",), "train", 5)
    # A null says nothing.
    assert one.metadata == {"width": 3}
    assert one.mtime == (tmp_path / "s-000.tar").stat().st_mtime
    assert one.source == f"{tmp_path}/s-000.tar#f/1.jpg"
    assert (two.id, two.label, two.metadata) == ("p/s-000/f/2", ("a", "b"), {"txt": "a caption"})
    for item, data in ((one, b"image"), (two, b"two")):
        assert pickle.loads(pickle.dumps(item)).read(LIMIT) == data == reader_of(item.source)(LIMIT)
        assert source.covers(item.id, item.source)
    assert source.left_out() == {".npy": 1, "sample without an image": 1, "further image of a sample": 1}
    assert source.problems() == ()
    assert source.describe() == (
        "2 images; 3 labels from .cls and .json (7, a, b); splits train 1; "
        "3 other files left out (.npy, further image of a sample, sample without an image)"
    )


def test_several_shards_by_braces_and_globs(tmp_path):
    for name in ("train/0", "val/0", "val/1"):
        plain(tmp_path / f"{name}.tar", 1)
    ids = ["train/0/0", "val/0/0", "val/1/0"]
    for pattern in ("*/*.tar", "{train,val}/{0..1}.tar"):
        source = resolve(f"{tmp_path}/{pattern}")
        items = list(source.items())
        assert [item.id for item in items] == ids
        assert [item.split for item in items] == ["train", "val", "val"]
        assert not source.multi_label
        assert source.covers("train/1/gone", f"{tmp_path}/train/1.tar#gone.jpg")
        for row_id, other in (
            ("x/train/1/gone", f"{tmp_path}/train/1.tar#gone.jpg"),
            ("1/gone", f"{tmp_path}/train/1.tar#gone.jpg"),
            ("train/1/gone", f"{tmp_path}/train/1.tar#other.jpg"),
            ("train/1/gone", f"{tmp_path}/train/1.tar#gone.txt"),
            ("train/1/.gone", f"{tmp_path}/train/1.tar#.gone.jpg"),
            ("other/0", f"{tmp_path}/other.tar#0.jpg"),
            ("train/1/gone", ""),
        ):
            assert not source.covers(row_id, other)
    # The braces name a shard that is not there.
    assert source.problems() == (f"{tmp_path}/train/1.tar: can't be read: No such file or directory",)


def test_a_sample_that_comes_again_is_left_out(tmp_path):
    shard(tmp_path / "0.tar", ("1.jpg", b"one"), ("2.jpg", b"two"), ("1.png", b"again"))
    source = resolve(f"{tmp_path}/0.tar")
    assert [(item.id, item.read(LIMIT)) for item in source.items()] == [("0/1", b"one"), ("0/2", b"two")]
    assert source.problems() == (
        f"id '0/1' comes twice; '{tmp_path}/0.tar#1.png' was left out: give it an id of its own",
    )


def damaged(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "header":
        # The second member's; a member takes 512 + 1024 bytes here.
        data[1536:2048] = b"\7" * 512
    elif how == "cut":
        del data[2100:]
    elif how == "no mark":
        del data[4608:]
    elif how == "text":
        data[:] = b"no tar at all" * 100
    else:
        del data[:]
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("how", "left", "said"),
    [
        ("header", 1, "damaged at byte 1,536"),
        ("cut", 2, "damaged at byte 3,072"),
        ("no mark", 3, "no end mark"),
        ("text", 0, "no tar file"),
        ("empty", 0, "no tar file"),
    ],
)
def test_a_damaged_shard_is_a_problem_and_the_others_go_on(tmp_path, how, left, said):
    damaged(plain(tmp_path / "0.tar"), how)
    plain(tmp_path / "1.tar")
    source = resolve(f"{tmp_path}/*.tar")
    ids = [item.id for item in source.items()]
    assert ids == [f"0/{number}" for number in range(left)] + [f"1/{number}" for number in range(3)]
    (problem,) = source.problems()
    assert problem.startswith(f"{tmp_path}/0.tar: {said}")


def test_a_member_whose_bytes_are_cut_off_is_unreadable(tmp_path):
    damaged(plain(tmp_path / "0.tar"), "cut")
    first, second = resolve(f"{tmp_path}/0.tar").items()
    assert first.read(LIMIT) == b"0" * 600
    for read in (second.read, reader_of(second.source)):
        with pytest.raises(UnreadableFile, match="ends early: 52 of 600"):
            read(LIMIT)
    with pytest.raises(ImageTooLarge, match="600 bytes"):
        first.read(599)


def test_a_shard_that_was_replaced_is_not_read_by_old_offsets(tmp_path):
    path = plain(tmp_path / "0.tar")
    first, *_ = resolve(str(path)).items()
    shard(path, ("x.txt", b"much longer than before" * 100), ("0.jpg", b"new"))
    os.utime(path, (1, 1))
    with pytest.raises(UnreadableFile, match="changed after it was listed"):
        first.read(LIMIT)
    assert reader_of(first.source)(LIMIT) == b"new"
    shard(path, ("9.jpg", b"other"))
    os.utime(path, (2, 2))
    with pytest.raises(UnreadableFile, match=r"no member '0.jpg' any more"):
        reader_of(first.source)(LIMIT)


def test_a_json_that_is_none_is_a_problem_and_the_image_stays(tmp_path):
    shard(tmp_path / "0.tar", ("1.jpg", b"x"), ("1.json", b"{"), ("2.jpg", b"y"), ("2.json", b"[1]"))
    source = resolve(f"{tmp_path}/0.tar")
    assert [item.metadata for item in source.items()] == [{}, {}]
    assert ["1: its .cls, .txt or .json can't be read" in source.problems()[0], len(source.problems())] == [
        True,
        2,
    ]


def test_links_in_a_tar_are_no_images(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        link = tarfile.TarInfo("1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    with pytest.raises(InvalidArgument, match="no image in"):
        list(resolve(f"{tmp_path}/0.tar").items())


def test_a_tar_that_is_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "0.tar")
    with pytest.raises(InvalidArgument, match="not a regular file"):
        list(resolve(f"{tmp_path}/0.tar").items())
