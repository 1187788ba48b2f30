"""The Heads service, over a socket and in this process: predicting, fitting, moving versions, shadows."""

from __future__ import annotations

import dataclasses
import threading
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import trunkline
from trunkline_protos.v1 import heads_pb2, heads_pb2_grpc
from trunkline_service.errors import Cancelled, InvalidArgument, NotEnoughData
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.serving.stacked import StackedHeads
from trunkline_service.server import head_converters, working
from trunkline_service.server.app import Server
from trunkline_service.server.servicers.heads import HeadsServicer
from trunkline_service.settings import Settings
from trunkline_service.workspace import fitting

PATIENCE_S = 60
DIM = 48


def vectors(count, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    rows[1::2] += 3.0
    return rows


@pytest.fixture
def server(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    built = Server(
        Settings(
            models=str(tmp_path / "models"),
            data=str(tmp_path / "data"),
            default_model="tiny",
            listen="127.0.0.1:0",
            threads=1,
            drain_s=10,
        )
    )
    built.start()
    yield built
    built.stop()


@pytest.fixture(params=["remote", "local"])
def client(request, server):
    """A client of the server, and one of the same folders in this process, with a collection of two classes."""
    if request.param == "remote":
        opened = trunkline.Client(str(server.address), retries=0)
    else:
        opened = trunkline.open(
            models=server.settings.models, data=server.settings.data, default_model="tiny"
        )
    with opened as client:
        client.create_collection("shades", "tiny")
        info = client.collection("shades")
        ids = [f"r{index}" for index in range(20)]
        client.upsert("shades", ids, vectors(20), space_id=info.space_id, labels=["dark", "light"] * 10)
        yield client


@pytest.fixture
def space(client):
    return client.collection("shades").space_id


def never_ending(begun):
    """A fit that goes on until somebody ends it; sets the event when it has begun."""

    def fit(kind, data, options, progress, previous=None):
        while True:
            progress(0.5)
            begun.set()

    return fit


@pytest.fixture
def endless(monkeypatch):
    """Fits that go on until somebody ends them; the event is set when one has begun."""
    begun = threading.Event()
    monkeypatch.setattr(fitting, "fit", never_ending(begun))
    return begun


def solid(shade):
    return np.full((32, 32, 3), shade, np.uint8)


def test_a_head_is_fitted_and_predicts(client, space):
    steps = []
    head = client.fit_head("shades", "h", folds=3, progress=lambda *step: steps.append(step))
    assert (str(head), head.kind, head.task, head.classes) == (
        "h@1",
        "logistic",
        "single-label",
        ("dark", "light"),
    )
    assert (head.metric, head.score, head.accuracy, head.serving) == ("accuracy", 1.0, 1.0, 1)
    assert head.card["hyper_parameters"]["folds"] == 3
    assert list(dict.fromkeys(stage for stage, _ in steps)) == ["reading", "fitting", "reporting", "saving"]
    assert client.heads() == [head] == [client.head("h")]
    found = client.predict(head="h", vectors=vectors(6), space_id=space)
    assert found.labels == ["dark", "light"] * 3
    assert str(found.head) == "h@1"
    assert found.distances.shape == (6,)
    by_ids = client.predict(head="h", ids=["r1", "r0"], collection="shades")
    assert by_ids.labels == ["light", "dark"]
    with pytest.raises(trunkline.NotFound, match="r99"):
        client.predict(head="h", ids=["r99"], collection="shades")


def test_every_wish_of_a_prediction(client, space):
    client.fit_head("shades", "h", "centroid")
    client.fit_head("shades", "odd", "anomaly")
    images = [solid(10), b"no image", solid(240)]
    found = client.predict(
        images, heads=["h", "odd"], top_k=1, unknown=True, with_vectors=True, neighbours="shades", k=2
    )
    whole = client.predict(images, head="h")
    for result in found.values():
        assert [failure.index for failure in result.errors] == [1]
        # Solid pictures are nothing like what was learned.
        assert result.unknown == ["far", None, "far"]
        assert result.labels == [None] * 3
        np.testing.assert_array_equal(result.vectors[0], 10)
        assert [len(ids) for ids in result.neighbours.ids] == [2, 0, 2]
    assert found["h"].top == [(label,) if label else () for label in whole.labels]
    np.testing.assert_allclose(found["h"].probabilities[:, 0], whole.probabilities.max(axis=1))
    assert found["odd"].scores.shape == (3,)
    likely = client.predict(
        images, head="h", unknown=trunkline.Unknown(min_probability=0.0, max_distance=1e9)
    )
    assert likely.unknown == [None] * 3
    assert likely.labels == whole.labels
    for bounds, words in (
        (trunkline.Unknown(min_probability=2.0), "from 0 to 1"),
        (trunkline.Unknown(max_distance=-1.0), "positive"),
    ):
        with pytest.raises(trunkline.InvalidRequest, match=words):
            client.predict(images, head="h", unknown=bounds)


def test_versions_are_moved(client, space):
    for _ in range(3):
        client.fit_head("shades", "h", "centroid")
    row = vectors(1)

    def serving(reference="h"):
        return client.predict(head=reference, vectors=row, space_id=space).head.version

    assert serving() == 3
    assert client.promote_head("h", 1).serving == 1
    assert serving() == 1
    assert client.rollback_head("h").version == 3
    assert serving() == 3
    assert client.set_head_alias("h@prod", 2).aliases == {"prod": 2}
    assert serving("h@prod") == 2
    assert client.set_shadow("h", 1).shadow == 1
    for version, words in ((1, "shadow"), (2, "prod"), (3, "serving")):
        with pytest.raises(trunkline.FailedPrecondition, match=words):
            client.delete_head(f"h@{version}")
    assert client.set_shadow("h", None).shadow is None
    client.delete_head("h@1")
    assert client.delete_head_alias("h@prod").versions == (2, 3)
    with pytest.raises(trunkline.NotFound, match="no alias 'prod'"):
        serving("h@prod")
    with pytest.raises(trunkline.NotFound, match="no version 1"):
        client.promote_head("h", 1)
    with pytest.raises(trunkline.InvalidRequest, match="can't name a head"):
        client.promote_head("../h", 1)
    client.delete_head("h")
    assert client.heads() == []


def test_a_candidate_waits_for_its_promotion(client, space):
    head = client.fit_head("shades", "h", "centroid", candidate=True)
    assert (head.version, head.serving) == (1, None)
    assert client.heads() == [head]
    with pytest.raises(trunkline.FailedPrecondition, match="no version of head 'h' serves yet"):
        client.predict(head="h", vectors=vectors(1), space_id=space)
    assert client.promote_head("h", 1).serving == 1


def test_a_migration(client, publish_tiny, server):
    publish_tiny(server.workspace.repository.root, name="double", scale=2.0)
    info = client.create_collection("doubled", "double")
    ids = [f"r{index}" for index in range(20)]
    client.upsert("doubled", ids, vectors(20) * 2, space_id=info.space_id)
    client.fit_head("shades", "h", "centroid")
    done = client.migrate_head("h", "doubled")
    assert (str(done.before), str(done.after)) == ("h@1", "h@2")
    assert (done.shared_rows, done.agreement, done.missing_rows) == (20, 1.0, 0)
    assert (done.after.serving, done.after.space_id) == (1, info.space_id)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folds": 1}, "folds is 1"),
        ({"grid": [-1.0]}, "grid is"),
        ({"transform": "magic"}, "transform is 'magic'"),
        ({"kind": "magic"}, "no kind of head is called 'magic'"),
        ({"target": "absent"}, "absent"),
    ],
)
def test_options_that_cannot_be_used_are_named(client, options, words):
    with pytest.raises(trunkline.InvalidRequest, match=words):
        client.fit_head("shades", "h", **options)
    assert client.heads() == []


def test_a_fit_that_is_cancelled_midway_saves_nothing_and_lets_the_next_one_in(client, monkeypatch):
    before = client.fit_head("shades", "h", "centroid")
    begun = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "fit", never_ending(begun))

        def stop(stage, share):
            if stage == "fitting" and begun.wait(PATIENCE_S):
                raise KeyError("enough")

        with pytest.raises(KeyError, match="enough"):
            client.fit_head("shades", "h", "centroid", progress=stop)
    after = ended(lambda: client.fit_head("shades", "h", "centroid", candidate=True))
    assert (after.version, after.serving) == (2, 1)
    assert client.head("h") == dataclasses.replace(before, versions=(1, 2))


def ended(fit):
    """The fit, as soon as the one before it has ended."""
    while True:
        try:
            return fit()
        except trunkline.Overloaded:
            continue


def test_closing_the_client_ends_its_fit(client, server, endless):
    def close():
        assert endless.wait(PATIENCE_S)
        client.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(trunkline.Cancelled):
        client.fit_head("shades", "h")
    closer.join()
    assert server._gate.wait_empty(PATIENCE_S)
    assert server.workspace.heads.names() == []


def test_a_second_fit_is_told_to_come_again(server, endless):
    with trunkline.Client(str(server.address), retries=0) as client:
        info = client.create_collection("shades", "tiny")
        client.upsert(
            "shades", ["a", "b", "c", "d"], vectors(4), space_id=info.space_id, labels=["a", "b"] * 2
        )
        with heads_channel(server) as stub:
            first = stub.Fit(heads_pb2.FitRequest(collection="shades", name="h"))
            assert endless.wait(PATIENCE_S)
            with pytest.raises(trunkline.Overloaded, match="one at a time"):
                client.fit_head("shades", "other")
            # Listing and predicting go on meanwhile.
            assert client.heads() == []
            first.cancel()
        assert server._gate.wait_empty(PATIENCE_S)


class heads_channel:  # noqa: N801 - a context manager
    """The bare stub of the service."""

    def __init__(self, server):
        self._channel = grpc.insecure_channel(str(server.address))

    def __enter__(self):
        return heads_pb2_grpc.HeadsStub(self._channel)

    def __exit__(self, *_error):
        self._channel.close()


def test_two_kinds_of_items_or_none_are_refused(server):
    with heads_channel(server) as stub:
        for request in (
            heads_pb2.PredictRequest(heads=["h"]),
            heads_pb2.PredictRequest(heads=["h"], ids=["a"], images=[{"encoded": b"x"}]),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(request)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "exactly one of images, embeddings and ids" in caught.value.details()
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(heads_pb2.PredictRequest(heads=["h"] * 1000, ids=["a"], collection="c"))
        assert "1000 heads in one request" in caught.value.details()


def test_versions_can_be_moved_while_the_server_takes_no_work(server, publish_tiny):
    with trunkline.Client(str(server.address), retries=0) as client:
        info = client.create_collection("shades", "tiny")
        client.upsert(
            "shades", ["a", "b", "c", "d"], vectors(4), space_id=info.space_id, labels=["a", "b"] * 2
        )
        for _ in range(2):
            client.fit_head("shades", "h", "centroid")
        server._gate.close("busy")
        with pytest.raises(trunkline.Unavailable):
            client.predict(head="h", ids=["a"], collection="shades")
        assert client.rollback_head("h").version == 1
        assert client.promote_head("h", 2).serving == 2


def test_shadows_are_counted_in_the_metrics(server):
    with trunkline.Client(str(server.address)) as client:
        info = client.create_collection("shades", "tiny")
        ids = [f"r{index}" for index in range(20)]
        labels = ["dark", "light"] * 10
        client.upsert("shades", ids, vectors(20), space_id=info.space_id, labels=labels)
        client.fit_head("shades", "h", "centroid")
        client.relabel("shades", dict(zip(ids, labels[::-1], strict=True)))
        client.fit_head("shades", "h", "centroid", candidate=True)
        client.set_shadow("h", 2)
        client.predict(head="h", ids=ids[:5], collection="shades")
    server.workspace._beside.submit(lambda: None).result()

    def value(name):
        labels = {"head": "h", "serving": "1", "candidate": "2"}
        return server.metrics.registry.get_sample_value(name, labels)

    assert value("trunkline_shadow_rows_total") == 5
    assert value("trunkline_shadow_disagreements_total") == 5
    server.metrics.shadow_failed("h")
    assert server.metrics.registry.get_sample_value("trunkline_shadow_failures_total", {"head": "h"}) == 1


def test_a_request_of_an_older_client_names_its_head():
    # Field 1 was `string head`.
    assert list(heads_pb2.PredictRequest.FromString(b"\x0a\x07flowers").heads) == ["flowers"]


# Converters --------------------------------------------------------------------------------------------


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(0, 6), st.integers(1, 9)), elements=st.floats(0, 1, width=32)
    ),
    st.integers(1, 12),
)
def test_the_top_k_are_the_largest_in_order(outputs, top_k):
    classes = [f"c{k}" for k in range(outputs.shape[1])]
    message = heads_pb2.Prediction()
    head_converters._write_top(message, classes, outputs, top_k)
    k = min(top_k, len(classes))
    figures = np.array(message.top.probabilities, np.float32).reshape(len(outputs), k)
    np.testing.assert_array_equal(figures, -np.sort(-outputs, axis=1)[:, :k])
    named = [message.classes[position] for position in message.top.classes]
    for row, names in enumerate(np.array(named, object).reshape(len(outputs), k)):
        assert len(set(names)) == k
        for name, figure in zip(names, figures[row], strict=True):
            assert outputs[row][classes.index(name)] == figure


def test_a_reply_that_would_be_too_large_is_refused_in_words():
    def check(most_bytes, items=100, **wishes):
        cards = [SimpleNamespace(classes="c" * count, task="single-label", dim=48) for count in (5, 7)]
        head_converters.check_size(cards, items, most_bytes, **wishes)

    check(4800)
    with pytest.raises(InvalidArgument, match=r"100 items with 12 outputs each take .* the top k"):
        check(4799)
    check(1600, top_k=1)
    with pytest.raises(InvalidArgument, match=r"100 items with 2 outputs each take .* a smaller top k"):
        check(1599, top_k=1)
    check(4800 + 400 * 48, with_embeddings=True)
    with pytest.raises(InvalidArgument, match=r"12 outputs each and its embedding take"):
        check(4799 + 400 * 48, with_embeddings=True)
    with pytest.raises(
        InvalidArgument, match=r"more than 134217728 numbers, the most that one call computes"
    ):
        check(2**40, 2**27 // 12 + 1, top_k=1)


def test_what_is_too_much_is_refused_before_it_is_computed(server, monkeypatch):
    monkeypatch.setattr(head_converters, "_MOST_OUTPUTS", 9)
    with trunkline.Client(str(server.address)) as client:
        info = client.create_collection("shades", "tiny")
        labels = ["dark", "light"] * 10
        ids = [f"r{index}" for index in range(20)]
        client.upsert("shades", ids, vectors(20), space_id=info.space_id, labels=labels)
        client.fit_head("shades", "h", "centroid")
        monkeypatch.setattr(StackedHeads, "outputs", None)
        with pytest.raises(trunkline.InvalidRequest, match="5 items with 2 outputs each are more than 9"):
            client.predict(head="h", vectors=vectors(5), space_id=info.space_id)
        request = heads_pb2.PredictRequest(heads=["h"], ids=ids[:5], collection="shades")
        request.neighbours.collection, request.neighbours.k = "shades", 20_001
    with pytest.raises(InvalidArgument, match="100005 hits"):
        HeadsServicer(server.workspace).Predict(request, None)


def test_vectors_that_are_no_numbers_are_failed_items(server):
    with trunkline.Client(str(server.address)) as client:
        info = client.create_collection("shades", "tiny")
        labels = ["dark", "light"] * 10
        client.upsert(
            "shades", [f"r{i}" for i in range(20)], vectors(20), space_id=info.space_id, labels=labels
        )
        client.fit_head("shades", "h", "centroid")
        rows = vectors(4)
        rows[1, 3], rows[2, 0] = np.nan, np.inf
        for top_k in (None, 1):
            found = client.predict(head="h", vectors=rows, space_id=info.space_id, top_k=top_k)
            assert [failure.index for failure in found.errors] == [1, 2]
            assert "the embedding of item 1 holds NaN or infinity" in found.errors[0].message
            assert found.labels == ["dark", None, None, "light"]
            assert np.isnan(found.probabilities[1:3]).all()


def test_options_that_are_left_out_are_the_kinds_own():
    assert head_converters.fit_options_from(heads_pb2.FitOptions()) == FitOptions()
    message = heads_pb2.FitOptions(folds=3, grid=[0.1, 1], seed=4, normal="ok", device="cuda")
    assert head_converters.fit_options_from(message) == FitOptions(
        folds=3, grid=(0.1, 1.0), seed=4, normal="ok", device="cuda"
    )


# Work in the background --------------------------------------------------------------------------------


class Context:
    """A call that can be left."""

    def __init__(self, gone=False):
        self.gone = gone
        self.callbacks = []

    def add_callback(self, function):
        self.callbacks.append(function)
        return not self.gone

    def leave(self):
        for function in self.callbacks:
            function()


def test_work_tells_how_far_it_is_and_what_it_gave():
    def work(report):
        report("a", 0.0)
        for step in range(10_000):
            report("b", step / 10_000)
        report("b", 1.0)
        return 42

    *steps, done = working.stream(work, Context())
    assert done == working.Done(42)
    assert steps[0] == working.Step("a", 0.0)
    assert steps[-1] == working.Step("b", 1.0)
    assert 100 < len(steps) < 300
    assert [step.share for step in steps[1:]] == sorted(step.share for step in steps[1:])


def test_what_work_raises_is_raised_to_the_caller():
    def work(report):
        report("a", 0.0)
        raise NotEnoughData("two rows")

    found = working.stream(work, Context())
    assert next(found).stage == "a"
    with pytest.raises(NotEnoughData, match="two rows"):
        next(found)


@pytest.mark.parametrize("way", ["context", "close", "before"])
def test_work_ends_with_its_caller(way):
    ended = threading.Event()

    def work(report):
        try:
            while True:
                report("a", 0.0)
        finally:
            ended.set()

    context = Context(gone=way == "before")
    found = working.stream(work, context)
    if way == "close":
        next(found)
        found.close()
    else:
        if way == "context":
            next(found)
            context.leave()
        with pytest.raises(Cancelled):
            list(found)
    assert ended.is_set()
