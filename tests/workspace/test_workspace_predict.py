"""Predicting: several heads at once, vectors and stored rows, abstaining, neighbours."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from trunkline_service.collections.rows import Row
from trunkline_service.errors import (
    DecodeModeMismatch,
    HeadNotFound,
    InvalidArgument,
    RowNotFound,
    SpaceMismatch,
    UnsupportedImage,
)
from trunkline_service.heads.serving.stacked import StackedHeads
from trunkline_service.heads.serving.unknown import UnknownPolicy
from trunkline_service.images.inputs import EncodedImage
from trunkline_service.index.query import SearchOptions
from trunkline_service.workspace import PredictOptions


@pytest.fixture
def shades(workspace, store_rows):
    """A collection with a classifier, a regression and an anomaly head on it."""
    store_rows("shades")
    workspace.fit_head("shades", "shade", "centroid")
    workspace.fit_head("shades", "price", "ridge", target="price")
    workspace.fit_head("shades", "odd", "anomaly")
    return workspace.collections.open("shades")


@pytest.fixture
def passes(workspace, monkeypatch):
    """The number of images of each pass through a backbone, with the decode mode."""
    found = []
    embed = workspace.engine.embed

    def counted(model, images, caller):
        found.append((model, len(images), caller.decode))
        return embed(model, images, caller)

    monkeypatch.setattr(workspace.engine, "embed", counted)
    return found


def test_several_heads_cost_one_pass_and_say_what_each_says_alone(workspace, shades, passes, image):
    images = [image(30), EncodedImage(b"no image"), image(220)]
    names = ["shade", "price", "odd", "shade@1"]
    together = workspace.predict(names, images)
    assert passes == [("tiny@1", 3, "exact")]
    assert [prediction.card.task for prediction in together.predictions] == [
        "single-label",
        "regression",
        "anomaly",
        "single-label",
    ]
    for name, prediction in zip(names, together.predictions, strict=True):
        alone = workspace.predict(name, images).predictions[0]
        assert prediction.card == alone.card
        np.testing.assert_allclose(prediction.outputs, alone.outputs, rtol=1e-4, atol=1e-5)
        assert np.isnan(prediction.outputs[1]).all()
    assert isinstance(together.errors[1], UnsupportedImage)
    np.testing.assert_allclose(together.vectors[0], 30)


def test_heads_of_two_spaces_are_refused_before_anything_is_embedded(workspace, constant, passes, image):
    one, other = constant(), constant(model="double")
    workspace.heads.save(one, "one")
    workspace.heads.save(other, "other")
    with pytest.raises(SpaceMismatch) as caught:
        workspace.predict(["one", "other"], [image(1)])
    assert one.space_id in caught.value.message
    assert other.space_id in caught.value.message
    with pytest.raises(SpaceMismatch, match="head one@1 takes space"):
        workspace.predict("one", [image(1)], model="double")
    with pytest.raises(SpaceMismatch, match="head one@1 takes embeddings of space"):
        workspace.predict_vectors("one", np.zeros((1, 48), np.float32), other.space_id)
    with pytest.raises(HeadNotFound):
        workspace.predict(["one", "nobody"], [image(1)])
    with pytest.raises(InvalidArgument, match="name at least one"):
        workspace.predict([], [image(1)])
    assert passes == []


def test_rows_are_asked_about_by_their_stored_vectors(workspace, shades, passes):
    rows = shades.get(["r3", "r0"])
    matrix = np.stack([row.embedding for row in rows])
    by_vectors = workspace.predict_vectors("shade", matrix, shades.spec.space_id)
    by_ids = workspace.predict_ids("shade", "shades", ["r3", "r0"])
    np.testing.assert_array_equal(by_ids.probabilities, by_vectors.probabilities)
    assert [by_ids.head.classes[k] for k in by_ids.probabilities.argmax(axis=1)] == ["light", "dark"]
    assert passes == []
    with pytest.raises(RowNotFound, match="r99"):
        workspace.predict_ids("shade", "shades", ["r0", "r99"])


def test_a_row_without_a_vector_fails_alone(workspace, shades):
    shades.upsert(
        [Row("broken", None, status="error", error="truncated_image: x")],
        space_id=shades.spec.space_id,
        decode=None,
    )
    found = workspace.predict_ids("shade", "shades", ["r0", "broken", "r1"])
    assert list(found.errors) == [1]
    assert "truncated_image" in found.errors[1].message
    assert np.isnan(found.probabilities[1]).all()
    assert np.isfinite(found.probabilities[[0, 2]]).all()


def test_rows_of_an_older_version_are_taken_from_it(workspace, shades):
    before = workspace.predict_ids("shade", "shades", ["r0"])
    pinned = shades.version
    moved = Row("r0", np.full(48, 3.0, np.float32))
    shades.upsert([moved], space_id=shades.spec.space_id, decode="exact")
    now = workspace.predict_ids("shade", "shades", ["r0"])
    assert not np.array_equal(now.vectors, before.vectors)
    np.testing.assert_array_equal(
        workspace.predict_ids("shade", f"shades@{pinned}", ["r0"]).vectors, before.vectors
    )


def test_what_is_far_is_unknown(workspace, shades):
    near, far = shades.get(["r0"])[0].embedding, np.full(48, 500.0, np.float32)
    failed = np.full(48, np.nan, np.float32)
    options = PredictOptions(unknown=UnknownPolicy(max_distance="card"))
    found = workspace.predict_vectors(
        ["shade", "odd"], np.stack([near, far, failed]), shades.spec.space_id, options
    )
    for prediction in found.predictions:
        assert prediction.unknown == {1: "far"}
        assert prediction.distance is not None
        assert prediction.distance[1] > prediction.distance[0]
    likely = PredictOptions(unknown=UnknownPolicy(min_probability=1.0))
    found = workspace.predict_vectors("shade", near[None], shades.spec.space_id, likely)
    assert found.predictions[0].unknown == {0: "low_probability"}


def test_distances_are_measured_for_one_head_or_where_they_are_wanted(workspace, shades):
    row, space = np.zeros((1, 48), np.float32), shades.spec.space_id

    def measured(heads, **options):
        found = workspace.predict_vectors(heads, row, space, PredictOptions(**options))
        return [prediction.distance is not None for prediction in found.predictions]

    assert measured("shade") == [True]
    assert measured(["shade", "shade@1"]) == [False, False]
    assert measured(["shade", "shade@1"], distances=True) == [True, True]
    assert measured(["shade", "shade@1"], unknown=UnknownPolicy(max_distance=9.0)) == [True, True]


def test_neighbours_are_those_of_a_search(workspace, shades, passes, image):
    images = [image(10), EncodedImage(b"no image"), image(200)]
    found = workspace.predict("shade", images, options=PredictOptions(neighbours="shades", k=3))
    assert len(passes) == 1
    searched = workspace.search("shades", images, SearchOptions(3))
    assert found.neighbours.outcome.hits == searched.outcome.hits
    assert found.neighbours.outcome.hits[1] == []
    assert [len(hits) for hits in found.neighbours.outcome.hits] == [3, 0, 3]


def test_neighbours_of_another_space_are_refused_before_anything_is_embedded(
    workspace, shades, store_rows, passes, image
):
    store_rows("doubled", model="double")
    with pytest.raises(SpaceMismatch, match="'doubled' holds space"):
        workspace.predict("shade", [image(1)], options=PredictOptions(neighbours="doubled"))
    assert passes == []


def test_images_are_decoded_as_those_that_the_head_learned_from(workspace, store_rows, passes, image):
    store_rows("shades")
    rows = [Row(f"f{i}", np.full(48, i, np.float32), label="ab"[i % 2], decode="fast") for i in range(8)]
    spec = dataclasses.replace(workspace.spec_for("shades"), decode="fast")
    quick = workspace.collections.create("quick", spec)
    quick.upsert(rows, space_id=quick.spec.space_id, decode="fast")
    workspace.fit_head("shades", "exact", "centroid")
    workspace.fit_head("quick", "fast", "centroid")
    for name in ("exact", "fast"):
        workspace.predict(name, [image(1)])
    assert [decode for _, _, decode in passes] == ["exact", "fast"]
    with pytest.raises(DecodeModeMismatch, match=r"exact@1 learned .*'exact', and head fast@1 from 'fast'"):
        workspace.predict(["exact", "fast"], [image(1)])


def test_a_head_that_is_named_twice_is_asked_once(workspace, constant, monkeypatch):
    card = workspace.heads.save(constant(), "h")
    workspace.heads.set_alias("h", "prod", 1)
    asked = []
    outputs = StackedHeads.outputs
    monkeypatch.setattr(
        StackedHeads, "outputs", lambda stack, *rest: asked.append(len(stack.heads)) or outputs(stack, *rest)
    )
    found = workspace.predict_vectors(["h", "h@prod", "h@1"], np.zeros((1, 48), np.float32), card.space_id)
    assert [prediction.card.ref for prediction in found.predictions] == ["h@1"] * 3
    assert asked == [1]


def test_a_call_that_is_refused_costs_nothing(workspace, constant, passes, image):
    workspace.heads.save(constant(), "h")

    def refuse(cards):
        raise InvalidArgument(f"{cards[0].ref} is too much")

    with pytest.raises(InvalidArgument, match="h@1 is too much"):
        workspace.predict("h", [image(1)], options=PredictOptions(admit=refuse))
    assert passes == []


def test_a_promoted_version_answers_the_next_call(workspace, constant, image):
    for label in ("dark", "light"):
        workspace.heads.save(constant(label), "h")
    seen = []
    for _ in range(3):
        workspace.heads.rollback("h")
        seen.append(workspace.predict("h", [image(1)]))
        workspace.heads.promote("h", 2)
        seen.append(workspace.predict("h", [image(1)]))
    assert [found.head.version for found in seen] == [1, 2] * 3
    assert [found.probabilities[0].argmax() for found in seen] == [0, 1] * 3
