"""Two ways, one answer: the client over a socket and the same client over a workspace in this process."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from datetime import UTC, datetime

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


def adding(client, name):
    """Adds of every kind, and what is then stored; yields what is comparable."""
    metadata = [{"n": number, "t": MOMENT} for number in range(6)]
    splits = ["train", "test", None, "train", None, None]
    ids = ["a", "b", "c", "d", "bad", "e"]
    images = [*PIXELS[:4], b"text", PIXELS[4]]
    labels = [("x", "y"), (), None, ("x",), ("z",), None]
    added = client.add(name, images, ids, labels, splits=splits, metadata=metadata, sources=ids)
    yield added.ids, [(failure.index, failure.reason) for failure in added.errors]
    again = {"ids": ["a", "b", "bad"], "metadata": [{"n": None, "later": 1.5}, None, {"s": "é"}]}
    yield client.add(name, PIXELS[5:8], **again, splits=["val", None, None]).ids
    yield client.add(name, PIXELS[0], "c", [("new",)]).ids
    scanned = joined(client.scan(name))[0]
    yield scanned
    yield {name: scanned[name] for name in ("ids", "labels", "splits", "metadata")}
    found = client.search(name, ids=["a", "c"], k=9)
    yield found.ids, found.labels, found.scores
    yield client.search(name, images=PIXELS[:1], k=2, where="array_has(label, 'x')").labels
    yield outcome(lambda: client.add(name, PIXELS[0], "c", "one"))
    yield outcome(lambda: client.add(name, PIXELS[:2], ["c", "d"], ["one", ("two",)]))
    yield outcome(lambda: client.add(name, PIXELS[0], "c", metadata={"n": "no number"}))
    yield outcome(lambda: client.add(name, PIXELS[0], "c", metadata={"label": "x"}))
    first = client.versions(name)[-2].version
    yield client.collection(f"{name}@{first}").columns, client.collection(name).columns
    purged = client.purge(name, ["a"], exclusive=True)
    yield purged.rows, purged.unowned_files, client.search(name, images=PIXELS[:1], k=9).ids


def test_adding_with_splits_metadata_and_lists_of_labels(both):
    answers = [list(adding(client, "told")) for client in both]
    np.testing.assert_equal(*answers)
    stored = answers[0][4]
    rows = {
        row_id: (stored["labels"][index], stored["splits"][index], stored["metadata"][index])
        for index, row_id in enumerate(stored["ids"])
    }
    assert rows["a"] == (("x", "y"), "val", {"t": MOMENT, "later": 1.5})
    assert rows["b"] == ((), "test", {"n": 1, "t": MOMENT})
    assert rows["c"] == (("new",), None, {"n": 2, "t": MOMENT})
    assert rows["bad"] == (("z",), None, {"n": 4, "t": MOMENT, "s": "é"})


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


VECTORS = RNG.normal(size=(40, 6)).astype(np.float32)
IDS = [f"r{number:02}" for number in range(40)]
MOMENT = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)


def filled(client, name, **options):
    """A collection of declared vectors, of every kind of row and value."""
    info = client.create_collection(name, space_id="mine", dim=6, **options)
    rows = [
        trunkline.Row(
            row_id,
            vector,
            None if number % 5 == 0 else f"label {number % 3}",
            ("train", "test", None)[number % 3],
            f"{row_id}.jpg",
            f"hash {number}",
            f"etag {number}" if number % 2 else None,
            number or None,
            number / 4,
            job="job",
            metadata={"n": number, "x": number / 8, "s": f"é{number}", "b": number > 3, "t": MOMENT},
        )
        for number, (row_id, vector) in enumerate(zip(IDS, VECTORS, strict=True))
    ]
    rows.append(trunkline.Row("bad", None, status="error", error="corrupt_image: x"))
    client.upsert_rows(name, rows, space_id=info.space_id, decode="unknown")
    return info


@pytest.fixture
def pair(both, request):
    """Both clients, each with a collection of the test's own name."""
    name = re.sub(r"\W", "-", request.node.name)[:60]
    for client in both:
        filled(client, name)
    return name, both


def same_rows(remote, local):
    for ours, theirs in zip(vars(remote).items(), vars(local).items(), strict=True):
        if ours[0] == "embedded_at":
            assert [moment is None for moment in ours[1]] == [moment is None for moment in theirs[1]]
        else:
            np.testing.assert_equal(ours, theirs)


def joined(parts):
    """A scan as one dict of lists; the number of its batches is no part of the answer."""
    parts = list(parts)
    lists = {name for name, value in vars(parts[0]).items() if isinstance(value, list)} - {"embedded_at"}
    found = {name: [entry for part in parts for entry in getattr(part, name)] for name in lists}
    if parts[0].vectors is not None:
        found["vectors"] = np.concatenate([part.vectors for part in parts]).tolist()
    return found, parts[0].version, parts[0].space_id, parts[0].collection


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"columns": ["id", "status", "size", "mtime", "etag", "content_hash"]},
        {"columns": ["n", "t", "label"], "vectors": True, "batch_size": 7},
        {"where": "label = ? AND n > ?", "parameters": ["label 1", 9]},
        {"where": "t = ? AND b", "parameters": [MOMENT], "dtype": "float16"},
        {"where": "x < ? OR status = 'error'", "parameters": [1.5], "columns": []},
        {"where": "false"},
    ],
    ids=str,
)
def test_scan(pair, asked):
    name, (remote, local) = pair
    ours, theirs = (joined(client.scan(name, **asked)) for client in (remote, local))
    np.testing.assert_equal(ours, theirs)


def test_rows_by_id(pair):
    name, (remote, local) = pair
    same_rows(*(client.rows(name, ["r07", "bad", "r00", "r07"]) for client in (remote, local)))
    same_rows(*(client.rows(name, ["r07"], vectors=False) for client in (remote, local)))
    rows = local.rows(name, IDS)
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.metadata[9] == {"n": 9, "x": 9 / 8, "s": "é9", "b": True, "t": MOMENT}


def test_rows_copied_from_one_to_the_other_are_the_same(pair):
    name, (remote, local) = pair
    for source, target in ((remote, local), (local, remote)):
        info = target.create_collection(f"{name}-copy", space_id="mine", dim=6)
        for part in source.scan(name):
            target.upsert_rows(f"{name}-copy", part.rows, space_id=info.space_id)
    ours, theirs = (joined(client.scan(f"{name}-copy"))[0] for client in (remote, local))
    np.testing.assert_equal(ours, theirs)
    np.testing.assert_equal(ours, joined(remote.scan(name))[0])


def test_changes_versions_tags_and_aliases(pair):
    name, clients = pair
    answers = [list(changes(client, name)) for client in clients]
    assert answers[0] == answers[1]


def changes(client, name):
    """Every change that a collection can see; yields what is comparable of each answer."""
    start = client.collection(name).version
    yield client.relabel(name, {"r00": "new", "r01": None, "absent": "x"})
    yield client.relabel(name, label="big", where="n > ?", parameters=[35])
    yield client.relabel(name, label=-1, where="n = 3", column="n")
    yield client.tag(name, "reviewed"), client.tag(name, "first", start)
    yield client.delete(name, ["r02", "r02", "absent"])
    yield client.delete(name, where="status = ?", parameters=["error"])
    yield client.set_alias(f"{name}@prod", name), client.set_alias(f"{name}@old", name, start)
    yield [alias for alias in client.aliases() if alias.collection == name]
    yield outcome(lambda: client.drop_collection(name))
    yield client.rows(f"{name}@old", ["bad"]).errors, client.collection(f"{name}@first").errors
    yield outcome(lambda: client.rows(f"{name}@prod", ["bad"]))
    yield [(info.version, info.rows, info.tags) for info in client.versions(name)]
    info = client.collection(name)
    yield info.labels, info.rows, info.aliases, info.declared, info.dtype, info.columns, info.pretrained
    yield client.restore(name, start), client.collection(name).labels
    yield outcome(lambda: client.purge(name, ["r00"]))
    client.untag(name, "first")
    client.untag(name, "reviewed")
    yield outcome(lambda: client.untag(name, "first"))
    client.delete_alias(f"{name}@old")
    yield client.compact(name, keep_seconds=1e9).versions_removed
    purged = client.purge(name, ["r00"])
    yield purged.rows, [version.rows for version in client.versions(name)], purged.bytes_freed > 0
    client.delete_alias(f"{name}@prod")
    yield client.drop_collection(name), outcome(lambda: client.drop_collection(name))


class Blocking:
    """The client for asyncio, each of whose calls is waited for."""

    def __init__(self, target, runner):
        self.runner = runner
        self.client = trunkline.AsyncClient(target)

    def __getattr__(self, name):
        def call(*arguments, **named):
            return self.runner.run(self.finish(getattr(self.client, name)(*arguments, **named)))

        return call

    async def finish(self, answer):
        return [part async for part in answer] if hasattr(answer, "__anext__") else await answer


def test_the_client_for_asyncio_says_the_same(both):
    remote, local = both
    with asyncio.Runner() as runner:
        awaited = Blocking(remote._calls._target, runner)
        try:
            for client in (awaited, local):
                filled(client, "awaited")
            np.testing.assert_equal(joined(awaited.scan("awaited")), joined(local.scan("awaited")))
            same_rows(*(client.rows("awaited", ["r07", "bad"]) for client in (awaited, local)))
            assert list(changes(awaited, "awaited")) == list(changes(local, "awaited"))
            np.testing.assert_equal(
                list(adding(awaited, "awaited-adds")), list(adding(local, "awaited-adds"))
            )
        finally:
            awaited.close()


def test_labels_in_lists_and_half_floats(both):
    answers = []
    for client in both:
        info = client.create_collection("many", space_id="mine", dim=6, dtype="float16", multi_label=True)
        labels = [("a", "b"), (), None, ("b",)]
        client.upsert("many", IDS[:4], VECTORS[:4], space_id=info.space_id, labels=labels, decode="unknown")
        client.relabel("many", {"r01": ("c",), "r03": ()})
        client.relabel("many", label=("d", "e"), where="id = 'r02'")
        rows = client.rows("many", IDS[:4])
        assert rows.labels == [("a", "b"), ("c",), ("d", "e"), ()]
        answers.append(
            (rows.vectors.tolist(), client.collection("many").labels, info.multi_label, info.dtype)
        )
    assert answers[0] == answers[1]


def test_a_collection_of_a_model(both):
    answers = []
    for client in both:
        info = client.create_collection("of-a-model", "tiny", decode="fast")
        again = client.create_collection("of-a-model", "tiny", decode="fast")
        vectors = client.embed(PIXELS[:2]).vectors
        client.upsert("of-a-model", ["a", "b"], vectors, space_id=info.space_id, decode="fast", model="tiny")
        assert info == again
        answers.append((info.model, info.space_id, info.dim, info.decode, info.declared, info.artifact_id))
    assert answers[0] == answers[1]
    assert answers[0][4] is False


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda c, n, s: c.upsert(n, ["a"], VECTORS[:1], space_id="sp1-other", decode="unknown"),
            "declared:mine.*sp1-other",
        ),
        (
            lambda c, n, s: c.upsert(n, ["a"], VECTORS[:1, :5], space_id=s, decode="unknown"),
            "'a'.*5 floats.*6",
        ),
        (lambda c, n, s: c.upsert(n, ["a"], VECTORS[:1], space_id=s, decode="exact"), "'unknown'.*'exact'"),
        (
            lambda c, n, s: c.upsert(n, ["a"], VECTORS[:1], space_id=s, decode="unknown", model="tiny"),
            "model tiny@1",
        ),
        (lambda c, n, s: c.upsert(n, ["a"], VECTORS[:1] * np.nan, space_id=s, decode="unknown"), "'a'.*NaN"),
        (
            lambda c, n, s: c.upsert(
                n, ["a"], VECTORS[:1], space_id=s, decode="unknown", metadata=[{"n": "x"}]
            ),
            "'a', column 'n'",
        ),
        (lambda c, n, s: c.upsert("absent", ["a"], VECTORS[:1], space_id=s), "no collection 'absent'"),
        (lambda c, n, s: c.upsert("absent", [], VECTORS[:0], space_id=s), "no collection 'absent'"),
        (lambda c, n, s: c.rows(n, ["q", "r00"]), "no row 'q'"),
        (lambda c, n, s: c.rows(f"{n}@99", ["r00"]), "no version 99"),
        (lambda c, n, s: list(c.scan(n, ["nope"])), "no column 'nope'"),
        (lambda c, n, s: list(c.scan(n, where="n = ?")), "takes 1 parameter,"),
        (lambda c, n, s: list(c.scan(n, where="n = 1) OR (true")), "brackets"),
        (lambda c, n, s: list(c.scan(f"{n}@nope")), "no alias and no tag 'nope'"),
        (lambda c, n, s: c.relabel(n, {"r00": ("x",)}), "'r00'"),
        (lambda c, n, s: c.relabel(n, {"r00": "x"}, column="source"), "'source' is kept"),
        (lambda c, n, s: c.delete(n, where=" "), "condition is empty"),
        (lambda c, n, s: c.restore(n, 99), "no version 99"),
        (lambda c, n, s: c.tag(n, "7"), "'7'"),
        (lambda c, n, s: c.set_alias("x@y", "absent"), "absent"),
        (lambda c, n, s: c.set_alias("x", n), "NAME@WORD"),
        (lambda c, n, s: c.create_collection(n, space_id="mine", dim=6), "already"),
        (lambda c, n, s: c.create_collection("../x", space_id="mine", dim=6), "can't name"),
        (lambda c, n, s: c.create_collection("x", "absent"), "absent"),
        (lambda c, n, s: c.create_collection("x", decode="odd"), "odd"),
        (lambda c, n, s: c.compact(n, keep_seconds=-1), "keep"),
        (lambda c, n, s: c.compact(n, keep_seconds=float("nan")), "keep"),
    ],
)
def test_refusals(pair, call, words):
    name, clients = pair
    remote, local = (outcome(lambda client=client: call(client, name, "declared:mine")) for client in clients)
    assert isinstance(remote, tuple)
    assert remote == local
    assert re.search(words, remote[2]), remote[2]
