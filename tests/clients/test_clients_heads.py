"""Heads through both clients: several at once, abstaining, versions, fitting."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

import trunkline
from trunkline._wire import floats
from trunkline._wire import neighbours as neighbours_wire
from trunkline._wire.prediction import read
from trunkline_protos.v1 import heads_pb2

LOST = grpc.StatusCode.UNAVAILABLE


def kinds(fake) -> list[str]:
    return [type(request).__name__ for request in fake.requests]


def test_a_head_that_is_replaced_under_way_does_not_mix_versions(fake, call):
    """The chunks in flight are asked for again, and those to come, by the version that answered the first."""

    def images():
        for i in range(30):
            if i == 20:
                fake.wait_for(lambda f: f.ended >= 1)
                fake.head_version = 2
            yield str(i).encode()

    result = call(fake, "predict", images(), head="h", client={"chunk_images": 10, "max_in_flight": 1})
    assert (len(result), str(result.head)) == (30, "h@1")
    assert None not in result.labels
    assert [list(request.heads) for request in fake.requests] == [["h"], ["h@1"], ["h@1"]] or (
        [list(request.heads) for request in fake.requests] == [["h"], ["h"], ["h@1"]]
    )


def test_a_chunk_that_a_newer_version_answered_is_asked_for_again(fake, call):
    seen = []
    answer = fake.embed

    def embed(contents):
        seen.append(contents)
        # The second of two requests that are on their way together meets the next version.
        fake.head_version = len(seen)
        return answer(contents)

    fake.embed = embed
    client = {"chunk_images": 1, "max_in_flight": 1}
    result = call(fake, "predict", [b"a", b"b", b"c"], head="h", client=client)
    assert str(result.head) == "h@1"
    assert [list(request.heads) for request in fake.requests][-1] == ["h@1"]
    assert sum(list(request.heads) == ["h"] for request in fake.requests) <= 2


def test_a_server_that_does_not_keep_to_the_version_is_found_out(fake, call):
    fake.restless_heads = True
    with pytest.raises(trunkline.FailedPrecondition, match="does not answer by the versions"):
        call(fake, "predict", [b"a", b"b"], head="h", client={"chunk_images": 1, "max_in_flight": 1})


def test_several_heads_are_asked_at_once_and_give_a_dict(fake, call, expected):
    images = [b"a", b"bad", b"c"]
    found = call(fake, "predict", images, heads=["h", "many", "value", "odd"], client={"chunk_images": 2})
    assert list(found) == ["h", "many", "value", "odd"]
    alone = call(fake, "predict", images, head="h")
    assert found["h"].labels == alone.labels
    np.testing.assert_array_equal(found["h"].probabilities, alone.probabilities)
    assert found["many"].labels == [(label,) if label else None for label in alone.labels]
    totals = [expected(b"a").sum(), np.nan, expected(b"c").sum()]
    np.testing.assert_allclose(found["value"].values[:, 0], totals)
    assert found["value"].classes == ("total",)
    np.testing.assert_allclose(found["odd"].scores, totals)
    for name in ("value", "odd"):
        assert found[name].labels == [None] * 3
        assert found[name].probabilities.shape == (3, 0)
    assert {name: result.task for name, result in found.items()} == {
        "h": "single-label",
        "many": "multi-label",
        "value": "regression",
        "odd": "anomaly",
    }
    assert all([f.index for f in result.errors] == [1] for result in found.values())
    assert len(fake.requests) == 3


def test_heads_of_two_spaces_in_one_reply_are_refused(fake, call):
    fake.space_id = "sp1-other"
    with pytest.raises(trunkline.SpaceMismatch, match="sp1-other"):
        call(fake, "predict", [b"a"], heads=["h", "elsewhere"])


def test_the_most_probable_classes(fake, call, tmp_path):
    images = [b"a", b"bad", tmp_path / "missing", b"c"]
    whole = call(fake, "predict", images, head="h")
    result = call(fake, "predict", images, head="h", top_k=2, client={"chunk_images": 2})
    assert result.labels == whole.labels
    assert result.classes == ()
    assert [len(names) for names in result.top] == [2, 0, 0, 2]
    assert [names[0] for names in result.top if names] == [label for label in whole.labels if label]
    best = result.probabilities[[0, 3]]
    assert (best[:, 0] > best[:, 1]).all()
    assert np.isnan(result.probabilities[[1, 2]]).all()
    assert call(fake, "predict", images, head="value", top_k=2).values.shape == (4, 1)


def test_unknown_items_have_no_label_and_a_reason(fake, call, expected):
    images = [b"a", b"b", b"c", b"d", b"bad"]
    result = call(fake, "predict", images, head="h", unknown=True, client={"chunk_images": 2})
    odd = [bool(expected(image).sum() % 2) for image in images[:4]]
    assert any(odd)
    assert not all(odd)
    assert list(result.unknown) == [*("far" if flag else None for flag in odd), None]
    assert [label is None for label in result.labels] == [*odd, True]
    assert not np.isnan(result.probabilities[:4]).any()
    np.testing.assert_allclose(result.distances[:4], [expected(image).sum() for image in images[:4]])
    assert fake.requests[0].unknown.distance_of_card
    bounds = trunkline.Unknown(min_probability=0.5, max_distance=3.0)
    call(fake, "predict", images, head="h", unknown=bounds)
    sent = fake.requests[-1].unknown
    assert (sent.min_probability, sent.max_distance, sent.distance_of_card) == (0.5, 3.0, False)
    call(fake, "predict", images, head="h")
    assert not fake.requests[-1].HasField("unknown")
    assert not fake.requests[-1].HasField("with_distances")


def test_embeddings_and_neighbours_come_along(fake, call, expected, tmp_path, monkeypatch):
    images = [b"a", tmp_path / "missing", b"c"]
    result = call(
        fake, "predict", images, head="h", with_vectors=True, neighbours="c", k=2, client={"chunk_images": 2}
    )
    np.testing.assert_array_equal(result.vectors[[0, 2]], [expected(b"a"), expected(b"c")])
    assert np.isnan(result.vectors[1]).all()
    assert result.neighbours.ids == [["n0", "n1"], [], ["n0", "n1"]]
    assert (result.neighbours.version, result.neighbours.metric) == (3, "cosine")
    monkeypatch.setattr(neighbours_wire, "_MAX_HITS_PER_REPLY", 4)
    fake.requests.clear()
    call(fake, "predict", [b"a"] * 5, head="h", neighbours="c", k=2)
    assert max(len(request.images) for request in fake.requests) == 2


def test_rows_are_asked_about_by_their_ids(fake, call):
    result = call(fake, "predict", head="h", ids=["2", "3"], collection="c@7")
    assert result.labels == ["even", "odd"]
    assert result.inputs == ["2", "3"]
    (request,) = fake.requests
    assert (list(request.ids), request.collection) == (["2", "3"], "c@7")


def test_versions_are_moved(fake, call):
    assert call(fake, "promote_head", "flowers", 3).serving == 3
    assert call(fake, "rollback_head", "flowers").serving == 2
    assert [r.serving_version for r in fake.requests if isinstance(r, heads_pb2.RollbackRequest)] == [3]
    assert call(fake, "set_head_alias", "flowers@prod", 1).aliases == {"prod": 1}
    assert call(fake, "delete_head_alias", "flowers@prod").aliases == {}
    assert call(fake, "set_shadow", "flowers", 1).shadow == 1
    assert call(fake, "set_shadow", "flowers", None).shadow is None
    assert call(fake, "delete_head", "flowers@1") is None
    assert fake.requests[-1].head == "flowers@1"
    with pytest.raises(trunkline.NotFound, match="no head 'trees'"):
        call(fake, "head", "trees")


def test_a_rollback_whose_answer_was_lost_is_not_made_twice(fake, call, refusal):
    fake.head_version = 5
    fake.lose_answers.append(refusal(LOST))
    assert call(fake, "rollback_head", "flowers").serving == 4
    assert kinds(fake) == ["GetHeadRequest", "RollbackRequest", "RollbackRequest"]


def test_a_fit_tells_how_far_it_is(fake, call):
    told = []
    head = call(
        fake,
        "fit_head",
        "flowers",
        "h",
        "ridge",
        target="price",
        group="patient",
        candidate=True,
        warm=True,
        folds=3,
        grid=[0.1, 1],
        class_weight="balanced",
        progress=lambda stage, share: told.append((stage, share)),
    )
    assert str(head) == "flowers@1"
    assert told == [("fitting", 0.0), ("fitting", 0.5)]
    (request,) = fake.requests
    assert (request.kind, request.target, request.group, request.test_split) == (
        "ridge",
        "price",
        "patient",
        "test",
    )
    assert (request.candidate, request.warm, request.options.folds) == (True, True, 3)
    assert list(request.options.grid) == [0.1, 1.0]
    assert request.options.class_weight == "balanced"
    assert not request.options.HasField("seed")


def test_what_progress_raises_ends_the_fit(fake, call):
    fake.endless_fits = True

    def stop(stage: str, share: float) -> None:
        raise KeyError(stage)

    with pytest.raises(KeyError, match="fitting"):
        call(fake, "fit_head", "c", "h", progress=stop)
    fake.wait_for(lambda f: f.cancelled == 1)


def test_a_fit_is_begun_again_only_before_its_first_message(fake, call, refusal):
    busy = (("grpc-retry-pushback-ms", "1"),)
    fake.refusals.append(refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "one at a time", busy))
    assert str(call(fake, "fit_head", "c", "h")) == "flowers@1"
    assert len(fake.requests) == 2
    fake.headless_fits = True
    with pytest.raises(trunkline.Internal, match="without a head"):
        call(fake, "fit_head", "c", "h")


def test_only_a_fit_that_broke_off_says_where_to_look(fake, call, refusal):
    fake.break_fits.append(refusal(LOST))
    with pytest.raises(trunkline.ConnectionFailed, match=r"nothing was saved; head\('h'\) tells"):
        call(fake, "fit_head", "c", "h")
    said = (("trunkline-reason", "not_enough_data"),)
    fake.break_fits.append(refusal(grpc.StatusCode.FAILED_PRECONDITION, "two rows", said))
    with pytest.raises(trunkline.FailedPrecondition) as caught:
        call(fake, "fit_head", "c", "h")
    assert str(caught.value) == "two rows"
    assert len(fake.requests) == 2


def test_a_migration(fake, call):
    told = []
    done = call(fake, "migrate_head", "flowers", "new", progress=lambda *step: told.append(step))
    assert (str(done.before), str(done.after)) == ("flowers@1", "flowers@2")
    assert (done.shared_rows, done.agreement, done.missing_rows) == (4, 0.75, 1)
    assert told == [("comparing", 0.0)]
    assert fake.requests[0].collection == "new"


@pytest.mark.parametrize("top_k", [None, 2])
def test_an_item_without_figures_has_no_label(top_k):
    """As older servers answer what holds NaN: no error, and NaN for the figures."""
    figures = np.array([[0.9, 0.1], [np.nan, np.nan]], np.float32)
    message = heads_pb2.Prediction(task="single-label", classes=["a", "b"])
    if top_k is None:
        floats.pack(figures, message.outputs)
    else:
        message.top.k = top_k
        message.top.classes.extend([0, 1, 0, 1])
        message.top.probabilities.extend(figures.ravel().tolist())
    assert read(message, range(2), [True, True]).labels == ["a", None]


def test_what_no_call_can_mean(fake, call):
    with pytest.raises(trunkline.InvalidRequest, match=r"unknown is 0.5; pass True, or bounds such as"):
        call(fake, "predict", [b"a"], head="h", unknown=0.5)
    with pytest.raises(trunkline.InvalidRequest, match="heads holds 'h' twice"):
        call(fake, "predict", [b"a"], heads=["h", "g", "h"])
    assert kinds(fake) == []


def test_a_head_with_many_classes_is_shown_in_a_line():
    def info(count):
        classes = tuple(f"c{k}" for k in range(count))
        return trunkline.HeadInfo("h", 1, "knn", "sp1-x", "m@1", classes, None, "photos", 1, {})

    assert "'c8', 'c9', ... 990 more)" in repr(info(1000))
    assert "classes=('c0', 'c1')" in repr(info(2))
    assert "card" not in repr(info(2))
