"""Reports and suggestions over a socket and in this process."""

from __future__ import annotations

import numpy as np
import pytest

import trunkline
from trunkline_service.errors import StorageError
from trunkline_service.heads.report.report import Report
from trunkline_service.server.app import Server
from trunkline_service.settings import Settings

DIM = 48


@pytest.fixture
def server(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    folders = {"models": str(tmp_path / "models"), "data": str(tmp_path / "data")}
    built = Server(Settings(**folders, default_model="tiny", listen="127.0.0.1:0", threads=1, drain_s=10))
    built.start()
    yield built
    built.stop()


@pytest.fixture(params=["remote", "local"])
def client(request, server):
    """A client of the server, and one of the same folders in this process; 20 rows with a label, 10 without."""
    folders = {"models": server.settings.models, "data": server.settings.data}
    if request.param == "remote":
        opened = trunkline.Client(str(server.address), retries=0)
    else:
        opened = trunkline.open(**folders, default_model="tiny")
    rows = np.random.default_rng(0).normal(size=(30, DIM)).astype(np.float32)
    rows[1:20:2] += 3.0
    rows[20:] += 1.5
    with opened as client:
        info = client.create_collection("shades", "tiny")
        labels = [*["dark", "light"] * 10, *[None] * 10]
        ids = [f"r{index}" for index in range(30)]
        sources = [f"/images/{index}.png" for index in range(30)]
        client.upsert("shades", ids, rows, space_id=info.space_id, labels=labels, sources=sources)
        yield client


def test_a_report_comes_whole(client):
    head = client.fit_head("shades", "h", "centroid")
    document = client.head_report("h")
    report = Report.from_json(document)
    assert report.to_json() == document == client.head_report("h@1")
    assert report.evaluation.to_json() == head.card["metrics"]


def test_a_fit_without_a_report(client):
    stages = set()
    client.fit_head("shades", "h", "centroid", report=False, progress=lambda stage, _: stages.add(stage))
    assert "reporting" not in stages
    with pytest.raises(trunkline.FailedPrecondition, match="trunkline heads fit shades --name h"):
        client.head_report("h")
    with pytest.raises(trunkline.NotFound, match="absent"):
        client.head_report("absent")


def test_a_report_that_could_not_be_written_is_told_to_who_asked_for_the_fit(client, server, monkeypatch):
    from trunkline_service.heads.storage.registry import HeadRegistry

    def full(*_args):
        raise StorageError("no room")

    monkeypatch.setattr(HeadRegistry, "write_report", full)
    head = client.fit_head("shades", "h", "centroid")
    assert head.card["notes"] == ["it has no report: no room"]
    assert (head.serving, client.head("h").version) == (1, 1)


def test_what_to_label_next(client):
    client.fit_head("shades", "h", "centroid", report=False)
    found = client.suggest_labels("h", "shades", 4)
    assert (str(found.head), found.collection, found.unlabelled, found.asked) == ("h@1", "shades", 10, 10)
    assert found.collection_version == client.collection("shades").version
    assert len({row.id for row in found.rows}) == 4
    for row in found.rows:
        assert int(row.id[1:]) >= 20
        assert row.source == f"/images/{row.id[1:]}.png"
        (first, high), (second, low) = row.likeliest
        assert {first, second} == {"dark", "light"}
        assert high >= low
        assert row.margin == pytest.approx(high - low, abs=1e-6)
        assert row.reason
    assert len(client.suggest_labels("h", "shades").rows) == 10
    with pytest.raises(trunkline.InvalidRequest, match="ask for 1 to 1,000 rows"):
        client.suggest_labels("h", "shades", 1001)
    with pytest.raises(trunkline.NotFound, match="absent"):
        client.suggest_labels("h", "absent")


def test_a_report_can_be_read_while_the_server_takes_no_work(server):
    with trunkline.Client(str(server.address), retries=0) as client:
        info = client.create_collection("shades", "tiny")
        rows = np.eye(4, DIM, dtype=np.float32)
        client.upsert("shades", list("abcd"), rows, space_id=info.space_id, labels=["x", "y"] * 2)
        client.fit_head("shades", "h", "centroid")
        server._gate.close("busy")
        assert client.head_report("h")["task"] == "single-label"
        with pytest.raises(trunkline.Unavailable):
            client.suggest_labels("h", "shades")
