"""`trunkline collections duplicates | outliers | clusters | map`: tables, JSON, files; here and over a server."""

from __future__ import annotations

import csv
import json
import webbrowser

import pytest
from PIL import Image

import trunkline

HOSTILE = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "command", [("duplicates",), ("duplicates", "--json"), ("outliers",), ("clusters",), ("map", "--json")]
)
def test_no_rows_are_an_error_of_each_command(run, command):
    done = run(*command, "things", "--where", "id = 'absent'", status=1)
    assert "no rows of collection 'things' meet the condition" in str(done.exception)
    with trunkline.open() as client:
        client.create_collection("empty", space_id="mine", dim=6)
    assert "collection 'empty' has no rows with a vector" in str(run(*command, "empty", status=1).exception)


def test_a_map_of_one_row(run, home):
    done = run("map", "things", "--where", "id = 'r0'", "--png", "map.png", "--html", "map.html")
    assert "1 row, in the middle" in done.stdout
    done = run("map", "things", "--where", "id IN ('r1', 'r41')", "--png", "map.png")
    assert "2 rows, all in one place" in done.stdout


def test_outliers(run):
    done = run("outliers", "things", "--count", "3", "--neighbours", "1")
    assert "half have their 1st neighbour within" in done.stdout
    assert "nothing is like it" in done.stdout
    found = json.loads(run("outliers", "things", "--limit", "3", "--json").stdout)
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
    done = run("clusters", "things", "-k", "3", "--limit", "1")
    assert len(done.stdout.splitlines()) == 3
    assert "2 more clusters of" in done.stderr
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
def test_what_makes_no_sense_is_refused(invoked, home, words, said):
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
def test_errors_say_what_is_wrong(invoked, home, words, said):
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


def test_rows_without_files_are_a_list(run, home, by_hand):
    for command in ("duplicates", "outliers", "clusters"):
        done = run(command, "vectors", "--html", f"{command}.html")
        page = (home / f"{command}.html").read_text()
        assert "Without images: no files are known of these rows." in page
        assert 'class="picture"' not in page
        assert "no image folder given" not in page
        assert "--root" not in done.stderr
    done = run("map", "vectors", "--html", "map.html")
    assert "no file is known of it" in (home / "map.html").read_text()
    assert "--root" not in done.stderr


def test_a_page_is_opened_in_a_browser(invoked, home, monkeypatch):
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
