"""`trunkline embed`: what it says at its end, and what it refuses."""

from __future__ import annotations

import json
import shlex

import click.testing
import numpy as np
import pyarrow.parquet as pq
import pytest

from trunkline_service.cli import embed as embed_module
from trunkline_service.cli.app import trunkline_command


@pytest.fixture
def home(tmp_path, publish_tiny, png, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUNKLINE_DEFAULT_MODEL", "tiny")
    publish_tiny(tmp_path / "models")
    for number in range(2):
        folder = tmp_path / "photos" / "ants"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(np.full((32, 32, 3), number, np.uint8)))
    return tmp_path


@pytest.fixture
def run(home):
    def invoke(*words, status=0):
        done = click.testing.CliRunner().invoke(trunkline_command, words)
        assert done.exit_code == status, done.output + repr(done.exception)
        return done

    return invoke


def test_a_dry_run_with_nothing_to_do_is_json_all_the_same(run):
    run("embed", "photos", "--into", "c")
    done = run("embed", "photos", "--into", "c", "--dry-run", "--json")
    assert json.loads(done.stdout) == {"images": 0, "unchanged": 2, "failed_before": 0}
    assert "nothing to do: 2 images done" in run("embed", "photos", "--into", "c", "--dry-run").stdout


def test_failures_say_how_they_are_listed(run, home):
    (home / "photos" / "bad.png").write_bytes(b"no image")
    done = run("embed", "photos", "--into", "c")
    (said,) = [line for line in done.stderr.splitlines() if "trunkline collections export" in line]
    run(*shlex.split(said.partition("trunkline ")[2]))
    assert pq.read_table(home / "failed.parquet").column("id").to_pylist() == ["bad.png"]


def test_a_job_in_which_every_image_failed_is_a_failure(run, home):
    for path in (home / "photos").rglob("*.png"):
        path.write_bytes(b"no image")
    done = run("embed", "photos", "--into", "c", status=1)
    assert "next:" not in done.stderr
    (home / "photos" / "good.png").write_bytes((home / "photos/ants/0.png").read_bytes())
    run("embed", "photos", "--into", "c", "--retry-failed", "--json", status=1)


def test_a_listing_with_problems_is_a_warning_and_no_success(run, home, monkeypatch):
    from trunkline_service.jobs.sources import FolderSource

    monkeypatch.setattr(FolderSource, "problems", lambda _self: ("photos/locked can't be listed",))
    done = run("embed", "photos", "--into", "c")
    assert "warning: photos/locked can't be listed" in done.stderr
    assert "c may lack images" in done.stderr
    assert "next:" not in done.stderr


def test_one_image_is_one(run, home):
    (home / "photos/ants/1.png").unlink()
    run("embed", "photos", "--into", "c")
    assert "nothing to do: 1 image done" in run("embed", "photos", "--into", "c", "--dry-run").stdout
    (home / "photos/ants/0.png").write_bytes(b"no image")
    run("embed", "photos", "--into", "c", status=1)
    assert "1 image failed in earlier runs" in run("embed", "photos", "--into", "c").stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--device", "cpu"), "trunkline serve --device"),
        (("--decode", "fast"), "trunkline serve --decode"),
        (("--engine", "ray"), "workers open --models and --data"),
        (("--dry-run",), "this machine"),
    ],
)
def test_what_a_server_can_not_do_is_refused_with_its_reason(run, option, words):
    done = run("embed", "photos", "--into", "c", "--server", "127.0.0.1:1", *option, status=2)
    assert option[0] in done.stderr
    assert words in done.stderr


def test_from_collection_over_a_server_is_refused_with_its_reason(run):
    done = run("embed", "--from-collection", "a", "--into", "c", "--server", "127.0.0.1:1", status=2)
    assert "sources that a collection recorded are read where it is" in done.stderr


def test_prune_is_refused_where_rows_may_have_come_from_elsewhere(run):
    assert "--prune" in run("embed", "--from-collection", "a", "--into", "c", "--prune", status=2).stderr


@pytest.mark.parametrize(
    "words",
    [
        ["photos", "--into", "c", "--commit-rows", "7", "--retry-failed"],
        ["--into", "c", "--from-collection", "a b"],
    ],
)
def test_the_command_that_goes_on_is_the_one_that_was_interrupted(run, monkeypatch, words):
    said = []
    monkeypatch.setattr(embed_module.output, "hint", said.append)

    def interrupted(*_given):
        with embed_module._stopping() as stop:
            embed_module.signal.raise_signal(embed_module.signal.SIGINT)
            assert stop.is_set()

    monkeypatch.setattr(embed_module, "_here", interrupted)
    run("embed", *words)
    again = said[0].partition("To go on later: ")[2].partition("   (")[0]
    assert sorted(shlex.split(again)) == sorted(["trunkline", "embed", *words])
    assert shlex.split(again)[:2] == ["trunkline", "embed"]
