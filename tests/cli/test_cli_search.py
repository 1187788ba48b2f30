"""`trunkline search` in a collection whose rows have lists of labels, and an exclusive purge."""

from __future__ import annotations

import json
from pathlib import Path

import click.testing
import numpy as np
import pytest

import trunkline
from trunkline_service.cli.app import trunkline_command

RED, GREEN = (np.full((8, 8, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 200, 0)))


@pytest.fixture
def run(tmp_path, monkeypatch, publish_tiny):
    """``run("search", ...)`` is that command in a folder with the tiny model; gives its result."""
    monkeypatch.chdir(tmp_path)
    publish_tiny(tmp_path / "models")
    monkeypatch.setenv("TRUNKLINE_DEFAULT_MODEL", "tiny")

    def invoke(*words):
        done = click.testing.CliRunner().invoke(trunkline_command, words)
        assert done.exit_code == 0, done.output + repr(done.exception)
        return done

    return invoke


def test_search_prints_lists_of_labels(run, tmp_path, png):
    with trunkline.open(default_model="tiny") as client:
        client.add("photos", [RED, GREEN], ["r", "g"], [("warm", "rose"), None])
    (tmp_path / "query.png").write_bytes(png(RED))
    shown = run("search", "query.png", "--collection", "photos").stdout.splitlines()
    assert [line.split() for line in shown[1:]] == [
        ["score", "label", "id"],
        ["1.0000", "warm,", "rose", "r"],
        ["0.0000", "g"],
    ]
    (answer,) = json.loads(run("search", "query.png", "--collection", "photos", "--json").stdout)
    assert [hit["label"] for hit in answer["hits"]] == [["warm", "rose"], None]


def test_an_exclusive_purge_takes_what_killed_writers_left(run):
    with trunkline.open(default_model="tiny") as client:
        client.add("photos", [RED, GREEN], ["r", "g"])
    (data,) = Path("data", "collections", "photos.lance", "data").iterdir()
    orphan = data.with_name("f" * 40 + ".lance")
    orphan.write_bytes(data.read_bytes())
    words = ["collections", "purge", "photos", "--id", "r", "--yes"]
    assert "purge again with --exclusive" in run(*words).stderr
    assert orphan.exists()
    assert "warning" not in run(*words, "--exclusive").stderr
    assert not orphan.exists()
