"""`trunkline collections index` over a collection of this machine: built, searched, measured, dropped."""

from __future__ import annotations

import json

import click.testing
import numpy as np

import trunkline
from trunkline_service.cli.app import trunkline_command


def run(*words):
    done = click.testing.CliRunner().invoke(trunkline_command, ["collections", "index", "photos", *words])
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done


def test_an_index_is_built_and_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    with trunkline.open() as client:
        info = client.create_collection("photos", space_id="mine", dim=8)
        ids = [f"r{number}" for number in range(2000)]
        client.upsert("photos", ids, vectors, space_id=info.space_id, decode="unknown")
        exact = client.search("photos", ids=ids[:5], k=3).ids
    built = json.loads(run("--kind", "hnsw", "--recall", "0.9", "--json").stdout)
    assert (built["kind"], built["options"]["recall"], built["build"]["version"]) == (
        "hnsw",
        0.9,
        info.version + 1,
    )
    assert built["recall"]["measured"] >= 0.9
    done = click.testing.CliRunner().invoke(
        trunkline_command, ["search", "--id", "r0", "--collection", "photos", "-k", "3", "--exact", "--json"]
    )
    (answer,) = json.loads(done.stdout)
    assert answer["index"]["kind"] == "hnsw"
    assert [hit["id"] for hit in answer["hits"]] == exact[0]
    assert json.loads(run("--measure", "--queries", "50", "--json").stdout)["measured"]["queries"] == 50
    dropped = json.loads(run("--drop", "--json").stdout)
    assert (dropped["kind"], dropped["build"], dropped["options"]["kind"]) == ("flat", None, "auto")
