"""Two ways, one answer: the client over a socket and the same client over a workspace in this process."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import trunkline

RNG = np.random.default_rng(11)
PIXELS = [RNG.integers(0, 256, (int(side), 40, 3), np.uint8) for side in RNG.integers(8, 90, 30)]


@pytest.fixture(scope="module")
def both(tmp_path_factory, publish_tiny):
    """(remote client, local client), each over a place of its own with the same model."""
    homes = [tmp_path_factory.mktemp("remote"), tmp_path_factory.mktemp("local")]
    for home in homes:
        publish_tiny(home / "models")
    command = [sys.executable, "-m", "trunkline_service.cli.entry", "serve", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--default-model", "tiny"], stdout=subprocess.PIPE, text=True, cwd=homes[0]
    )
    try:
        found = re.search(r" on (\S+:\d+) ", process.stdout.readline())
        local = trunkline.open(
            models=os.fspath(homes[1] / "models"), data=os.fspath(homes[1] / "data"), default_model="tiny"
        )
        with trunkline.Client(found.group(1)) as remote, local:
            yield remote, local
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def outcome(call):
    """What a call gives, errors included."""
    try:
        return call()
    except trunkline.TrunklineError as error:
        return type(error), error.reason, str(error)


def test_embed(both, png):
    images = [*PIXELS, png(PIXELS[0]), b"", b"text", png(PIXELS[1])[:90]]
    remote, local = (client.embed(images) for client in both)
    np.testing.assert_array_equal(remote.vectors, local.vectors)
    assert [(f.index, f.reason, f.message) for f in remote.errors] == [
        (f.index, f.reason, f.message) for f in local.errors
    ]
    assert (remote.space_id, remote.model) == (local.space_id, local.model)


def test_add_search_and_collections(both):
    labels = [f"label {number % 3}" for number in range(len(PIXELS))]
    added = [client.add("c", PIXELS, labels=labels) for client in both]
    assert added[0].ids == added[1].ids
    for query in (
        {"images": PIXELS[:4], "k": 5},
        {"ids": added[0].ids[:3], "k": 4},
        {"images": PIXELS[:2], "k": 3, "where": "label = 'label 1'"},
    ):
        remote, local = (client.search("c", **query) for client in both)
        assert (remote.ids, remote.labels) == (local.ids, local.labels)
        np.testing.assert_array_equal(np.concatenate(remote.scores), np.concatenate(local.scores))
    remote, local = (client.collection("c") for client in both)
    assert (remote.rows, remote.labels, remote.space_id) == (local.rows, local.labels, local.space_id)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.embed([PIXELS[0]], model="absent"),
        lambda client: client.embed([PIXELS[0]], model="../x"),
        lambda client: client.search("absent", images=[PIXELS[0]]),
        lambda client: client.search("c", images=[PIXELS[0]], where="nonsense ="),
        lambda client: client.search("c", images=[PIXELS[0]], k=5000),
        lambda client: client.search("c", ids=["absent"]),
        lambda client: client.predict([PIXELS[0]], head="absent"),
        lambda client: client.embed([PIXELS[0]], expect_space="sp1-other"),
    ],
)
def test_errors(both, call):
    remote, local = (outcome(lambda client=client: call(client)) for client in both)
    assert isinstance(remote, tuple)
    assert remote == local
