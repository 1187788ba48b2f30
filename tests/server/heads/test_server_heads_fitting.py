"""The Heads service fits: options, candidates, migrations, and fits that are ended or told to come again."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from tests.server.heads.conftest import heads_channel, vectors

import trunkline
from trunkline_protos.v1 import heads_pb2
from trunkline_service.workspace import fitting

PATIENCE_S = 60


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
