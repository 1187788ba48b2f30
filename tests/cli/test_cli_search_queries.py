"""`trunkline search`: queries that fail one by one, folders of them, and what is said of the model."""

from __future__ import annotations

import json

import click.testing
import numpy as np
import pytest

import trunkline
from trunkline_service.cli.app import trunkline_command
from trunkline_service.cli.search import queries
from trunkline_service.models.registry import LiveModels

PIXELS = [np.full((8, 8, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
BUNDLED = "using the bundled model"


def invoked(*words, status=0):
    done = click.testing.CliRunner().invoke(trunkline_command, [*words])
    assert done.exit_code == status, done.output + repr(done.exception)
    return done


@pytest.fixture
def search(tmp_path, monkeypatch, publish_tiny, png):
    """``search(...)`` is `trunkline search ... --collection photos`: the rows r, g and b, and bad without a vector."""
    monkeypatch.chdir(tmp_path)
    # The name alone makes it the one that is for first steps.
    publish_tiny(tmp_path / "models", name="trunkline-small")
    (tmp_path / "pics" / "more").mkdir(parents=True)
    for path, pixels in zip(("b.png", "a.png", "more/c.png"), PIXELS, strict=True):
        (tmp_path / "pics" / path).write_bytes(png(pixels))
    (tmp_path / "pics" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    with trunkline.open() as client:
        client.add("photos", PIXELS, ["r", "g", "b"], ["warm", None, None], sources=["r.png", "", ""])
        info = client.collection("photos")
        bad = trunkline.Row("bad", None, status="error", error="truncated_image: cut off")
        client.upsert_rows("photos", [bad], space_id=info.space_id, decode=info.decode)
    return lambda *words, **named: invoked("search", *words, "--collection", "photos", **named)


def test_rows_that_can_not_be_queries_fail_alone(search):
    words = ("--id", "absent", "--id", "g", "--id", "bad", "--id", "r", "-k", "1")
    absent, green, bad, red = json.loads(search(*words, "--json", status=1).stdout)
    assert (absent["reason"], absent["hits"]) == ("row_not_found", [])
    assert absent["error"] == "collection 'photos' has no such row"
    assert (bad["reason"], bad["hits"]) == ("no_embedding", [])
    assert "the row has no embedding (truncated_image: cut off)" in bad["error"]
    assert [green["query"], red["query"]] == ["g", "r"]
    assert (green["hits"][0]["id"], red["hits"][0]["id"]) == ("r", "g")
    lines = search(*words, status=1).stdout.splitlines()
    assert lines[0] == "absent: failed: collection 'photos' has no such row"


def test_where_no_query_could_be_used_nothing_was_searched(search, tmp_path):
    for words in (
        ("--id", "absent"),
        ("--id", "absent", "--id", "bad"),
        ("pics/notes.txt",),
        ("absent.png",),
    ):
        done = search(*words, status=1)
        assert done.stderr.splitlines()[-1] == "nothing was searched"
        assert ": failed: " in done.stdout
    with trunkline.open() as client:
        client.delete("photos", ["r", "g", "b", "bad"])
    assert search("pics/a.png").stderr.splitlines()[-1] == "nothing was searched"


def test_what_is_wrong_with_all_queries_fails_the_search(search):
    done = search("--id", "r", "--where", "absent = 1", status=1)
    assert isinstance(done.exception, trunkline.InvalidRequest)
    done = invoked("search", "--id", "r", "--collection", "other", status=1)
    assert isinstance(done.exception, trunkline.NotFound)


def test_the_page_of_rows_of_which_one_failed(search, tmp_path):
    search("--id", "absent", "--id", "r", "--html", "page.html", status=1)
    text = (tmp_path / "page.html").read_text()
    assert 'class="failure">' in text
    assert "r.png" not in text


def test_each_image_below_a_folder_is_a_query(search):
    found = json.loads(search("pics", "pics/more/c.png", "-k", "1", "--json").stdout)
    assert [(answer["query"], answer["hits"][0]["id"]) for answer in found] == [
        ("pics/a.png", "g"),
        ("pics/b.png", "r"),
        ("pics/more/c.png", "b"),
        ("pics/more/c.png", "b"),
    ]


def test_folders_that_can_not_be_searched_for(search, monkeypatch):
    assert "no image below" in search("empty", status=2).stderr
    monkeypatch.setattr(queries, "MOST_OF_FOLDERS", 3)
    search("pics", "pics/a.png", "-k", "1")
    done = search("pics", "pics/more", status=2)
    assert "with 'pics/more', these folders hold more than 3 images" in done.stderr


def test_a_hit_names_its_source(search):
    (answer,) = json.loads(search("pics/b.png", "--json").stdout)
    assert [(hit["id"], hit["source"]) for hit in answer["hits"]] == [("r", "r.png"), ("g", ""), ("b", "")]
    assert "metadata" not in answer["hits"][0]


def test_columns_of_hits(search):
    with trunkline.open() as client:
        info = client.collection("photos")
        vector = client.rows("photos", ["g"]).vectors[0]
        rows = [
            trunkline.Row(
                "g", vector, metadata={"price": 1234567.89, "camera": "x100\nv"}, decode=info.decode
            )
        ]
        client.upsert_rows("photos", rows, space_id=info.space_id)
    words = ("pics/a.png", "-k", "2", "--columns", "price, source", "--columns", "camera")
    lines = [line.split() for line in search(*words).stdout.splitlines()]
    assert lines[1] == ["score", "label", "id", "price", "source", "camera"]
    assert lines[2] == ["1.0000", "g", "1234567.89", "x100\\nv"]
    assert lines[3][:3] == ["0.0000", "warm", "r"]
    assert lines[3][-1] == "r.png"
    (answer,) = json.loads(search(*words, "--json").stdout)
    assert [hit["metadata"] for hit in answer["hits"]] == [
        {"price": 1234567.89, "camera": "x100\nv"},
        {"price": None, "camera": None},
    ]
    done = search("pics/a.png", "--columns", "absent", status=1)
    assert isinstance(done.exception, trunkline.InvalidRequest)


def test_ids_are_shown_in_one_line_and_what_is_alike_is_counted(search):
    with trunkline.open() as client:
        client.add("photos", [PIXELS[0]] * 3, ["a\nb", "twin", "\u202etriplet"])
    done = search("pics/b.png", "-k", "1", "--collapse", "0.99")
    assert len(done.stdout.splitlines()) == 3
    assert done.stdout.splitlines()[2].endswith(" and 2 more")
    assert "a\\nb" in search("pics/b.png", "-k", "4").stdout
    assert "\\u202etriplet" in search("pics/b.png", "-k", "4").stdout


def test_the_model_is_spoken_of_where_it_embeds(search, tmp_path):
    assert BUNDLED in search("pics/a.png").stderr
    assert search("pics/a.png", "--json").stderr == ""
    assert BUNDLED not in search("--id", "r").stderr
    np.save(tmp_path / "v.npy", np.ones((1, 48), np.float32))
    assert BUNDLED not in search("--vector", "v.npy").stderr
    assert BUNDLED not in invoked("collections", "show", "photos").stderr


def test_no_model_is_opened_where_nothing_is_embedded(search, monkeypatch, tmp_path):
    np.save(tmp_path / "v.npy", np.ones((1, 48), np.float32))

    def opened(_models, reference=""):
        pytest.fail(f"model {reference!r} was opened")

    monkeypatch.setattr(LiveModels, "get", opened)
    assert json.loads(search("--id", "r", "-k", "1", "--json").stdout)[0]["hits"][0]["id"] == "g"
    search("--vector", "v.npy")
    search("--id", "r", "--html", "page.html")
    invoked("collections", "show", "photos")


def test_random_weights_are_warned_of_whatever_is_asked(tmp_path, monkeypatch, publish_tiny):
    monkeypatch.chdir(tmp_path)
    publish_tiny(tmp_path / "models", pretrained=False)
    with trunkline.open(default_model="tiny") as client:
        client.add("photos", PIXELS, ["r", "g", "b"])
    for words in (("search", "--id", "r", "--json", "--collection"), ("collections", "show")):
        assert "has random weights" in invoked(*words, "photos").stderr
