"""The Heads service moves versions and counts shadows."""

from __future__ import annotations

import pytest
from tests.server.heads.conftest import vectors

import trunkline


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
