"""A head moves to another space: refitted on the same rows, and compared before anyone switches."""

from __future__ import annotations

import numpy as np
import pytest

from trunkline_service.collections.rows import Row
from trunkline_service.errors import CollectionNotFound, FailedPrecondition, InvalidArgument, SpaceMismatch
from trunkline_service.heads.options import FitOptions
from trunkline_service.workspace import migrate
from trunkline_service.workspace.migrate import options_of


@pytest.fixture
def spaces(workspace, store_rows):
    """The same rows in two spaces; the labels of the second are not to be used."""
    old = store_rows("old")
    new = store_rows("new", model="double")
    new.relabel_where("nonsense", "true")
    return old, new


def test_both_sides_stand_beside_each_other_before_anyone_switches(workspace, spaces):
    workspace.fit_head("old", "h", "logistic", FitOptions(folds=3, class_weight="balanced"))
    steps = []
    done = workspace.migrate_head("h", "new", progress=lambda *step: steps.append(step))
    assert (done.before.ref, done.after.ref) == ("h@1", "h@2")
    assert (done.after.collection, done.after.space_id) == ("new", spaces[1].spec.space_id)
    assert done.after.model == "double@1"
    assert done.after.classes == ("dark", "light")
    assert done.after.metrics.accuracy == done.before.metrics.accuracy == 1.0
    assert (done.shared_rows, done.agreement, done.missing_rows) == (20, 1.0, 0)
    assert done.after.hyper_parameters["folds"] == 3
    assert done.after.hyper_parameters["class_weight"] == "balanced"
    assert workspace.heads.card("h").version == 1
    assert set(spaces[1].info().labels) == {"nonsense"}
    assert list(dict.fromkeys(stage for stage, _ in steps)) == ["reading", "fitting", "saving", "comparing"]


def test_the_new_version_can_serve_at_once(workspace, spaces):
    workspace.fit_head("old", "h", "centroid")
    workspace.migrate_head("h", "new", promote=True)
    assert workspace.heads.card("h").version == 2
    assert workspace.heads.rollback("h").collection == "old"


@pytest.mark.parametrize(("kind", "target"), [("ridge", "price"), ("anomaly", "label"), ("knn", "label")])
def test_other_kinds_move_too(workspace, spaces, kind, target):
    before = workspace.fit_head("old", "h", kind, target=target)
    done = workspace.migrate_head("h", "new")
    assert (done.after.kind, done.after.task, done.after.target) == (kind, before.task, before.target)
    assert done.agreement > 0.8


def test_a_difference_shows_in_the_agreement(workspace, spaces):
    old, new = spaces
    workspace.fit_head("old", "h", "centroid")
    vectors = [row.embedding * np.float32(2) for row in old.get([f"r{index}" for index in range(20)])]
    # In the other space the first four rows look like their neighbours, which are of the other class.
    swapped = [Row(f"r{index}", vectors[index ^ 1 if index < 4 else index]) for index in range(20)]
    new.upsert(swapped, space_id=new.spec.space_id, decode="exact")
    done = workspace.migrate_head("h", "new")
    assert (done.shared_rows, done.agreement) == (20, 0.8)
    assert done.after.metrics.accuracy < done.before.metrics.accuracy


def test_rows_that_are_missing_are_counted(workspace, spaces):
    workspace.fit_head("old", "h", "centroid")
    spaces[1].delete(["r0", "r1", "r2"])
    done = workspace.migrate_head("h", "new")
    assert (done.after.rows, done.shared_rows, done.missing_rows) == (17, 17, 3)


def test_the_test_split_moves_along(workspace, spaces):
    spaces[0].relabel({f"r{index}": "test" for index in range(4)}, "split")
    workspace.fit_head("old", "h", "centroid")
    done = workspace.migrate_head("h", "new")
    assert (done.after.rows, done.after.test_metrics.n, done.shared_rows) == (16, 4, 20)


def test_what_cannot_move_says_why(workspace, spaces, constant, store_rows):
    workspace.fit_head("old", "h", "centroid")
    with pytest.raises(CollectionNotFound):
        workspace.migrate_head("h", "absent")
    spaces[1].delete([f"r{index}" for index in range(20)])
    with pytest.raises(FailedPrecondition, match=r"holds none of the 20 rows.*--from-collection old"):
        workspace.migrate_head("h", "new")
    workspace.heads.save(constant(), "own")
    with pytest.raises(InvalidArgument, match="was not fitted on a collection"):
        workspace.migrate_head("own", "new")
    assert workspace.heads.versions("h") == [1]
    workspace.collections.drop("old")
    store_rows("old", model="double")
    with pytest.raises(SpaceMismatch):
        workspace.migrate_head("h", "new")


def test_options_come_back_from_the_card(workspace, spaces):
    asked = FitOptions(folds=4, seed=7, transform="l2", class_weight="balanced", precision="float64")
    assert options_of(workspace.fit_head("old", "h", "logistic", asked)) == asked
    assert options_of(workspace.fit_head("old", "h", "anomaly", FitOptions(normal="dark"))).normal == "dark"


def test_groups_and_the_test_split_move_along(workspace, spaces, monkeypatch):
    old = spaces[0]
    old.relabel({f"r{index}": "held" for index in range(4)}, "split")
    before = workspace.fit_head("old", "h", "centroid", group="price", test_split="held")
    assert (before.group, before.test_split, before.test_metrics.n) == ("price", "held", 4)
    seen = []
    fit = migrate.fit
    monkeypatch.setattr(migrate, "fit", lambda kind, data, *rest: seen.append(data) or fit(kind, data, *rest))
    after = workspace.migrate_head("h", "new").after
    assert (after.group, after.test_split, after.test_metrics.n) == ("price", "held", 4)
    assert len(set(seen[0].groups)) == 16
