"""A backup that is put back under a reader: what it knows of another history is in no answer."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.index.points import at, write
from tests.index.views.conftest import Clock, Loads, names, viewing

from trunkline_service.collections.collection import Collection
from trunkline_service.index.view import View


class Backup:
    """A copy of the collections as they are now."""

    def __init__(self, data: Path) -> None:
        self.live, self.copy = data / "collections", data / "backup"
        shutil.copytree(self.live, self.copy)

    def put_back(self) -> None:
        shutil.rmtree(self.live)
        shutil.copytree(self.copy, self.live)


def degrees(view: View) -> dict[str, int]:
    """Where each row is."""
    found = {}
    for part in view.parts:
        for place in np.flatnonzero(part.alive).tolist():
            x, y = part.segment.vectors[place].tolist()
            found[part.segment.ids[place].as_py()] = round(np.rad2deg(np.arctan2(y, x)))
    return found


@pytest.fixture
def backup(collection: Collection, tmp_path: Path) -> Backup:
    write(collection, b=10, c=20)
    return Backup(tmp_path)


def test_a_lower_version_is_of_another_history(
    collection: Collection, backup: Backup, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock)
    write(collection, future=30)
    future = collection.version
    write(collection, d=40)
    assert names(views.at(collection, future)) == {"a", "b", "c", "future"}
    backup.put_back()
    assert degrees(views.fresh(collection)) == {"a": 0, "b": 10, "c": 20}
    assert load.names == ["points"] * 2
    write(collection, other=50)
    write(collection, d=60)
    assert collection.version > future
    # Its older versions are those of the history that there is.
    assert names(views.at(collection, future)) == {"a", "b", "c", "other"}


@pytest.mark.parametrize("cleans", [False, True])
def test_a_later_version_is_not_taken_for_one_of_the_history_that_is_known(
    collection: Collection, backup: Backup, load: Loads, clock: Clock, cleans: bool
) -> None:
    views = viewing(load, clock)
    before = collection.version
    write(collection, a=30, b=31)
    known = views.fresh(collection)
    assert degrees(views.at(collection, before)) == {"a": 0, "b": 10, "c": 20}
    backup.put_back()
    # The same rows, by a commit of the same number.
    write(collection, a=60, b=61)
    assert collection.version == known.version
    write(collection, d=70)
    if cleans:
        collection.compact(keep=timedelta(0))
    assert degrees(views.fresh(collection)) == {"a": 60, "b": 61, "c": 20, "d": 70}


def test_an_older_version_that_is_known_goes_with_its_history(
    collection: Collection, backup: Backup, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock)
    write(collection, a=30)
    old = collection.version
    write(collection, b=31)
    assert degrees(views.at(collection, old))["a"] == 30
    backup.put_back()
    for angle in (60, 61, 62):
        write(collection, a=angle)
    assert degrees(views.fresh(collection))["a"] == 62
    assert degrees(views.at(collection, old))["a"] == 60


def test_an_older_version_is_read_from_a_latest_view_of_another_history(
    collection: Collection, backup: Backup, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock, refresh_s=1000)
    write(collection, a=30)
    old = collection.version
    write(collection, b=31)
    views.fresh(collection)
    backup.put_back()
    for angle in (60, 61, 62):
        write(collection, a=angle)
    assert degrees(views.at(collection, old)) == {"a": 60, "b": 10, "c": 20}


def test_a_view_of_this_history_is_followed_without_reading_older_versions(
    collection: Collection, load: Loads, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = viewing(load, clock)
    views.fresh(collection)
    opened: list[tuple[int, ...]] = []
    fragments = Collection.fragments

    def noted(self: Collection, *version: int) -> object:
        opened.append(version)
        return fragments(self, *version)

    monkeypatch.setattr(Collection, "fragments", noted)
    write(collection, b=1)
    write(collection, c=2)
    view = views.fresh(collection)
    assert names(view) == {"a", "b", "c"}
    assert opened == [()]
    # Nothing is shared after a compaction: the version that is known is looked at.
    collection.compact()
    parts = views.fresh(collection).parts
    assert opened == [(), (), (view.version,)]
    assert [part.segment for part in parts] == [part.segment for part in view.parts]
    assert (view.parts[0].segment.vectors[0] == at(0)[0]).all()


def test_a_version_of_the_same_number_is_noticed_within_a_second(
    collection: Collection, backup: Backup, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock)
    write(collection, a=30)
    assert views.fresh(collection) is views.fresh(collection)
    backup.put_back()
    write(collection, a=60)
    clock.now += 1
    assert degrees(views.fresh(collection))["a"] == 60


def test_an_older_version_is_of_the_history_that_there_is_where_the_lost_one_only_deleted(
    collection: Collection, backup: Backup, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock)
    collection.delete(["b"])
    lost = collection.version
    collection.delete(["c"])
    views.fresh(collection)
    assert names(views.at(collection, lost)) == {"a", "c"}
    backup.put_back()
    for name in ("a", "c"):
        collection.delete([name])
    write(collection, d=40)
    views.fresh(collection)
    assert names(views.at(collection, lost)) == {"b", "c"}
