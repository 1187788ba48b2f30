"""Jobs: labels and splits from folders, resume, error rows, what changed."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument, SpaceMismatch
from trunkline_service.jobs import local
from trunkline_service.jobs.plan import chunks
from trunkline_service.jobs.sources import SourceItem, scan_folder
from trunkline_service.settings import QueueLimits, Settings
from trunkline_service.workspace import Workspace


def solid(value):
    return np.full((32, 32, 3), value, np.uint8)


@pytest.fixture
def photos(tmp_path, png):
    root = tmp_path / "photos"
    for split, label, values in (("train", "ants", (1, 2)), ("train", "bees", (3, 4)), ("val", "ants", (5,))):
        folder = root / split / label
        folder.mkdir(parents=True)
        for value in values:
            (folder / f"{value}.png").write_bytes(png(solid(value)))
    (root / "README.txt").write_text("not an image")
    return root


@pytest.fixture
def workspace(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    settings = Settings(
        models=str(tmp_path / "models"), data=str(tmp_path / "data"), default_model="tiny", threads=2
    )
    with Workspace(settings) as opened:
        yield opened


def test_the_layout_of_a_folder_gives_labels_and_splits(photos):
    scan = scan_folder(photos)
    assert [(item.id, item.label, item.split) for item in scan.items] == [
        ("train/ants/1.png", "ants", "train"),
        ("train/ants/2.png", "ants", "train"),
        ("train/bees/3.png", "bees", "train"),
        ("train/bees/4.png", "bees", "train"),
        ("val/ants/5.png", "ants", "val"),
    ]
    assert scan.skipped == {".txt": 1}
    assert "2 labels" in scan.describe()


def test_a_flat_folder_has_no_labels(tmp_path, png):
    (tmp_path / "a.PNG").write_bytes(png(solid(1)))
    assert scan_folder(tmp_path).items[0].label is None


@pytest.mark.parametrize("make", [lambda root: root / "absent", lambda root: root])
def test_no_folder_or_no_image_is_said(tmp_path, make):
    with pytest.raises(InvalidArgument):
        scan_folder(make(tmp_path))


def test_a_second_run_does_nothing_and_a_changed_file_is_done_again(photos, workspace, png, tiny_vector_of):
    first = local.run(workspace, scan_folder(photos), "c")
    assert (first.embedded, first.unchanged, first.errors) == (5, 0, {})
    assert workspace.collections.open("c").info().labels == {"ants": 3, "bees": 2}
    again = local.run(workspace, scan_folder(photos), "c")
    assert (again.embedded, again.unchanged, again.version) == (0, 5, first.version)
    changed = photos / "train/ants/1.png"
    changed.write_bytes(png(solid(99)))
    os.utime(changed, (1, 1))
    third = local.run(workspace, scan_folder(photos), "c")
    assert (third.embedded, third.unchanged) == (1, 4)
    (row,) = workspace.collections.open("c").get(["train/ants/1.png"])
    np.testing.assert_allclose(row.embedding, tiny_vector_of(solid(99)))
    assert (row.split, row.job) == ("train", third.job)


def test_bad_files_become_rows_with_reasons_and_can_be_retried_alone(photos, workspace, png):
    bad = {
        "text.jpg": b"hello",
        "empty.png": b"",
        "cut.png": png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[:200],
    }
    for name, data in bad.items():
        (photos / name).write_bytes(data)
    (photos / "link.jpg").symlink_to(photos / "nowhere")
    os.mkfifo(photos / "pipe.jpg")
    result = local.run(workspace, scan_folder(photos), "c")
    assert result.embedded == 5
    assert result.errors == {
        "unsupported_image": 1,
        "empty_image": 1,
        "truncated_image": 1,
        "unreadable_file": 2,
    }
    assert workspace.collections.open("c").info().errors == 5
    assert local.run(workspace, scan_folder(photos), "c").failed_before == 5
    retried = local.run(workspace, scan_folder(photos), "c", retry_failed=True)
    assert (retried.unchanged, sum(retried.errors.values())) == (5, 5)


def test_a_job_never_mixes_spaces(photos, workspace, publish_tiny):
    local.run(workspace, scan_folder(photos), "c")
    publish_tiny(Path(workspace.settings.models), name="other", scale=2.0)
    with pytest.raises(SpaceMismatch, match=r"'c'.*tiny@1"):
        local.run(workspace, scan_folder(photos), "c", model="other")


def test_a_model_that_came_again_with_other_weights_is_noticed(photos, workspace, publish_tiny):
    """The collection refers to tiny@1; another tiny@1 stands in its place."""
    local.run(workspace, scan_folder(photos), "c")
    root = Path(workspace.settings.models)
    shutil.rmtree(root / "tiny")
    publish_tiny(root, scale=-1.0)
    (photos / "new.png").write_bytes((photos / "train/ants/1.png").read_bytes())
    with pytest.raises(SpaceMismatch, match="'c' holds"):
        local.run(workspace, scan_folder(photos), "c")
    assert workspace.collections.open("c").info().rows == 5


def test_a_vector_that_is_not_finite_is_an_error_row_and_the_job_ends(photos, workspace, publish_tiny):
    publish_tiny(Path(workspace.settings.models), name="broken", scale=float("inf"))
    result = local.run(workspace, scan_folder(photos), "c", model="broken")
    assert result.errors == {"non_finite_embedding": 5}


def test_names_that_are_no_utf8_are_escaped(tmp_path, workspace, png):
    root = tmp_path / "odd"
    root.mkdir()
    path = os.path.join(os.fsencode(root), b"caf\xe9.png")
    try:
        Path(os.fsdecode(path)).write_bytes(png(solid(1)))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    result = local.run(workspace, scan_folder(root), "c")
    assert (result.embedded, result.errors) == (1, {})
    assert workspace.collections.open("c").get(["caf\\xe9.png"])[0].status == "ok"


def test_a_folder_that_can_not_be_listed_is_reported(photos, monkeypatch):
    real = os.scandir

    def scandir(folder):
        if str(folder).endswith("bees"):
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    scan = scan_folder(photos)
    assert len(scan.items) == 3
    assert scan.unreadable[0].endswith("bees: Permission denied")
    assert "can't be read" in scan.describe()


def test_a_small_queue_makes_small_chunks(tmp_path, photos, publish_tiny):
    publish_tiny(tmp_path / "models")
    settings = Settings(
        models=str(tmp_path / "models"),
        data=str(tmp_path / "data"),
        default_model="tiny",
        threads=1,
        queue=QueueLimits(max_images=4, max_bytes=40_000),
    )
    with Workspace(settings) as small:
        assert local.run(small, scan_folder(photos), "c", pause=lambda _: None).embedded == 5


def test_a_collections_own_decode_mode_is_used(tmp_path, photos, workspace):
    local.run(workspace, scan_folder(photos), "c")
    fast = dataclasses.replace(workspace.settings, decode="fast")
    with Workspace(fast) as other:
        (photos / "more.png").write_bytes((photos / "train/ants/1.png").read_bytes())
        assert local.run(other, scan_folder(photos), "c").embedded == 1
        assert other.collections.open("c").get(["more.png"])[0].decode == "exact"


def test_an_interrupted_job_goes_on(photos, workspace, monkeypatch):
    monkeypatch.setattr(local, "_CHUNK_IMAGES", 2)

    def interrupt(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.run(workspace, scan_folder(photos), "c", progress=interrupt)
    assert workspace.collections.open("c").info().rows == 2
    result = local.run(workspace, scan_folder(photos), "c")
    assert (result.embedded, result.unchanged) == (3, 2)


@given(
    st.lists(st.integers(0, 50), max_size=40),
    st.integers(1, 7),
    st.integers(1, 100),
)
def test_chunks_keep_order_and_bounds(sizes, most_images, most_bytes):
    items = [SourceItem(str(number), Path("x"), None, None, size, 0.0) for number, size in enumerate(sizes)]
    cut = list(chunks(items, most_images, most_bytes))
    assert [item for chunk in cut for item in chunk] == items
    for chunk in cut:
        assert 0 < len(chunk) <= most_images
        assert sum(item.size for item in chunk) <= most_bytes or len(chunk) == 1
