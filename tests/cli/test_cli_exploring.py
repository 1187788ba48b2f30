"""`trunkline collections duplicates | outliers | clusters | map`: tables, JSON, files; here and over a server."""

from __future__ import annotations

import contextlib
import csv
import json
import shlex
import webbrowser

import click.testing
import numpy as np
import pytest
from PIL import Image

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.app import trunkline_command
from trunkline_service.cli.collections.exploring.duplicates import duplicates
from trunkline_service.server.app import Server
from trunkline_service.settings import Settings

HOSTILE = "<script>alert(1)</script>"


def invoked(*words, status=0):
    done = click.testing.CliRunner().invoke(trunkline_command, ["collections", *words])
    assert done.exit_code == status, done.output + repr(done.exception)
    return done


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
        yield lambda *words, status=0: invoked(*words, *place, status=status)


def rows_left():
    with trunkline.open() as client:
        return client.collection("things").rows


def test_duplicates_as_a_table_and_as_json(run):
    done = run("duplicates", "things", "--threshold", "0.999")
    assert "2 pairs of 0.999 or more (cosine) make 2 groups of 4 rows, of which 2 could go" in done.stdout
    assert "in 1 group the labels differ" in done.stderr
    assert "rows of 1 group stand on both sides of a split" in done.stderr
    assert "every one of 42 rows was compared with every other one" in done.stderr
    assert "trunkline collections duplicates things --threshold 0.999" in done.stderr
    assert "and leave alone 1 group whose labels differ" in done.stderr
    found = json.loads(run("duplicates", "things", "--threshold", "0.999", "--json").stdout)
    assert (found["rows"], found["pair_count"], found["exact"], found["deleted"]) == (42, 2, True, 0)
    assert found["threshold"] == 0.999
    assert [pair["score"] for pair in found["pairs"]] == [1.0, 1.0]
    by_kept = {group["rows"][0]["id"]: group for group in found["groups"]}
    assert by_kept.keys() == {"r0", "r1"}
    assert (by_kept["r0"]["labels_differ"], by_kept["r0"]["splits_differ"]) == (True, False)
    assert by_kept["r1"]["splits_differ"]
    assert [(row["id"], row["keep"], row["like"]) for row in by_kept["r0"]["rows"]] == [
        ("r0", True, None),
        (HOSTILE, False, "r0"),
    ]


def test_none_and_a_condition(run):
    done = run("duplicates", "things", "--threshold", "1", "--where", "label = ?", "--param", "even")
    assert "no two rows score 1 or more (cosine)" in done.stdout
    assert "every one of 20 rows" in done.stderr


def test_deleting_asks_first_and_keeps_the_best(run):
    words = ("duplicates", "things", "--threshold", "0.999", "--delete")
    assert "add --yes" in run(*words, status=2).stderr
    assert rows_left() == 42
    done = run(*words, "--yes")
    assert "1 row deleted" in done.stdout
    assert "1 group whose labels differ left alone" in done.stderr
    assert rows_left() == 41
    done = run(*words, "--yes", "--json")
    assert (json.loads(done.stdout)["deleted"], json.loads(done.stdout)["conflicts_left"]) == (0, 1)
    done = run(*words, "--yes", "--include-conflicts")
    assert "1 row deleted" in done.stdout
    assert "left alone" not in done.stderr
    assert rows_left() == 40
    with trunkline.open() as client:
        assert client.rows("things", ["r0", "r1"]).ids == ["r0", "r1"]
    found = json.loads(
        run("duplicates", "things", "--threshold", "0.999", "--keep-best", "--yes", "--json").stdout
    )
    assert (found["groups"], found["deleted"]) == ([], 0)


def test_the_question_says_that_groups_are_deleted_from_that_are_not_shown(run):
    words = ("duplicates", "things", "--threshold", "0.999", "--delete", "--include-conflicts")
    question = "delete 2 rows of things, of 2 groups"
    assert (
        f"{question}, also those that --limit 1 does not show?"
        in run(*words, "--limit", "1", status=2).stderr
    )
    assert f"{question}?" in run(*words, status=2).stderr


def test_the_command_that_deletes_reads_as_it_was_meant(home):
    given = {"threshold": 0.9, "exact": True, "where": "label IN (?, ?) OR id = ?", "name": "things"}
    values = ("even", "o'dd", '"-1"')
    params = [word for value in values for word in ("--param", value)]
    done = invoked(
        *("duplicates", "things", "--threshold", "0.9", "--exact", "--where", given["where"], *params),
        *("--limit", "3", "--html", "page.html", "--root", "pics", "--data", "data"),
    )
    (line,) = (line for line in done.stderr.splitlines() if "to delete" in line)
    words = shlex.split(line[line.index("trunkline collections") :])
    assert words[:3] == ["trunkline", "collections", "duplicates"]
    assert "--limit" not in words
    read = duplicates.make_context("duplicates", words[3:])
    assert {name: read.params[name] for name in given} == given
    assert (read.params["parameters"], read.params["delete"], read.params["data"]) == (values, True, "data")
    assert (read.params["file"], read.params["root"], read.params["limit"]) == (None, None, 20)


@pytest.mark.parametrize(
    "words",
    [
        ("things", "--yes", "--delete"),
        ("-things", "--where", "a = '\"'", "--param", "", "--param", "--x"),
        ("a b",),
    ],
)
def test_a_command_is_written_as_it_is_read(words):
    name, *options = words
    with duplicates.make_context("duplicates", [*options, "--", name]) as context:
        context.info_name = "duplicates"
        written = shlex.split(output.same_command())
        assert duplicates.make_context("duplicates", written[1:]).params == context.params


def test_no_rows_are_explained(run, home):
    none = ("--where", "id = 'absent'")
    assert "no row meets the condition" in run("duplicates", "things", *none).stdout
    for command in (("outliers",), ("clusters",), ("map", "--png", "map.png")):
        done = run(command[0], "things", *command[1:], *none, status=1)
        assert "no rows of collection 'things' meet the condition" in str(done.exception)
    with trunkline.open() as client:
        client.create_collection("empty", space_id="mine", dim=6)
    assert "the collection has no rows" in run("duplicates", "empty").stdout


def test_a_map_of_one_row(run, home):
    done = run("map", "things", "--where", "id = 'r0'", "--png", "map.png", "--html", "map.html")
    assert "1 row, in the middle" in done.stdout
    done = run("map", "things", "--where", "id IN ('r1', 'r41')", "--png", "map.png")
    assert "2 rows, all in one place" in done.stdout


def test_an_older_version_is_not_deleted_from(run):
    words = ("duplicates", "things@2", "--threshold", "0.999", "--delete", "--yes")
    assert "stands for version 2" in str(run(*words, status=1).exception)
    assert rows_left() == 42


def test_outliers(run):
    done = run("outliers", "things", "--count", "3", "--neighbours", "1")
    assert "half have their 1st neighbour within" in done.stdout
    assert "nothing is like it" in done.stdout
    found = json.loads(run("outliers", "things", "--count", "3", "--json").stdout)
    assert (found["neighbours"], len(found["outliers"])) == (10, 3)
    first = found["outliers"][0]
    assert first["distance"] >= first["nearest"]["distance"] > 0
    assert first["times"] == pytest.approx(first["distance"] / found["usual"], rel=1e-4)


def test_times_of_nothing_is_null(run):
    found = json.loads(run("outliers", "things", "--where", "id IN ('r1', 'r41')", "--json").stdout)
    assert [entry["times"] for entry in found["outliers"]] == [None, None]


def test_clusters_and_which_one_each_row_is_in(run, home):
    done = run("clusters", "things", "--to", "clusters.csv")
    assert "42 rows in 2 clusters (chosen by it); mean silhouette" in done.stdout
    with (home / "clusters.csv").open(newline="") as file:
        table = {row["id"]: row["cluster"] for row in csv.DictReader(file)}
    assert len(table) == 42
    assert table["r0"] == table[HOSTILE] != table["r1"] == table["r41"]
    found = json.loads(run("clusters", "things", "--clusters", "1", "--json").stdout)
    assert json.loads(run("clusters", "things", "-k", "1", "--json").stdout) == found
    assert (found["chosen"], found["silhouette"]) == (False, None)
    (cluster,) = found["clusters"]
    assert (cluster["labels"], cluster["rows"]) == ({"odd": 22, "even": 20}, 42)


def test_a_map_as_a_picture_and_as_json(run, home):
    done = run("map", "things", "--png", "map.png", "--by", "cluster")
    assert "42 rows, placed by PCA; the plane holds" in done.stdout
    with Image.open(home / "map.png") as image:
        assert (image.format, image.size) == ("PNG", (1600, 1200))
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10
    found = json.loads(run("map", "things", "--points", "30", "--json").stdout)
    assert (found["rows"], len(found["points"])) == (42, 30)
    assert found["points"][0].keys() >= {"id", "label", "x", "y", "cluster"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("map", "things"), "say where the map goes"),
        (("map", "things", "--by", "label", "--open"), "--by belongs to --png"),
        (("duplicates", "things", "--yes"), "--yes belongs to --delete"),
        (("clusters", "things", "--param", "1"), "--param belongs to --where"),
        (("outliers", "things", "--root", "."), "--root is about the page"),
        (("duplicates", "things", "--include-conflicts"), "belongs to --delete"),
        (("duplicates", "things", "--where", "", "--delete", "--yes"), "it is empty"),
        *(
            ((command, "things", "--where", " ", "--html", "page.html"), "it is empty")
            for command in ("outliers", "clusters", "map")
        ),
        *(
            ((command, "things", "--html", "absent/page.html"), "there is no folder absent")
            for command in ("duplicates", "outliers", "clusters", "map")
        ),
        (("map", "things", "--png", "absent/map.png"), "there is no folder absent"),
        (("clusters", "things", "--to", "absent/x.csv"), "there is no folder absent"),
    ],
)
def test_what_makes_no_sense_is_refused(home, words, said):
    assert said in invoked(*words, status=2).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("duplicates", "things", "--threshold", "2"), "give a cosine above 0"),
        (("duplicates", "absent"), "absent"),
        (("outliers", "things", "--count", "0"), "positive integer"),
        (("clusters", "things", "-k", "100"), "42 rows make 1 to 42"),
        (("map", "things", "--png", "pics/" + "x" * 300), "can't be written"),
        (("clusters", "things", "--to", "pics/" + "x" * 300), "can't be written"),
    ],
)
def test_errors_say_what_is_wrong(home, words, said):
    assert said in str(invoked(*words, status=1).exception)


def test_pages_show_images_of_this_machine_and_a_server_names_none(run, home, request):
    remote = "server" in request.node.callspec.id
    for command in ("duplicates", "outliers", "clusters", "map"):
        run(command, "things", "--html", f"{command}.html")
        page = (home / f"{command}.html").read_text()
        assert ("data:image/jpeg" in page) is not remote
        assert ("no image folder given" in page) is remote
        assert HOSTILE not in page
        if remote:
            run(command, "things", "--html", f"{command}.html", "--root", "pics")
            assert "data:image/jpeg" in (home / f"{command}.html").read_text()


def test_a_page_is_opened_in_a_browser(home, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    invoked("map", "things", "--open", "--root", "pics")
    (address,) = opened
    assert address.startswith("file:///")
    assert address.endswith("map.html")
    monkeypatch.setattr(webbrowser, "open", lambda _address: False)
    done = invoked("map", "things", "--open", "--html", "mine.html", "--json")
    assert "no browser was found here; open mine.html in one" in done.stderr
    assert json.loads(done.stdout)["rows"] == 42
