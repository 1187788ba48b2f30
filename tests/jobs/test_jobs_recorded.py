"""A backbone is replaced: recorded sources are embedded anew, and heads and aliases move together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from trunkline_service.errors import FailedPrecondition, NotEnoughData
from trunkline_service.heads.options import FitOptions
from trunkline_service.images.inputs import EncodedImage
from trunkline_service.index.query import SearchOptions
from trunkline_service.jobs.sources import resolve
from trunkline_service.jobs.sources.recorded import RecordedSource
from trunkline_service.workspace import carry_over


@pytest.fixture
def flowers(tmp_path, png):
    """Two classes that any vector tells apart, 12 images each."""
    root = tmp_path / "flowers"
    for label, base in (("dark", 10), ("light", 200)):
        folder = root / label
        folder.mkdir(parents=True)
        for number in range(12):
            pixels = np.full((32, 32, 3), base + number, np.uint8)
            pixels[number % 32, :, 0] = 99
            (folder / f"{number}.png").write_bytes(png(pixels))
    return root


@pytest.fixture
def other(workspace, publish_tiny):
    publish_tiny(Path(workspace.settings.models), name="other", scale=-3.0)
    return "other"


def test_recorded_sources_give_the_rows_of_the_folder_itself(workspace, job, flowers, other):
    job(flowers, "old")
    workspace.collections.open("old").relabel({"dark/0.png": "by hand"})
    result = job(RecordedSource(workspace.collections.open("old")), "new", other)
    assert result.embedded == 24
    job(flowers, "straight", other)
    new, straight = (workspace.collections.open(name) for name in ("new", "straight"))
    ids = [f"{label}/{number}.png" for label in ("dark", "light") for number in range(12)]
    for one, wanted in zip(new.get(ids), straight.get(ids), strict=True):
        np.testing.assert_array_equal(one.embedding, wanted.embedding)
        assert (one.source, one.content_hash, one.size) == (wanted.source, wanted.content_hash, wanted.size)
        assert one.label == ("by hand" if one.id == "dark/0.png" else wanted.label)
    again = job(RecordedSource(workspace.collections.open("old")), "new", other)
    assert (again.embedded, again.unchanged) == (0, 24)


def test_a_source_that_was_not_recorded_is_an_error_row(workspace, job, flowers, other):
    from trunkline_service.collections.arrivals import NewRow

    data = (flowers / "dark/0.png").read_bytes()
    workspace.add("old", [NewRow(EncodedImage(data), id="a")])
    result = job(RecordedSource(workspace.collections.open("old")), "new", other)
    assert result.errors == {"unreadable_file": 1}


def test_heads_index_and_aliases_move_together(workspace, job, flowers, other):
    job(flowers, "old")
    store = workspace.collections
    store.set_alias("flowers@prod", "old")
    store.set_alias("flowers@frozen", "old", store.open("old").version)
    head = workspace.fit_head("flowers@prod", "tone", options=FitOptions(folds=2))
    image = EncodedImage((flowers / "light/3.png").read_bytes())
    assert head.collection == "old"
    assert workspace.predict("tone", [image]).head.version == 1

    job(RecordedSource(store.open("flowers@prod")), "new", other)
    switched = workspace.switch("old", "new")
    assert [(pair.before.version, pair.after.version) for pair in switched.heads] == [(1, 2)]
    assert switched.aliases == ("flowers@prod",)
    predicted = workspace.predict("tone", [image])
    assert (predicted.head.space_id, predicted.head.model) == (store.open("new").spec.space_id, "other@1")
    assert predicted.head.classes[int(np.argmax(predicted.probabilities[0]))] == "light"
    found = workspace.search("flowers@prod", [image], SearchOptions(1))
    assert found.space_id == store.open("new").spec.space_id
    assert found.outcome.hits[0][0].id.startswith("light/")
    assert store.resolve("flowers@frozen").collection.name == "old"

    # And back.
    back = workspace.switch("new", "old")
    assert [pair.after.version for pair in back.heads] == [3]
    assert store.resolve("flowers@prod").collection.name == "old"


def test_nothing_is_switched_before_every_row_is_there(workspace, job, flowers, other):
    job(flowers, "old")
    workspace.collections.set_alias("flowers@prod", "old")
    workspace.fit_head("old", "tone", options=FitOptions(folds=2))
    (flowers / "dark/0.png").unlink()
    job(flowers, "new", other)
    with pytest.raises(FailedPrecondition, match=r"lacks 1 row that.*--from-collection old"):
        workspace.switch("old", "new")
    assert workspace.heads.card("tone").version == 1
    assert workspace.collections.resolve("flowers@prod").collection.name == "old"


def test_a_collection_without_labels_teaches_no_head(workspace):
    workspace.open_for("many", multi_label=True)
    with pytest.raises(NotEnoughData, match="many"):
        workspace.fit_head("many", "h")


def test_prefixes_are_kept(workspace, job, flowers, other):
    job(resolve(str(flowers), id_prefix="p/"), "old")
    job(RecordedSource(workspace.collections.open("old")), "new", other)
    assert workspace.collections.open("new").get(["p/dark/0.png"])[0].label == "dark"


def test_what_people_corrected_meanwhile_is_not_lost(workspace, job, flowers, other):
    job(flowers, "old")
    old = workspace.collections.open("old")
    job(RecordedSource(old), "new", other)
    new = workspace.collections.open("new")
    old.relabel({"dark/0.png": "light", "dark/1.png": None, "dark/2.png": "light"})
    old.relabel({"dark/2.png": "test"}, "split")
    (row,) = old.get(["light/3.png"])
    graded = dataclasses.replace(row, metadata={"grade": 1})
    old.upsert([graded], space_id=old.spec.space_id, decode="exact")
    old.relabel({"light/4.png": 0.5, "light/5.png": 3}, "grade")
    before = new.get(["dark/0.png"])[0]
    switched = workspace.switch("old", "new")
    assert switched.relabelled == 6
    zero, one, two, three, four, five = new.get(
        ["dark/0.png", "dark/1.png", "dark/2.png", "light/3.png", "light/4.png", "light/5.png"]
    )
    assert (zero.label, one.label, two.label, two.split) == ("light", None, "light", "test")
    assert [found.metadata for found in (three, four, five)] == [{"grade": 1}, {"grade": 0.5}, {"grade": 3}]
    np.testing.assert_array_equal(zero.embedding, before.embedding)
    assert new.spec.space_id != old.spec.space_id
    assert workspace.switch("old", "new").relabelled == 0


def test_lists_of_labels_are_carried_over(workspace, job, flowers, other):
    job(flowers, "source")
    rows = [
        dataclasses.replace(row, label=("a",))
        for row in workspace.collections.open("source").find(["dark/0.png", "dark/1.png"]).values()
    ]
    spec = workspace.collections.open("source").spec
    old = workspace.open_for("old", spec.model, multi_label=True)
    old.upsert(rows, space_id=spec.space_id, decode="exact")
    new = workspace.open_for("new", spec.model, multi_label=True)
    new.upsert(rows, space_id=spec.space_id, decode="exact")
    old.relabel({"dark/0.png": ("a", "b")})
    assert workspace.switch("old", "new").relabelled == 1
    assert [row.label for row in new.get(["dark/0.png", "dark/1.png"])] == [("a", "b"), ("a",)]


def test_many_corrections_are_carried_over_in_parts(workspace, job, flowers, other, monkeypatch):
    monkeypatch.setattr(carry_over, "_AT_ONCE", 5)
    job(flowers, "old")
    old = workspace.collections.open("old")
    job(RecordedSource(old), "new", other)
    old.relabel_where("all", "true")
    assert workspace.switch("old", "new").relabelled == 24
    assert workspace.collections.open("new").info().labels == {"all": 24}


def test_an_error_row_of_the_new_collection_is_no_row(workspace, job, flowers, other):
    job(flowers, "old")
    workspace.collections.set_alias("flowers@prod", "old")
    old = workspace.collections.open("old")
    hidden = (flowers / "dark/0.png").rename(flowers / "hidden")
    assert job(RecordedSource(old), "new", other).errors == {"unreadable_file": 1}
    with pytest.raises(FailedPrecondition, match=r"lacks 1 row.*--from-collection old.*--retry-failed"):
        workspace.switch("old", "new")
    assert workspace.collections.resolve("flowers@prod").collection.name == "old"
    hidden.rename(flowers / "dark/0.png")
    job(RecordedSource(old), "new", other, retry_failed=True)
    assert workspace.switch("old", "new").aliases == ("flowers@prod",)
