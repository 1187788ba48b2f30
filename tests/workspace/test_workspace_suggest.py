"""What to label next, from a collection and a head."""

from __future__ import annotations

import numpy as np
import pytest

from trunkline_service.collections.rows import Row
from trunkline_service.errors import (
    CollectionNotFound,
    FailedPrecondition,
    HeadNotFound,
    InvalidArgument,
    Overloaded,
    SpaceMismatch,
)
from trunkline_service.workspace.suggesting import suggest_rows

DIM = 48


def noise(count):
    return np.random.default_rng(1).normal(scale=0.1, size=(count, DIM)).astype(np.float32)


@pytest.fixture
def shades(store_rows):
    """20 rows with a label, and 30 without: the higher the number, the nearer to the border of the classes."""
    collection = store_rows("shades")
    rows = [
        Row(f"n{index:02}", vector + np.float32(1.5 * index / 29), source=f"/images/{index}.png")
        for index, vector in enumerate(noise(30))
    ]
    rows.append(Row("bad", None, status="error", error="truncated_image"))
    collection.upsert(rows, space_id=collection.spec.space_id, decode="exact")
    return collection


def test_rows_without_a_label_of_which_the_head_is_unsure(workspace, shades):
    workspace.fit_head("shades", "h", "centroid", report=False)
    found = workspace.suggest_labels("h", "shades", 3)
    assert (found.card.ref, found.collection, found.collection_version) == ("h@1", "shades", shades.version)
    # An image that could not be read has no vector to tell anything from.
    assert (found.unlabelled, found.asked, len(found.rows)) == (30, 30, 3)
    first = found.rows[0]
    vector = shades.get([first.id])[0].embedding[None]
    said = workspace.predict_vectors("h", vector, shades.spec.space_id).probabilities[0]
    assert first.source == f"/images/{int(first.id[1:])}.png"
    assert [label for label, _ in first.likeliest] == [found.card.classes[k] for k in np.argsort(-said)]
    np.testing.assert_allclose([share for _, share in first.likeliest], np.sort(said)[::-1], atol=1e-6)
    assert first.margin == pytest.approx(abs(said[0] - said[1]), abs=1e-6)
    assert first.likeliest[0][0] in first.reason
    everything = workspace.suggest_labels("h", "shades", 1000)
    assert len(everything.rows) == 30
    assert first.margin == min(row.margin for row in everything.rows)


def test_the_column_is_the_one_that_the_head_learned(workspace, shades):
    times = ["night" if index % 2 else "day" for index in range(18)]
    rows = [
        Row(f"t{index}", vector + np.float32(index % 2), metadata={"time": time})
        for index, (time, vector) in enumerate(zip(times, noise(18), strict=True))
    ]
    shades.upsert(rows, space_id=shades.spec.space_id, decode="exact")
    workspace.fit_head("shades", "h", "centroid", target="time", report=False)
    found = workspace.suggest_labels("h", "shades", 100)
    others = {f"r{index}" for index in range(20)} | {f"n{index:02}" for index in range(30)}
    assert {row.id for row in found.rows} == others


def test_a_head_of_several_labels_a_row(workspace):
    collection = workspace.open_for("tags", multi_label=True)
    vectors = noise(24)
    vectors[::2] += 1.0
    labels = [
        ("bright", "new") if index % 2 == 0 else ("new",) if index % 3 == 0 else () for index in range(20)
    ]
    rows = [
        Row(f"r{i}", v, label=label)
        for i, (v, label) in enumerate(zip(vectors, [*labels, *[None] * 4], strict=True))
    ]
    collection.upsert(rows, space_id=collection.spec.space_id, decode="exact")
    workspace.fit_head("tags", "h", report=False)
    found = workspace.suggest_labels("h", "tags", 3)
    # A row of no labels has been looked at, and one without any word on them has not.
    assert {row.id for row in found.rows} < {"r20", "r21", "r22", "r23"}
    assert (found.card.task, found.unlabelled, len(found.rows)) == ("multi-label", 4, 3)
    assert all({label for label, _ in row.likeliest} == {"bright", "new"} for row in found.rows)
    assert " or not (" in found.rows[0].reason


def test_nothing_is_left_to_label(workspace, store_rows):
    store_rows("whole")
    workspace.fit_head("whole", "h", "centroid", report=False)
    found = workspace.suggest_labels("h", "whole")
    assert (found.unlabelled, found.asked, found.rows) == (0, 0, ())


def test_of_many_rows_a_sample_is_asked_about_always_the_same_one(workspace, shades):
    workspace.fit_head("shades", "h", "centroid", report=False)
    part = suggest_rows(workspace.collections, workspace.heads, "h", "shades", 5, held=20)
    assert (part.unlabelled, part.asked, len(part.rows)) == (30, 10, 5)
    assert suggest_rows(workspace.collections, workspace.heads, "h", "shades", 5, held=20) == part
    every = {row.id: row for row in workspace.suggest_labels("h", "shades", 100).rows}
    for row in part.rows:
        assert row.margin == pytest.approx(every[row.id].margin, abs=1e-6)
        assert row.source == every[row.id].source


def test_what_cannot_be_asked_is_said(workspace, shades, store_rows, constant):
    workspace.fit_head("shades", "h", "centroid", report=False)
    workspace.fit_head("shades", "price", "ridge", target="price", report=False)
    workspace.fit_head("shades", "candidate", "centroid", promote=False, report=False)
    store_rows("doubled", model="double")
    for head, collection, count, error, words in (
        ("absent", "shades", 5, HeadNotFound, "absent"),
        ("h", "absent", 5, CollectionNotFound, "absent"),
        ("h", "shades", 0, InvalidArgument, "count is 0; ask for 1 to 1,000 rows"),
        ("h", "shades", 1001, InvalidArgument, "count is 1001"),
        ("price", "shades", 5, InvalidArgument, "for regression"),
        ("h", "doubled", 5, SpaceMismatch, "doubled"),
        ("candidate", "shades", 5, FailedPrecondition, "serves yet"),
    ):
        with pytest.raises(error, match=words):
            workspace.suggest_labels(head, collection, count)
    with workspace._fits.turn("a fit"), pytest.raises(Overloaded, match="'h' what to label has to wait"):
        workspace.suggest_labels("h", "shades")
