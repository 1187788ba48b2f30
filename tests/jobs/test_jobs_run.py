"""Jobs: resume at any commit, what changed, error rows, duplicates, pruning, ids of two sources."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.errors import InvalidArgument, JobStopped, SpaceMismatch, StorageError
from trunkline_service.jobs.local import LocalTarget
from trunkline_service.jobs.options import JobOptions
from trunkline_service.jobs.run import run
from trunkline_service.jobs.shard import Shard
from trunkline_service.jobs.sources import GivenSource, resolve
from trunkline_service.settings import QueueLimits, Settings
from trunkline_service.workspace import Workspace


def solid(value):
    return np.full((32, 32, 3), value, np.uint8)


def rows_of(workspace, name="c"):
    """What must be equal however a collection came about: all but the job and the moment."""
    table = [batch.to_pylist() for batch in workspace.collections.open(name).scan()]
    rows = [row for batch in table for row in batch]
    for row in rows:
        row["embedding"] = None if row["embedding"] is None else tuple(row["embedding"])
        del row["job"], row["embedded_at"]
    return sorted(rows, key=lambda row: row["id"])


def test_a_second_run_does_nothing_and_a_changed_file_is_done_again(
    photos, workspace, job, png, tiny_vector_of
):
    first = job(photos)
    assert (first.embedded, first.unchanged, first.errors) == (5, 0, {})
    assert workspace.collections.open("c").info().labels == {"ants": 3, "bees": 2}
    again = job(photos)
    assert (again.embedded, again.unchanged, again.version) == (0, 5, first.version)
    changed = photos / "train/ants/1.png"
    changed.write_bytes(png(solid(99)))
    os.utime(changed, (1, 1))
    third = job(photos)
    assert (third.embedded, third.unchanged) == (1, 4)
    (row,) = workspace.collections.open("c").get(["train/ants/1.png"])
    np.testing.assert_allclose(row.embedding, tiny_vector_of(solid(99)))
    assert (row.split, row.job) == ("train", third.job)


def test_a_newer_file_with_the_same_bytes_keeps_its_vector(photos, workspace, job):
    job(photos)
    path = photos / "train/ants/1.png"
    os.utime(path, (7, 7))
    result = job(photos)
    assert (result.touched, result.embedded, result.unchanged) == (1, 0, 4)
    assert workspace.collections.open("c").get(["train/ants/1.png"])[0].mtime == 7
    assert job(photos).unchanged == 5


def test_verify_finds_bytes_that_changed_behind_size_and_time(photos, workspace, job, png):
    path = photos / "train/ants/1.png"
    path.write_bytes(png(solid(60), "BMP"))
    job(photos)
    status, other = path.stat(), png(solid(61), "BMP")
    assert len(other) == status.st_size
    path.write_bytes(other)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert job(photos).unchanged == 5
    result = job(photos, verify=True)
    assert (result.embedded, result.touched) == (1, 4)


def test_labels_that_people_gave_survive_a_changed_file(tmp_path, workspace, job, png):
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.png").write_bytes(png(solid(1)))
    job(flat)
    workspace.collections.open("c").relabel({"a.png": "rose"})
    (flat / "a.png").write_bytes(png(solid(50)))
    assert job(flat).embedded == 1
    assert workspace.collections.open("c").get(["a.png"])[0].label == "rose"


def test_bad_files_become_rows_with_reasons_and_can_be_retried_alone(photos, workspace, job, png):
    bad = {
        "text.jpg": b"hello",
        "empty.png": b"",
        "cut.png": png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[:200],
    }
    for name, data in bad.items():
        (photos / name).write_bytes(data)
    (photos / "link.jpg").symlink_to(photos / "nowhere")
    os.mkfifo(photos / "pipe.jpg")
    result = job(photos)
    assert result.embedded == 5
    assert result.errors == {
        "unsupported_image": 1,
        "empty_image": 1,
        "truncated_image": 1,
        "unreadable_file": 2,
    }
    assert workspace.collections.open("c").info().errors == 5
    assert job(photos).failed_before == 5
    retried = job(photos, retry_failed=True)
    assert (retried.unchanged, sum(retried.errors.values())) == (5, 5)


def test_a_file_that_can_not_be_read_for_now_keeps_its_vector(photos, workspace, job):
    job(photos)
    path = photos / "train/ants/1.png"
    path.unlink()
    os.mkfifo(path)
    result = job(photos)
    assert result.errors == {"unreadable_file": 1}
    assert workspace.collections.open("c").get(["train/ants/1.png"])[0].status == "ok"


def test_a_source_that_fails_stops_the_job_and_leaves_no_flood_of_error_rows(tmp_path, workspace, job):
    items = [(f"{number}.png", b"no image", {}) for number in range(1000)]
    with pytest.raises(JobStopped, match=r"unsupported_image.*max-error-rate"):
        job(GivenSource(items), max_error_rate=0.5)
    assert workspace.collections.open("c").info().errors < 1000


def test_some_errors_do_not_stop_a_job(workspace, job, png):
    good = png(solid(1))
    items = [(f"{n}.png", b"no image" if n % 20 == 0 else good, {}) for n in range(400)]
    result = job(GivenSource(items))
    assert (result.embedded, result.errors) == (380, {"unsupported_image": 20})


def test_equal_bytes_are_embedded_once(workspace, job, png, monkeypatch):
    seen = []
    real = workspace.engine.embed

    def embed(model, images, caller):
        seen.extend(image.data for image in images)
        return real(model, images, caller)

    monkeypatch.setattr(workspace.engine, "embed", embed)
    items = [(f"{n}.png", png(solid(n % 7)), {}) for n in range(700)]
    first = job(GivenSource(items))
    assert (first.embedded, first.duplicates) == (700, 693)
    assert len(seen) == len(set(seen)) == 7
    # What an earlier run stored is not embedded again either.
    second = job(GivenSource([(f"again/{name}", data, {}) for name, data, _ in items]))
    assert (second.embedded, second.duplicates, len(seen)) == (700, 700, 7)
    rows = workspace.collections.open("c").get(["3.png", "again/3.png"])
    np.testing.assert_array_equal(rows[0].embedding, rows[1].embedding)


def test_two_sources_with_equal_ids_do_not_overwrite_each_other(tmp_path, workspace, job, png):
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(png(solid(value)))
        os.utime(tmp_path / name / "a.png", (value, value))
    job(tmp_path / "one")
    with pytest.raises(JobStopped, match=r"'a\.png'.*--id-prefix"):
        job(tmp_path / "two")
    assert workspace.collections.open("c").get(["a.png"])[0].source.endswith("one/a.png")
    assert job(resolve(str(tmp_path / "two"), id_prefix="two/")).embedded == 1
    assert job(tmp_path / "two", replace=True).embedded == 1
    assert workspace.collections.open("c").get(["a.png"])[0].source.endswith("two/a.png")


def test_a_folder_that_moved_is_the_same_source(photos, workspace, job):
    job(photos)
    moved = photos.with_name("elsewhere")
    shutil.copytree(photos, moved)
    for path in moved.rglob("*.png"):
        os.utime(path, (3, 3))
    result = job(moved)
    assert (result.embedded, result.touched) == (0, 5)
    assert "elsewhere" in workspace.collections.open("c").get(["train/ants/1.png"])[0].source


def test_a_job_never_mixes_spaces(photos, workspace, job, publish_tiny):
    job(photos)
    publish_tiny(Path(workspace.settings.models), name="other", scale=2.0)
    with pytest.raises(SpaceMismatch, match=r"'c'.*tiny@1"):
        job(photos, model="other")


def test_a_model_that_came_again_with_other_weights_is_noticed(photos, workspace, job, publish_tiny, png):
    """The collection refers to tiny@1; another tiny@1 stands in its place."""
    job(photos)
    root = Path(workspace.settings.models)
    shutil.rmtree(root / "tiny")
    publish_tiny(root, scale=-1.0)
    (photos / "new.png").write_bytes(png(solid(77)))
    with pytest.raises(SpaceMismatch, match="'c' holds"):
        job(photos)
    assert workspace.collections.open("c").info().rows == 5


def test_a_vector_that_is_not_finite_is_an_error_row_and_the_job_ends(photos, workspace, job, publish_tiny):
    publish_tiny(Path(workspace.settings.models), name="broken", scale=float("inf"))
    assert job(photos, model="broken").errors == {"non_finite_embedding": 5}


def test_a_small_queue_makes_small_chunks(tmp_path, photos, publish_tiny):
    publish_tiny(tmp_path / "models")
    settings = Settings(
        models=str(tmp_path / "models"),
        data=str(tmp_path / "data"),
        default_model="tiny",
        threads=1,
        queue=QueueLimits(max_images=5, max_bytes=40_000),
    )
    with Workspace(settings) as small:
        target = LocalTarget(small, "c", in_flight=4, pause=lambda _: None)
        assert target.limits.images == 1
        assert run(target, resolve(str(photos))).embedded == 5


def test_a_collections_own_decode_mode_is_used(photos, workspace, job, png):
    job(photos)
    fast = dataclasses.replace(workspace.settings, decode="fast")
    with Workspace(fast) as other:
        (photos / "more.png").write_bytes(png(solid(42)))
        assert run(LocalTarget(other, "c", in_flight=4), resolve(str(photos))).embedded == 1
        assert other.collections.open("c").get(["more.png"])[0].decode == "exact"


def test_a_job_that_is_asked_to_stop_stores_what_it_began_and_goes_on_later(workspace, job, png):
    items = [(f"{number:04d}.png", png(solid(number % 250)), {}) for number in range(2000)]
    stop = threading.Event()
    first = job(GivenSource(items), progress=lambda _step: stop.set(), stop=stop)
    assert first.stopped
    stored = workspace.collections.open("c").info().rows
    assert 0 < stored < 2000
    assert stored == first.embedded
    second = job(GivenSource(items))
    assert (second.unchanged, second.embedded, second.stopped) == (stored, 2000 - stored, False)


@pytest.mark.parametrize("dies_at", range(4))
def test_a_job_that_dies_at_any_commit_ends_like_one_that_does_not(workspace, job, png, monkeypatch, dies_at):
    items = [
        (f"{n}.png", b"bad" if n % 9 == 0 else png(solid(n)), {"label": f"l{n % 3}", "weight": n / 2})
        for n in range(60)
    ]
    monkeypatch.setattr("trunkline_service.jobs.local._CHUNK_IMAGES", 8)
    real, calls = Collection.upsert, []

    def upsert(self, rows, **values):
        calls.append(len(rows))
        if self.name == "died" and len(calls) == dies_at + 1:
            raise StorageError("the disk is full")
        return real(self, rows, **values)

    monkeypatch.setattr(Collection, "upsert", upsert)
    with pytest.raises(StorageError):
        job(GivenSource(items), "died", commit_rows=10)
    result = job(GivenSource(items), "died", commit_rows=10)
    assert result.unchanged + result.failed_before + result.embedded + sum(result.errors.values()) == 60
    job(GivenSource(items), "straight")
    assert rows_of(workspace, "died") == rows_of(workspace, "straight")


def test_shards_together_give_the_rows_of_one_job(photos, workspace, job):
    for number in (1, 2, 3):
        job(photos, "shards", shard=Shard(number, 3))
    job(photos, "whole")
    assert rows_of(workspace, "shards") == rows_of(workspace, "whole")


def test_progress_says_how_far_it_is(photos, job):
    steps = []
    job(photos, progress=steps.append)
    last = steps[-1]
    assert (last.done, last.total, last.listed, last.errors) == (5, 5, 5, 0)
    assert set(last.shares) == {"read", "decode", "device", "write"}
    assert last.eta_s == 0


@pytest.mark.parametrize(
    "values", [{"max_error_rate": 1.5}, {"max_error_rate": -0.1}, {"commit_rows": 0}, {"commit_s": -1.0}]
)
def test_options_out_of_range_are_refused(values):
    with pytest.raises(InvalidArgument):
        JobOptions(**values)
