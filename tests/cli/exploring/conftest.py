"""Collections to look at, by the commands of a folder and over a server of it."""

from __future__ import annotations

import contextlib

import click.testing
import numpy as np
import pytest
from PIL import Image

import trunkline
from trunkline_service.cli.app import trunkline_command
from trunkline_service.server.app import Server
from trunkline_service.settings import Settings

HOSTILE = "<script>alert(1)</script>"


def _invoked(*words, status=0):
    done = click.testing.CliRunner().invoke(trunkline_command, ["collections", *words])
    assert done.exit_code == status, done.output + repr(done.exception)
    return done


@pytest.fixture(scope="session")
def invoked():
    """``invoked("map", ..., status=0)``: the result of the command, which ends with that status."""
    return _invoked


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with images and the collection ``things``: two clouds of 20 rows, of which two are twice."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics").mkdir()
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(42, 6)).astype(np.float32)
    vectors += 5 * np.eye(6, dtype=np.float32)[np.arange(42) % 2]
    vectors[40:] = vectors[:2]
    for at in range(42):
        pixels = generator.integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pics" / f"{at}.png")
    with trunkline.open() as client:
        client.create_collection("things", space_id="mine", dim=6)
        client.upsert(
            "things",
            [f"r{at}" for at in range(40)] + [HOSTILE, "r41"],
            vectors,
            space_id="declared:mine",
            labels=["even", "odd"] * 20 + ["odd", "odd"],
            splits=["train"] * 41 + ["test"],
            sources=[str(tmp_path / "pics" / f"{at}.png") for at in range(42)],
            decode="unknown",
        )
    return tmp_path


@pytest.fixture(params=["here", "server"])
def run(request, home):
    """``run("map", ...)`` in the folder, or over a server of it; gives the result of success."""
    with contextlib.ExitStack() as stack:
        place = ()
        if request.param == "server":
            folders = {"models": str(home / "models"), "data": str(home / "data")}
            (home / "models").mkdir()
            server = Server(Settings(**folders, listen="127.0.0.1:0", threads=1, drain_s=10))
            stack.callback(server.stop)
            with contextlib.suppress(Exception):
                server.start()
            place = ("--server", str(server.address))
        yield lambda *words, status=0: _invoked(*words, *place, status=status)


@pytest.fixture
def by_hand(home):
    """The collection ``vectors``: rows that nobody knows a file of, in a chain and two copies."""
    degrees = np.deg2rad([0, 5, 10, 15, 90, 90])
    with trunkline.open() as client:
        client.create_collection("vectors", space_id="mine", dim=2)
        client.upsert(
            "vectors",
            [f"v{at}" for at in range(6)],
            np.stack([np.cos(degrees), np.sin(degrees)], axis=1),
            space_id="declared:mine",
            decode="unknown",
        )
