"""Pruning: which rows have lost their source, whose business they are, and what stops a deletion."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from trunkline_service.collections.known import COLUMNS, Known, stamp
from trunkline_service.collections.rows import Row
from trunkline_service.jobs.local import LocalTarget
from trunkline_service.jobs.shard import WHOLE, Shard
from trunkline_service.jobs.sources import FolderSource, TableColumns, resolve
from trunkline_service.jobs.sources.recorded import RecordedSource
from trunkline_service.jobs.vanished import survey, too_many, vanished_ids

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def solid(value):
    return np.full((32, 32, 3), value, np.uint8)


def ids_of(workspace, name="c"):
    return {
        row_id
        for batch in workspace.collections.open(name).scan(["id"])
        for row_id in batch.column("id").to_pylist()
    }


# Jobs ------------------------------------------------------------------------------------------------------


def test_vanished_files_are_reported_and_pruned_on_request_only(photos, workspace, job, png):
    other = photos.parent / "other"
    other.mkdir()
    (other / "x.png").write_bytes(png(solid(9)))
    job(photos)
    job(other)
    (photos / "train/ants/1.png").unlink()
    assert (job(photos).vanished, job(photos).pruned) == (1, 0)
    result = job(photos, prune=True)
    assert (result.vanished, result.pruned) == (1, 1)
    # The other source's row is not this one's business.
    assert ids_of(workspace) == {
        "train/ants/2.png",
        "train/bees/3.png",
        "train/bees/4.png",
        "val/ants/5.png",
        "x.png",
    }


def test_rows_of_other_jobs_over_the_same_files_stay(photos, workspace, job):
    (photos.parent / "own.csv").write_text("n,path\n1,photos/train/ants/1.png\n2,photos/val/ants/5.png\n")
    for source in (
        resolve(str(photos), id_prefix="x/"),
        resolve(str(photos / "train")),
        resolve(f"{photos}/train/*/*.png", id_prefix="glob/"),
        resolve(str(photos.parent / "own.csv"), TableColumns(id="n")),
    ):
        job(source)
    before = ids_of(workspace)
    assert len(before) == 5 + 4 + 4 + 2
    result = job(photos, prune=True)
    assert (result.vanished, result.pruned) == (0, 0)
    assert before < ids_of(workspace)


def test_a_collection_that_lacks_rows_prunes_none_of_what_is_made_from_it(photos, workspace, job):
    job(photos / "train", "old")
    job(photos, "new")
    result = job(RecordedSource(workspace.collections.open("old")), "new", prune=True, replace=True)
    assert (result.vanished, result.pruned) == (0, 0)
    assert len(ids_of(workspace, "new")) == 9


def test_nothing_is_pruned_where_a_folder_could_not_be_listed(photos, workspace, job, monkeypatch):
    job(photos)
    real = os.scandir

    def scandir(folder):
        if str(folder).endswith("bees"):
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    result = job(photos)
    assert result.problems
    assert result.vanished is None
    assert result.not_pruned == ""
    result = job(photos, prune=True)
    assert (result.vanished, result.pruned) == (None, 0)
    assert "bees can't be listed" in result.not_pruned
    assert workspace.collections.open("c").info().rows == 5


def test_nothing_is_pruned_where_a_folder_became_a_link(photos, workspace, job):
    """The images moved to another disk, and a link stands in their place."""
    job(photos)
    moved = photos.parent / "disk"
    (photos / "train").rename(moved)
    (photos / "train").symlink_to(moved)
    result = job(photos, prune=True)
    assert (result.vanished, result.pruned) == (None, 0)
    assert "a link to a folder; not followed" in result.not_pruned
    assert workspace.collections.open("c").info().rows == 5


def test_nothing_is_pruned_where_most_of_many_rows_would_go(tmp_path, workspace, job, png):
    """A folder below is not mounted: it is there, and empty."""
    below = tmp_path / "many/disk"
    below.mkdir(parents=True)
    data = png(solid(1))
    for number in range(101):
        (below / f"{number}.png").write_bytes(data)
    (tmp_path / "many/own.png").write_bytes(data)
    job(tmp_path / "many")
    for path in below.iterdir():
        path.unlink()
    result = job(tmp_path / "many", prune=True)
    assert (result.vanished, result.pruned) == (101, 0)
    assert "101 of 102 rows would go" in result.not_pruned
    assert len(ids_of(workspace)) == 102


def test_pruning_a_shard_leaves_the_others_alone(photos, workspace, job):
    job(photos)
    for path in photos.rglob("*.png"):
        if path.name != "5.png":
            path.unlink()
    gone = sum(job(photos, prune=True, shard=Shard(number, 2)).pruned for number in (1, 2))
    assert gone == 4
    assert ids_of(workspace) == {"val/ants/5.png"}


def test_the_moments_of_stored_rows_tell_which_were_there(photos, workspace, job):
    job(photos)
    (photos / "val/ants/5.png").unlink()
    target, source = LocalTarget(workspace, "c", in_flight=4), FolderSource(photos)
    found = survey(target, source, judged(target, source), WHOLE)
    assert (found.count, found.covered) == (1, 5)
    now = datetime.now(UTC)
    assert list(found.ids(now + timedelta(hours=1))) == [["val/ants/5.png"]]
    assert list(found.ids(now - timedelta(hours=1))) == []


# Counting, and looking once more ---------------------------------------------------------------------------


class Rows:
    """A target's rows, in memory."""

    def __init__(self, *rows: Row) -> None:
        self.rows = {row.id: row for row in rows}

    def known(self) -> Known:
        rows = self.rows.values()
        return Known([[[getattr(row, name) for row in rows] for name in COLUMNS]])

    def sources(self):
        rows = list(self.rows.values())
        for start in range(0, len(rows), 2):
            part = rows[start : start + 2]
            yield [row.id for row in part], [row.source for row in part]

    def find(self, ids):
        return {row_id: self.rows[row_id] for row_id in ids if row_id in self.rows}


def row(root, name, moment=BEGAN - timedelta(hours=1), source=None):
    return Row(
        name, np.ones(4, np.float32), source=source or f"{root}/{name}", embedded_at=moment, job="before"
    )


@pytest.fixture
def held(tmp_path):
    """Five rows of a folder of which two files are there, and one of another job."""
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / name).write_bytes(b"x")
    names = [f"{number}.jpg" for number in range(5)]
    return Rows(
        *(row(tmp_path, name) for name in names), row(tmp_path, "x/7.jpg", source=f"{tmp_path}/7.jpg")
    )


def judged(rows, source):
    known = rows.known()
    items = list(source.items())
    known.judge([item.id for item in items], [stamp(item.size, item.mtime, item.etag) for item in items])
    return known


def flat(batches):
    return [row_id for batch in batches for row_id in batch]


def test_rows_are_counted_before_any_is_named(held, tmp_path):
    source = FolderSource(tmp_path)
    known = judged(held, source)
    found = survey(held, source, known, WHOLE)
    assert (found.count, found.covered) == (3, 5)
    assert flat(found.ids(BEGAN)) == ["2.jpg", "3.jpg", "4.jpg"]
    # Once more: nothing is used up.
    assert flat(found.ids(BEGAN)) == ["2.jpg", "3.jpg", "4.jpg"]
    assert flat(vanished_ids(held, source, known, WHOLE)) == ["2.jpg", "3.jpg", "4.jpg"]


def test_what_is_counted_is_what_is_named_in_every_shard(held, tmp_path):
    source = FolderSource(tmp_path)
    known = judged(held, source)
    parts = [survey(held, source, known, Shard(number, 3)) for number in (1, 2, 3)]
    assert (sum(part.count for part in parts), sum(part.covered for part in parts)) == (3, 5)
    assert sorted(row_id for part in parts for row_id in flat(part.ids(BEGAN))) == ["2.jpg", "3.jpg", "4.jpg"]
    assert all(part.count == len(flat(part.ids(BEGAN))) for part in parts)


def test_rows_that_others_wrote_meanwhile_are_spared(held, tmp_path):
    source = FolderSource(tmp_path)
    found = survey(held, source, judged(held, source), WHOLE)
    # Written since, taken over by another source, and gone already.
    held.rows["2.jpg"] = row(tmp_path, "2.jpg", BEGAN)
    held.rows["3.jpg"] = row(tmp_path, "3.jpg", source="/elsewhere/3.jpg")
    assert flat(found.ids(BEGAN)) == ["4.jpg"]
    assert flat(found.ids(BEGAN + timedelta(seconds=1))) == ["2.jpg", "4.jpg"]
    find = held.find
    held.find = lambda ids: {row_id: each for row_id, each in find(ids).items() if row_id != "4.jpg"}
    assert flat(found.ids(BEGAN)) == []


def test_rows_that_came_after_the_start_are_not_counted(held, tmp_path):
    source = FolderSource(tmp_path)
    known = judged(held, source)
    held.rows["new.jpg"] = row(tmp_path, "new.jpg")
    found = survey(held, source, known, WHOLE)
    assert found.count == 3
    assert "new.jpg" not in flat(found.ids(BEGAN))


@pytest.mark.parametrize(
    ("vanished", "covered", "refused"),
    [
        (0, 0, False),
        (100, 100, False),
        (101, 101, True),
        (101, 201, True),
        (101, 202, False),
        (500, 1000, False),
    ],
)
def test_when_so_much_vanished_that_the_source_may_not_be_all_there(vanished, covered, refused):
    assert too_many(vanished, covered) is refused
