"""`trunkline collections index`: what it asks for, and what people and programs read of the answer."""

from __future__ import annotations

import dataclasses
import json

import click.testing
import pytest

import trunkline
from trunkline_service.cli.app import trunkline_command
from trunkline_service.cli.options import Place

RECALL = trunkline.Recall(k=10, measured=0.99512, low=0.9912, queries=200, version=4, rows=900_000)
OPTIONS = trunkline.IndexOptions("auto", 0.99, 10, 512)
BUILD = trunkline.IndexBuild(
    id="b",
    version=4,
    kind="ivf_flat",
    rows=900_000,
    held_out=1000,
    parameters={"nlist": 4096},
    effort=4,
    recall=RECALL,
    settings=(trunkline.IndexSetting(2, 0.9701, 25_000.4), trunkline.IndexSetting(4, 0.99512, 21_000.0)),
    reason="the fastest that reached 0.99",
    options=OPTIONS,
    seconds=21.53,
    memory_bytes=480_000_000,
    stored_bytes=500_000_000,
    space_id="s",
    dim=128,
    metric="cosine",
    made_by={"faiss": "1"},
    created_at="2026-01-01T00:00:00+00:00",
    levels=(
        trunkline.IndexLevel(4, RECALL),
        trunkline.IndexLevel(16, trunkline.Recall(100, 0.9923, 0.9901, 200, 4, 900_000)),
    ),
)
INFO = trunkline.IndexInfo(
    "photos", 7, "ivf_flat", OPTIONS, 901_500, 1500, 200, BUILD, RECALL, False, "as built"
)
FLAT = trunkline.IndexInfo(
    "photos", 7, "flat", trunkline.IndexOptions(), 3, 0, 0, None, None, True, "few rows"
)


class Recording:
    """A client that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked = []
        self.info = INFO

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __getattr__(self, name):
        def call(*words, **named):
            self.asked.append(
                (name, words, {key: value for key, value in named.items() if key != "progress"})
            )
            return RECALL if name == "measure_recall" else self.info

        return call


@pytest.fixture
def client(monkeypatch):
    opened = Recording()
    monkeypatch.setattr(Place, "client", lambda place: opened)
    return opened


def run(*words, status=0):
    done = click.testing.CliRunner().invoke(trunkline_command, ["collections", "index", "photos", *words])
    assert done.exit_code == status, done.output + repr(done.exception)
    return done


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ((), [("index", {})]),
        (("--build",), [("build_index", {})]),
        (("--kind", "hnsw"), [("build_index", {"kind": "hnsw"})]),
        (
            ("--recall", "0.95", "--k", "5", "--memory", "0"),
            [("build_index", {"recall": 0.95, "k": 5, "memory_mb": 0})],
        ),
        (("--kind", "flat", "--no-build"), [("set_index", {"kind": "flat"})]),
        (("--drop",), [("drop_index", {})]),
    ],
)
def test_what_is_asked_for(client, words, asked):
    run(*words)
    assert [(name, named) for name, _, named in client.asked] == asked
    assert {given for _, given, _ in client.asked} == {("photos",)}


def test_recall_is_measured_after_what_else_is_asked(client):
    run("--measure")
    run("--measure", "--k", "5", "--queries", "20")
    run("--measure", "--kind", "hnsw", "--k", "3")
    assert [(name, words[1:]) for name, words, _ in client.asked] == [
        *(("index", ()), ("measure_recall", (10, 1000))),
        *(("index", ()), ("measure_recall", (5, 20))),
        *(("build_index", ()), ("measure_recall", (3, 1000))),
    ]
    assert client.asked[4][2] == {"kind": "hnsw", "k": 3}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--drop", "--measure"), "give it alone"),
        (("--drop", "--kind", "flat"), "give it alone"),
        (("--drop", "--build"), "give it alone"),
        (("--no-build",), "notes what is wished"),
        (("--queries", "5"), "belongs to --measure"),
        (("--queries", "0", "--measure"), "0"),
        (("--kind", "tree"), "tree"),
        (("--memory", "-1"), "--memory"),
        (("--k", "1001"), "--k"),
        (("--recall", "1.5"), "--recall"),
        (("--recall", "0"), "--recall"),
        (("--recall", "nan"), "it is NaN; give a number"),
    ],
)
def test_what_makes_no_sense_is_refused(client, words, said):
    assert said in run(*words, status=2).stderr
    assert client.asked == []


def test_what_people_read(client):
    shown = run().stdout
    assert "photos, version 7: ivf_flat, recall@10 0.995 (at least 0.991, by 200 queries)" in shown
    for words in (
        "auto, recall@10 of 0.99, at most 512 MiB",
        "901,500\n",
        "1,500 rows were added or changed, compared one by one; "
        "200 rows of the index are passed over, being deleted or changed\n",
        "version 4, 2026-01-01 00:00:00 UTC, in 21.5 s, nlist 4,096, effort 4, 457.8 MiB in memory",
        "the fastest that reached 0.99",
        "as built",
    ):
        assert words in shown
    assert [line.split() for line in shown.splitlines() if "25,000" in line] == [["2", "0.9701", "25,000"]]
    assert all(line == line.rstrip() for line in shown.splitlines())


def test_what_was_done_is_said_without_the_card(client):
    measured = "photos, version 4: ivf_flat, recall@10 0.995 (at least 0.991, by 200 queries), measured now over 900,000 rows"
    assert run("--measure").stdout.splitlines() == [measured]
    noted = run("--kind", "auto", "--no-build")
    assert noted.stdout.splitlines() == [
        "photos: noted for the next build: auto, recall@10 of 0.99, at most 512 MiB; --memory kept from before"
    ]
    assert "to build it now: trunkline collections index photos --build" in noted.stderr
    # A build is a new card, and first of all that.
    both = run("--build", "--measure").stdout.splitlines()
    assert both[0].startswith("photos, version 7: ivf_flat")
    assert both[-1] == measured


@pytest.mark.parametrize(("rows", "again"), [(3, False), (200_001, True)])
def test_what_comes_after_an_index_that_was_dropped_is_said(client, rows, again):
    client.info = dataclasses.replace(FLAT, rows=rows)
    done = run("--drop")
    said = "photos: dropped, with what was wished of it; a search compares every row now"
    assert done.stdout.splitlines() == [said]
    assert ("makes another one once the collection is searched" in done.stderr) is again
    assert ("trunkline collections index photos --build" in done.stderr) is again


def test_no_recall_is_rounded_to_a_1_that_it_is_not(client):
    recall = dataclasses.replace(RECALL, measured=0.9998, low=0.99961)
    level = trunkline.IndexLevel(4, dataclasses.replace(RECALL, measured=0.99998))
    client.info = dataclasses.replace(
        INFO, recall=recall, build=dataclasses.replace(BUILD, levels=(level,), recall=recall)
    )
    shown = run().stdout
    assert "recall@10 0.9998 (at least 0.9996, by" in shown
    assert ["up", "to", "10", "4", "0.99998", "0.9912"] in [line.split() for line in shown.splitlines()]


def test_the_effort_of_each_number_of_neighbours_is_shown(client):
    lines = [line.split() for line in run().stdout.splitlines()]
    assert [line for line in lines if line[:2] == ["up", "to"]] == [
        ["up", "to", "10", "4", "0.9951", "0.9912"],
        ["up", "to", "100", "16", "0.9923", "0.9901"],
        ["up", "to", "1,000", "compared", "exactly"],
    ]
    client.info = dataclasses.replace(INFO, build=dataclasses.replace(BUILD, kind="lance"))
    assert "compared exactly" not in run().stdout
    found = json.loads(run("--json").stdout)
    assert [(level["effort"], level["recall"]["k"]) for level in found["build"]["levels"]] == [
        (4, 10),
        (16, 100),
    ]


def test_an_effort_that_was_tried_several_times_stands_once(client):
    settings = tuple(trunkline.IndexSetting(20, recall, 100.0) for recall in (0.5, 0.75, 0.625))
    client.info = dataclasses.replace(INFO, build=dataclasses.replace(BUILD, settings=settings))
    assert [line.split() for line in run().stdout.splitlines() if line.endswith(" 100")] == [
        ["20", "0.7500", "100"]
    ]
    # The one that serves is no other than the one that was measured.
    recall = dataclasses.replace(RECALL, measured=0.625)
    build = dataclasses.replace(BUILD, settings=settings, effort=20, recall=recall)
    client.info = dataclasses.replace(INFO, build=build)
    assert "0.6250" in run().stdout


def test_what_was_wished_before_is_told_from_what_is_wished_now(client):
    assert "kept from before" not in run().stdout
    assert "; --memory kept from before" in run("--kind", "auto").stdout
    assert "kept from before" not in run("--memory", "512").stdout
    client.info = dataclasses.replace(INFO, options=trunkline.IndexOptions("hnsw", 0.95, 5))
    assert "hnsw, recall@5 of 0.95; --kind, --recall, --k kept from before" in run("--memory", "0").stdout


def test_a_decision_for_flat_is_no_build(client):
    build = dataclasses.replace(
        BUILD, kind="flat", settings=(), levels=(), seconds=0.0, memory_bytes=0, effort=0
    )
    client.info = dataclasses.replace(FLAT, build=build, building=False)
    done = run()
    assert "decided  version 4, 2026-01-01 00:00:00 UTC\n" in done.stdout
    assert "MiB" not in done.stdout
    assert "--build" not in done.stderr


@pytest.mark.parametrize(
    ("rows", "kind", "building", "hinted"),
    [
        (3, "auto", False, False),
        (200_000, "auto", False, False),
        (200_001, "auto", False, True),
        (200_001, "auto", True, False),
        (200_001, "flat", False, False),
        (3, "hnsw", False, True),
        (0, "hnsw", False, False),
    ],
)
def test_a_build_is_proposed_where_it_would_change_something(client, rows, kind, building, hinted):
    options = trunkline.IndexOptions(kind)
    client.info = dataclasses.replace(FLAT, rows=rows, options=options, building=building)
    assert ("trunkline collections index photos --build" in run().stderr) is hinted


def test_a_reason_is_said_once(client):
    client.info = dataclasses.replace(INFO, note=BUILD.reason)
    assert run().stdout.count(BUILD.reason) == 1


def test_what_people_read_without_an_index(client):
    client.info = FLAT
    done = run()
    assert done.stdout.splitlines()[0] == "photos, version 7: flat"
    assert "somebody is building now" in done.stdout
    assert "built" not in done.stdout
    assert "few rows" in done.stdout


def test_what_programs_read(client):
    found = json.loads(run("--json").stdout)
    assert (found["kind"], found["recall"]["measured"], found["build"]["parameters"]) == (
        "ivf_flat",
        RECALL.measured,
        {"nlist": 4096},
    )
    assert found["options"] == {"kind": "auto", "recall": 0.99, "k": 10, "memory_mb": 512}
    assert "measured" not in found
    assert json.loads(run("--measure", "--json").stdout)["measured"]["queries"] == 200
