"""`trunkline collections` over a real server: the same answers as on its folder, and files that come back."""

from __future__ import annotations

import json
import os

import click.testing
import numpy as np
import pyarrow.parquet as pq
import pytest

import trunkline
from trunkline_service.cli.app import trunkline_command

RNG = np.random.default_rng(3)
COUNT = 30


@pytest.fixture(scope="module")
def home(tmp_path_factory, publish_tiny):
    """A folder with models, data, and files to import."""
    home = tmp_path_factory.mktemp("home")
    publish_tiny(home / "models")
    np.save(home / "theirs.npy", RNG.normal(size=(COUNT, 5)).astype(np.float32))
    (home / "theirs.npy.ids.txt").write_text("".join(f"v{number:02}\n" for number in range(COUNT)))
    with trunkline.open(models=home / "models", data=home / "data", default_model="tiny") as client:
        pixels = [RNG.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(6)]
        ids = [f"p{number}" for number in range(6)]
        client.add("photos", [*pixels, b"text"], [*ids, "bad"], labels=["x", "y", "z", "x", "y", None, None])
        info = client.collection("photos")
        rows = [
            trunkline.Row(**{**vars(row), "metadata": {"n": number, "s": str(number)}})
            for number, row in enumerate(client.rows("photos", ids).rows)
        ]
        client.upsert_rows("photos", rows, space_id=info.space_id)
    return home


@pytest.fixture(scope="module")
def server(home, start_server):
    with start_server(home, "--default-model", "tiny") as server:
        yield server


@pytest.fixture
def run(cli, home, server, monkeypatch):
    """``run("list", over=False)``: JSON of a command over the server, or on the folder.

    What fails runs in a process of its own, for its status and its words; the rest is quicker here.
    """
    monkeypatch.chdir(home)

    def checked(*words, over=True, status=0):
        command = ["collections", *words, *(("--server", server.address) if over else ()), "--json"]
        if status == 0:
            done = click.testing.CliRunner().invoke(trunkline_command, command)
            assert done.exit_code == 0, done.output + repr(done.exception)
            return json.loads(done.stdout)
        failed = cli(*command, cwd=home)
        assert failed.returncode == status, failed.stderr
        assert "Traceback" not in failed.stderr
        return json.loads(failed.stdout) if failed.stdout else failed.stderr

    return checked


def test_a_command_in_a_process_of_its_own(cli, home, server):
    done = cli("collections", "list", "--server", server.address, "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "photos" in {info["name"] for info in json.loads(done.stdout)}


def test_the_server_and_its_folder_say_the_same(run):
    for words in (
        ("list",),
        ("show", "photos"),
        ("get", "photos", "p3", "bad", "--vectors"),
        ("versions", "photos"),
    ):
        assert run(*words) == run(*words, over=False)
    assert run("show", "photos")["columns"]["n"] == "int64"


def test_a_day_with_a_collection(run, home):
    done = run("import", "theirs.npy", "--into", "day", "--space", "clip")
    assert (done["rows"], done["created"]) == (COUNT, True)
    assert run("show", "day")["space_id"] == "declared:clip"
    run("tag", "day", "imported")
    (home / "corrections.csv").write_text("id,label\nv00,cat\nv01,dog\nabsent,cat\n")
    assert run("relabel", "day", "--from", "corrections.csv", status=1)["unknown"] == ["absent"]
    assert run("relabel", "day", "--from", "corrections.csv", "--skip-unknown")["rows"] == 2
    assert run("relabel", "day", "--where", "label IS NULL", "--label", "other")["rows"] == COUNT - 2
    assert run("show", "day")["labels"] == {"other": COUNT - 2, "cat": 1, "dog": 1}
    assert run("delete", "day", "--where", "label = ?", "--param", "dog", "--yes")["rows"] == 1
    run("alias", "day@prod", "--to", "day")
    assert run("show", "day@prod")["rows"] == COUNT - 1
    assert run("show", "day@imported")["rows"] == COUNT
    assert "untag" in run("purge", "day", "--id", "v00", "--yes", status=1)
    run("untag", "day", "imported")
    assert run("purge", "day", "--id", "v00", "--yes")["rows"] == 1
    assert len(run("versions", "day")) == 1
    run("restore", "day", "1", "--yes", status=1)
    assert run("compact", "day", "--keep-all")["versions_removed"] == 0
    assert run("compact", "day")["fragments_after"] == 1
    assert "day@prod" in run("drop", "day", "--yes", status=1)
    run("unalias", "day@prod")
    run("drop", "day", "--yes")
    assert "day" not in {info["name"] for info in run("list")}


@pytest.mark.parametrize(
    "condition",
    [
        (),
        ("--where", "n > ? AND label IS NOT NULL", "--param", "1"),
        ("--where", "(" * 12 + "n > -1" + ")" * 12),
    ],
)
def test_an_export_over_the_server_is_the_one_of_its_folder(run, home, condition):
    assert run("export", "photos", "--to", "far.parquet", *condition) == {
        **run("export", "photos", "--to", "near.parquet", *condition, over=False),
        "file": "far.parquet",
    }
    far, near = (pq.read_table(home / f"{name}.parquet") for name in ("far", "near"))
    assert far.schema.equals(near.schema)
    assert far.to_pylist() == near.to_pylist()
    run("export", "photos", "--to", "far.npy", *condition)
    run("export", "photos", "--to", "near.npy", *condition, over=False)
    assert (home / "far.npy").read_bytes() == (home / "near.npy").read_bytes()
    assert (home / "far.npy.ids.txt").read_bytes() == (home / "near.npy.ids.txt").read_bytes()


def test_an_import_over_the_server_is_the_one_of_its_folder(run, home):
    run("export", "photos", "--to", "photos.parquet", over=False)
    assert {**run("import", "photos.parquet", "--into", "far"), "collection": "near"} == run(
        "import", "photos.parquet", "--into", "near", over=False
    )
    shown = [run("show", name) for name in ("far", "near")]
    for info in shown:
        for name in ("name", "created_at", "size_bytes"):
            del info[name]
    assert shown[0] == shown[1]
    ids = [f"p{number}" for number in range(6)]
    far, near, first = (run("get", name, *ids, "bad", "--vectors") for name in ("far", "near", "photos"))
    assert far == near == first


def test_what_the_server_refuses_is_a_sentence(run, home):
    assert "--server" in run("export", "photos", "--to", "x.parquet", "--since", "1", status=2)
    assert "space" in run("import", "theirs.npy", "--into", "photos", "--space", "clip", status=1)
    assert "no row 'absent'" in run("get", "photos", "absent", status=1)
    assert "nope" in run("export", "photos", "--to", "x.parquet", "--where", "nope = 1", status=1)
    assert not [name for name in os.listdir(home) if name.startswith((".x", "x."))]
