"""`trunkline search`: what is asked, and what people and programs read; and an exclusive purge."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import click.testing
import numpy as np
import pytest

import trunkline
from trunkline_service.cli.app import trunkline_command
from trunkline_service.cli.search import printing
from trunkline_service.server.app import Server
from trunkline_service.settings import Settings

RED, GREEN = (np.full((8, 8, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 200, 0)))


def invoked(*words, status=0):
    done = click.testing.CliRunner().invoke(trunkline_command, [*words])
    assert done.exit_code == status, done.output + repr(done.exception)
    return done


@pytest.fixture
def home(tmp_path, monkeypatch, publish_tiny, png):
    """A folder with the tiny model, ``query.png`` (red) and the empty ``broken.png``."""
    monkeypatch.chdir(tmp_path)
    publish_tiny(tmp_path / "models")
    monkeypatch.setenv("TRUNKLINE_DEFAULT_MODEL", "tiny")
    (tmp_path / "query.png").write_bytes(png(RED))
    (tmp_path / "broken.png").write_bytes(b"")
    return tmp_path


@pytest.fixture
def space(home):
    """Of the collection ``plane``: six rows in the plane at 0, 10, ... 50 degrees, labels a, b, a, b, a, none."""
    angles = np.radians(np.arange(0, 60, 10))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    np.save(home / "east.npy", vectors[:1])
    with trunkline.open() as client:
        info = client.create_collection("plane", space_id="mine", dim=2)
        labels = ["a", "b", "a", "b", "a", None]
        ids = [str(angle) for angle in range(0, 60, 10)]
        client.upsert("plane", ids, vectors, space_id=info.space_id, labels=labels, decode="unknown")
    return info.space_id


@pytest.fixture(params=["here", "server"])
def search(request, home, space):
    """``search(...)`` is `trunkline search ... --collection plane`, in the folder or over a server of it."""
    with contextlib.ExitStack() as stack:
        place = ()
        if request.param == "server":
            folders = {"models": str(home / "models"), "data": str(home / "data")}
            server = Server(
                Settings(**folders, default_model="tiny", listen="127.0.0.1:0", threads=1, drain_s=10)
            )
            server.start()
            stack.callback(server.stop)
            place = ("--server", str(server.address))
        yield lambda *words, **named: invoked("search", *words, "--collection", "plane", *place, **named)


def ids_of(done):
    return [[hit["id"] for hit in answer["hits"]] for answer in json.loads(done.stdout)]


def test_search_prints_lists_of_labels(home):
    with trunkline.open(default_model="tiny") as client:
        client.add("photos", [RED, GREEN], ["r", "g"], [("warm", "rose"), None])
    shown = invoked("search", "query.png", "--collection", "photos")
    assert [line.split() for line in shown.stdout.splitlines()[1:]] == [
        ["score", "label", "id"],
        ["1.0000", "warm,", "rose", "r"],
        ["0.0000", "g"],
    ]
    assert "version 2, flat: every one of 2 rows compared" in shown.stderr
    (answer,) = json.loads(invoked("search", "query.png", "--collection", "photos", "--json").stdout)
    assert [hit["label"] for hit in answer["hits"]] == [["warm", "rose"], None]
    assert answer["index"] == {"kind": "flat", "exact": True, "version": 2, "recall": None}


def test_an_image_that_can_not_be_used_fails_alone(home):
    with trunkline.open(default_model="tiny") as client:
        client.add("photos", [RED, GREEN], ["r", "g"])
    words = ("search", "broken.png", "query.png", "--collection", "photos", "-k", "1")
    assert "broken.png: failed: " in invoked(*words, status=1).stdout
    failed, served = json.loads(invoked(*words, "--json", status=1).stdout)
    assert (failed["reason"], failed["hits"], served["hits"][0]["id"]) == ("empty_image", [], "r")
    assert (failed["version"], failed["index"]) == (served["version"], served["index"])
    assert failed["index"]["kind"] == "flat"


def test_rows_and_vectors_are_queries(search, space):
    assert ids_of(search("--id", "0", "--id", "50", "-k", "2", "--json")) == [["10", "20"], ["40", "30"]]
    done = search("--vector", "east.npy", "-k", "2", "--json")
    assert ids_of(done) == [["0", "10"]]
    assert json.loads(done.stdout)[0]["query"] == "east.npy[0]"
    assert f"taken to lie in the space of plane, {space}" in done.stderr
    stated = search("--vector", "east.npy", "-k", "2", "--json", "--space", space)
    assert (ids_of(stated), stated.stderr) == ([["0", "10"]], "")
    wrong = search("--vector", "east.npy", "--space", "other", status=1)
    assert isinstance(wrong.exception, trunkline.SpaceMismatch)


def test_what_can_be_a_hit(search):
    east = ("--vector", "east.npy", "--json")
    assert ids_of(search(*east, "--where", "label = ?", "--param", "b")) == [["10", "30"]]
    assert ids_of(search(*east, "--where", "label = ?", "--param", "b' OR 1=1 --")) == [[]]
    assert ids_of(search(*east, "--min-score", "0.9")) == [["0", "10", "20"]]
    assert ids_of(search(*east, "--exact", "--min-version", "2", "-k", "1")) == [["0"]]


def test_groups_and_what_is_alike(search):
    east = ("--vector", "east.npy", "-k", "2")
    (answer,) = json.loads(search(*east, "--group-by", "label", "--json").stdout)
    assert [(hit["id"], hit["group"]) for hit in answer["hits"]] == [("0", "a"), ("10", "b")]
    assert ids_of(search(*east, "--group-by", "label", "--per-group", "2", "--json")) == [
        ["0", "10", "20", "30"]
    ]
    (answer,) = json.loads(search(*east, "--collapse", "0.98", "--json").stdout)
    assert [(hit["id"], hit.get("duplicates")) for hit in answer["hits"]] == [("0", ["10"]), ("20", ["30"])]
    lines = [
        line.split()
        for line in search(*east, "--collapse", "0.98", "--group-by", "label").stdout.splitlines()
    ]
    # The label of a hit is its group.
    assert lines[1] == ["score", "label", "id", "and", "alike"]
    assert lines[2] == ["1.0000", "a", "0", "10"]
    lines = search(*east, "--group-by", "split").stdout.splitlines()
    assert lines[1].split() == ["score", "label", "id"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "exactly one of IMAGE..., --id and --vector; none"),
        (("query.png", "--id", "0"), "IMAGE and --id were given"),
        (("query.png", "--space", "s"), "--space is about"),
        (("--id", "0", "-k", "0"), "-k is 0"),
        (("--id", "0", "-k", "1001"), "-k is 1001; it can be 1 to 1,000"),
        (("--id", "0", "--where", ""), "it is empty"),
        (("--id", "0", "--where", "  "), "it is empty"),
        (("--id", "0", "--html", "absent/page.html"), "there is no folder absent"),
        (("--id", "0", "--param", "x"), "--param belongs to --where"),
        (("--id", "0", "--per-group", "2"), "--per-group belongs to --group-by"),
        (("--id", "0", "--per-group", "0", "--group-by", "label"), "--per-group is 0"),
        (("--id", "0", "--per-group", "1001", "--group-by", "label"), "it can be 1 to 1,000"),
        (("--id", "0", "--min-version", "-1"), "'--min-version': -1"),
        (("--id", "0", "--min-score", "nan"), "'--min-score': it is NaN"),
        (("--id", "0", "--collapse", "nan"), "'--collapse': it is NaN"),
        (("--id", "0", "--columns", "price,,n"), "a name is empty"),
        (("--id", "0", "--columns", "n,price", "--columns", "n"), "n is given twice"),
        (("--id", "0", "--server", "localhost"), "'--server': the address is 'localhost'; it needs a port"),
        (("--id", "0", "--server", "http://localhost:1"), "leave the scheme out"),
        (("--id", "0", "--root", "."), "--root is about the page"),
        (("--vector", "absent.npy"), "does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_opened(home, words, said):
    (home / "models").rename(home / "elsewhere")
    assert said in invoked("search", *words, "--collection", "plane", status=2).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--min-version", "99"), "99"),
        (("--where", "absent = 1"), "absent"),
        (("--where", "label = ?"), r"\?"),
        (("--group-by", "absent"), "absent"),
    ],
)
def test_what_can_not_be_searched_for(search, words, said):
    done = search("--vector", "east.npy", *words, status=1)
    assert isinstance(done.exception, trunkline.TrunklineError)
    assert said.replace("\\", "") in str(done.exception)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.array([[1.0, np.nan]], np.float32), "NaN"),
        (np.ones((1, 3), np.float32), "3"),
        (np.array([["a"]]), "it must be numbers"),
        (np.array([{}], dtype=object), "can't be read as .npy"),
    ],
)
def test_vectors_that_can_not_be_used(search, home, content, said):
    np.save(home / "bad.npy", content, allow_pickle=True)
    assert said in str(search("--vector", "bad.npy", status=1).exception)


def test_files_that_are_no_vectors(search, home):
    (home / "text.npy").write_text("no array")
    np.savez(home / "several.npz", a=np.ones(2), b=np.ones(2))
    for file in ("text.npy", "query.png"):
        said = str(search("--vector", file, status=1).exception)
        assert "can't be read as .npy" in said
        assert "give an image without --vector" in said
        assert "pickle" not in said
    assert "holds several arrays" in str(search("--vector", "several.npz", status=1).exception)


def test_no_hits_are_explained(search, space, home):
    np.save(home / "north.npy", np.array([[0.0, 1.0]], np.float32))
    north = ("--vector", "north.npy", "--space", space)
    for words, said in (
        (("--where", "label = 'z'"), "no row meets the condition"),
        (("--min-score", "0.8"), "no row scores 0.8 or more"),
        (
            ("--where", "label = 'a'", "--min-score", "0.7"),
            "no row that meets the condition scores 0.7 or more",
        ),
    ):
        assert said in search(*north, *words).stdout
    assert "no other row meets the condition" in search("--id", "0", "--where", "id = '0'").stdout
    with trunkline.open() as client:
        client.delete("plane", [str(angle) for angle in range(10, 60, 10)])
        assert "there is no other row" in search("--id", "0").stdout
        client.delete("plane", ["0"])
    assert "the collection has no rows" in search(*north).stdout


def test_scores_are_written_as_single_precision_means_them(search):
    (answer,) = json.loads(search("--vector", "east.npy", "-k", "2", "--json").stdout)
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores[1] == pytest.approx(np.cos(np.radians(10)), rel=1e-6)
    assert all(len(str(score)) <= 11 for score in scores)


INFO = trunkline.CollectionInfo("photos", 9, "m@1", "s", 8, "exact", 2000, 2, 0, {})
RECALL = trunkline.Recall(k=10, measured=0.9951, low=0.9912, queries=1000, version=4, rows=5)


def said_of(filtered=False, info=INFO, **found):
    lists = {"ids": [], "scores": [], "labels": [], "sources": []}
    result = trunkline.SearchResult(**lists, version=9, index_version=4, **found)
    return printing.how(result, printing.Asked(filtered, None, False, info))


def test_how_an_exact_answer_was_found_is_said():
    flat, hnsw = {"index_kind": "flat", "exact": True}, {"index_kind": "hnsw", "exact": True}
    assert said_of(**flat) == "version 9, flat: every one of 2,000 rows compared"
    assert said_of(**flat, filtered=True) == "version 9, flat: every row that meets the condition compared"
    # Of another version than was searched, the number of rows is not known.
    older = dataclasses.replace(INFO, version=8)
    assert said_of(**flat, info=older) == "version 9, flat: every row compared"
    without = "version 9, compared exactly, without the hnsw index: every"
    assert said_of(**hnsw) == f"{without} one of 2,000 rows"
    assert said_of(**hnsw, filtered=True) == f"{without} row that meets the condition"
    assert said_of() == "nothing was searched"


def test_how_an_approximate_answer_was_found_is_said():
    found = "version 9, hnsw of version 4: recall@10 0.995 (at least 0.991, by 1,000 queries)"
    assert said_of(index_kind="hnsw", recall=RECALL) == found
    without = f"{found}, measured without a condition"
    assert said_of(index_kind="hnsw", recall=RECALL, filtered=True) == without
    assert said_of(index_kind="lance") == "version 9, lance of version 4"


def test_an_exclusive_purge_takes_what_killed_writers_left(home):
    with trunkline.open(default_model="tiny") as client:
        client.add("photos", [RED, GREEN], ["r", "g"])
    (data,) = Path("data", "collections", "photos.lance", "data").iterdir()
    orphan = data.with_name("f" * 40 + ".lance")
    orphan.write_bytes(data.read_bytes())
    words = ["collections", "purge", "photos", "--id", "r", "--yes"]
    assert "purge again with --exclusive" in invoked(*words).stderr
    assert orphan.exists()
    assert "warning" not in invoked(*words, "--exclusive").stderr
    assert not orphan.exists()
