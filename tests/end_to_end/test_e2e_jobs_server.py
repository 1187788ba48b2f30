"""The same job in this process and against a running server: the same rows, the same words."""

from __future__ import annotations

import json

import pytest
from tests.end_to_end import jobs_support as support


@pytest.fixture
def places(tmp_path, publish_tiny, start_server):
    """A home with a server on data of its own, and photographs; the server's address."""
    publish_tiny(tmp_path / "models")
    support.make_photos(tmp_path / "photos", 120, bad_every=30)
    (tmp_path / "there").mkdir()
    with start_server(tmp_path, "--models", "models", "--data", "there", "--default-model", "tiny") as server:
        yield tmp_path, server.address


def embed(cli, home, *arguments):
    done = cli("embed", str(home / "photos"), "--into", "c", "--json", *arguments, cwd=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_server_gives_the_rows_of_a_job_here(places, cli, png):
    home, address = places
    here = embed(cli, home, "--model", "tiny", "--data", "here")
    there = embed(cli, home, "--server", address)
    for name in ("embedded", "errors", "model", "space_id", "unchanged", "duplicates"):
        assert here[name] == there[name], name
    rows = [support.rows_of(home / data, "c") for data in ("here", "there")]
    support.assert_same_rows(*rows)

    # What changed, vanished and failed is seen alike.
    (home / "photos/train/class1/00001.jpg").write_bytes(support.jpeg(999))
    (home / "photos/train/class2/00002.jpg").unlink()
    (home / "photos/train/class2/00005.jpg").touch()
    more = ["--prune", "--retry-failed"]
    here = embed(cli, home, "--model", "tiny", "--data", "here", *more)
    there = embed(cli, home, "--server", address, *more)
    assert (here["embedded"], here["touched"], here["pruned"], sum(here["errors"].values())) == (1, 1, 1, 4)
    for name in ("embedded", "errors", "touched", "pruned", "unchanged"):
        assert here[name] == there[name], name
    rows = [support.rows_of(home / data, "c") for data in ("here", "there")]
    support.assert_same_rows(*rows)


@pytest.mark.slow
def test_a_model_of_another_space_is_refused_by_the_server(places, cli, publish_tiny):
    home, address = places
    embed(cli, home, "--server", address)
    publish_tiny(home / "models", name="other", scale=2.0)
    done = cli(
        "embed", str(home / "photos"), "--into", "c", "--server", address, "--model", "other", cwd=home
    )
    assert done.returncode == 1
    assert "space" in done.stderr
