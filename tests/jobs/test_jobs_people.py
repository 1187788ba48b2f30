"""What people said of a row outlives every job: labels, splits, columns of their own, at any instant."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from trunkline_service.collections.rows import Row
from trunkline_service.errors import JobStopped
from trunkline_service.jobs.lately import Lately
from trunkline_service.jobs.local import LocalTarget
from trunkline_service.jobs.run import run
from trunkline_service.jobs.sources import GivenSource
from trunkline_service.jobs.target import Limits, within


def solid(value):
    return np.full((32, 32, 3), value, np.uint8)


def change(path, data, when=5):
    path.write_bytes(data)
    os.utime(path, (when, when))


def test_a_correction_survives_new_bytes_and_a_newer_file(photos, workspace, job, png):
    job(photos)
    collection = workspace.collections.open("c")
    collection.relabel({"train/ants/1.png": "corrected", "train/ants/2.png": None})
    collection.relabel({"train/ants/1.png": "held out"}, column="split")
    change(photos / "train/ants/1.png", png(solid(90)))
    os.utime(photos / "train/ants/2.png", (6, 6))
    result = job(photos)
    assert (result.embedded, result.touched) == (1, 1)
    rows = collection.find(["train/ants/1.png", "train/ants/2.png"])
    assert (rows["train/ants/1.png"].label, rows["train/ants/1.png"].split) == ("corrected", "held out")
    assert rows["train/ants/2.png"].label is None


def test_columns_that_the_source_does_not_give_stay_and_those_it_gives_are_new(workspace, job, png):
    job(GivenSource([("a", png(solid(1)), {"camera": "X100", "note": "mine"})]))
    job(GivenSource([("a", png(solid(2)), {"camera": "X200", "note": None})]))
    (row,) = workspace.collections.open("c").get(["a"])
    assert row.metadata == {"camera": "X200", "note": "mine"}


@pytest.mark.parametrize("touched", [True, False])
def test_a_label_that_is_set_while_the_job_runs_is_not_lost(photos, workspace, job, png, touched):
    """Set after the images were embedded, and before they are committed."""
    job(photos)
    collection = workspace.collections.open("c")
    for path in photos.rglob("*.png"):
        change(path, path.read_bytes() if touched else png(solid(100 + int(path.stem))))
    job(photos, progress=lambda _step: collection.relabel({"train/bees/3.png": "meanwhile"}))
    (row,) = collection.get(["train/bees/3.png"])
    assert row.label == "meanwhile"
    assert row.mtime == 5


def test_a_row_that_is_deleted_while_the_job_runs_stays_deleted(photos, workspace, job, png):
    job(photos)
    collection = workspace.collections.open("c")
    for path in photos.rglob("*.png"):
        change(path, path.read_bytes())
    job(photos, progress=lambda _step: collection.delete(["train/bees/3.png"]))
    assert "train/bees/3.png" not in collection.find(["train/bees/3.png"])


def test_equal_bytes_are_told_without_reading_rows(photos, workspace, job, monkeypatch):
    """At 20 million rows a look at each chunk's rows would take days."""
    job(photos)
    for path in photos.rglob("*.png"):
        os.utime(path, (9, 9))
    monkeypatch.setattr(LocalTarget, "find", lambda self, ids: pytest.fail("rows were read"))
    assert job(photos).touched == 5


def test_a_row_whose_content_was_never_recorded_is_not_taken_for_an_unreadable_file(photos, workspace, job):
    """Rows that came by another door may have no hash, and what can't be read has none either."""
    path = photos / "train/ants/1.png"
    row = Row("train/ants/1.png", np.ones(48, np.float32), source=str(path), size=1, mtime=1.0)
    collection = workspace.open_for("c")
    collection.upsert([row], space_id=collection.spec.space_id, decode="exact")
    path.unlink()
    os.mkfifo(path)
    result = job(photos)
    assert (result.touched, result.errors) == (0, {"unreadable_file": 1})
    assert collection.get([row.id])[0].mtime == 1.0


def test_an_oversized_file_of_another_source_takes_no_row_over(tmp_path, workspace, job, png):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/a.png").write_bytes(png(solid(1)))
    with (tmp_path / "two/a.png").open("wb") as file:
        file.truncate(workspace.settings.image.max_bytes + 1)
    job(tmp_path / "one")
    with pytest.raises(JobStopped, match="id-prefix"):
        job(tmp_path / "two")
    assert workspace.collections.open("c").get(["a.png"])[0].status == "ok"


def test_an_image_that_takes_a_row_over_brings_its_own_label(tmp_path, workspace, job, png):
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name / name).mkdir(parents=True)
        (tmp_path / name / name / "a.png").write_bytes(png(solid(value)))
    (tmp_path / "two/two").rename(tmp_path / "two/one")
    job(tmp_path / "one")
    workspace.collections.open("c").relabel({"one/a.png": "of the first image"})
    os.utime(tmp_path / "two/one/a.png", (3, 3))
    assert job(tmp_path / "two", replace=True).embedded == 1
    assert workspace.collections.open("c").get(["one/a.png"])[0].label == "one"


def test_a_source_that_goes_bad_after_many_good_images_is_stopped_soon(workspace, job, png):
    items = [(str(n), png(solid(n % 250)) if n < 3000 else b"gone", {}) for n in range(6000)]
    with pytest.raises(JobStopped, match="last"):
        job(GivenSource(items))
    assert workspace.collections.open("c").info().errors < 600


def test_lately_looks_at_the_last_thousand():
    lately = Lately()
    lately.add(150, 150)
    assert lately.rate == 0
    for _ in range(100):
        lately.add(100, 0)
    assert lately.rate == 0
    lately.add(300, 300)
    assert 0.2 < lately.rate < 0.4


def test_a_slow_source_is_not_read_far_ahead(workspace, png):
    """Items that bring their bytes are taken a few megabytes at a time."""
    taken = []

    def images():
        for number in range(400):
            taken.append(number)
            yield str(number), png(solid(number % 250)) + bytes(1024 * 1024), {}

    stop = threading.Event()
    target = LocalTarget(workspace, "c", in_flight=4)
    run(target, GivenSource(images), stop=stop, progress=lambda _step: stop.set())
    assert len(taken) < 200


def test_requests_are_cut_by_what_images_really_hold():
    parts = list(within([b"12345", b"678", b"9", b"", b"0" * 50], Limits(images=2, bytes=8, image_bytes=99)))
    assert parts == [[b"12345", b"678"], [b"9", b""], [b"0" * 50]]
    assert list(within([], Limits(2, 8, 99))) == []
