"""Numbers of collections as people read them: thousands apart, in every table."""

from __future__ import annotations

import json

import click.testing
import numpy as np
import pytest

import trunkline
from trunkline_service.cli.app import trunkline_command


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run(...)`` is `trunkline collections ...` beside the collection ``photos`` of 1,500 rows."""
    monkeypatch.chdir(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(1500, 2)).astype(np.float32)
    with trunkline.open() as client:
        info = client.create_collection("photos", space_id="mine", dim=2)
        ids = [f"r{number}" for number in range(1500)]
        labels = ["rose"] * 1200 + [None] * 300
        client.upsert("photos", ids, vectors, space_id=info.space_id, labels=labels, decode="unknown")

    def invoked(*words):
        done = click.testing.CliRunner().invoke(trunkline_command, ["collections", *words])
        assert done.exit_code == 0, done.output + repr(done.exception)
        return done.stdout

    return invoked


def test_rows_are_counted_with_thousands_apart(run):
    assert run("list").splitlines()[1].split()[:5] == ["photos", "1,500", "0", "1,200", "1"]
    assert run("show", "photos").splitlines()[-1].split() == ["rose", "1,200"]
    newest = run("versions", "photos").splitlines()[1]
    assert newest.endswith("UTC  1,500")


def test_programs_read_plain_numbers(run):
    assert json.loads(run("list", "--json"))[0]["rows"] == 1500
    assert json.loads(run("versions", "photos", "--json"))[0]["rows"] == 1500
