"""`trunkline collections` on folders of this machine."""

from __future__ import annotations

import json

import click.testing
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trunkline
from trunkline_service.cli.app import trunkline_command
from trunkline_service.cli.collections.group import scalar
from trunkline_service.cli.collections.relabelling import read_corrections
from trunkline_service.errors import InvalidArgument, TrunklineError

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts
    )
)
def test_a_parameter_in_json_is_that_value(value):
    back = scalar(json.dumps(value))
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize("text", ["rose", "", "O'Hara", "07", "1.2.3", "True", "NaN2", "-", "{"])
def test_any_other_parameter_is_text(text):
    assert scalar(text) == text


@pytest.mark.parametrize("text", ["[1, 2]", '{"a": 1}', "1e999"])
def test_a_parameter_that_is_no_value_is_refused(text):
    with pytest.raises(InvalidArgument, match="--param"):
        scalar(text)


@pytest.fixture
def corrections(tmp_path):
    def write(content):
        path = tmp_path / "corrections.csv"
        path.write_bytes(content.encode())
        return path

    return write


def test_corrections_are_read_as_spreadsheets_write_them(corrections):
    path = corrections('\ufeffnote,id,label\r\n1,a,x\r\n2,"b,c",\r\n3,a,x\r\n')
    assert read_corrections(path) == {"a": "x", "b,c": None}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "it has none"),
        ("id,class\na,x\n", "it has id, class"),
        ("id,label\na,x\n,y\n", "line 3: no id"),
        ("id,label\na\n", "line 2: no id, or no label"),
        ("id,label\na,x\na,y\n", "line 3: id 'a' stands there twice"),
        ('id,label\na,"x\n', "can't be read as CSV"),
    ],
)
def test_corrections_that_can_not_be_used(corrections, content, words):
    with pytest.raises(InvalidArgument, match=words):
        read_corrections(corrections(content))


def test_corrections_in_another_encoding(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("id,label\na,é\n".encode("latin-1"))
    with pytest.raises(InvalidArgument, match="UTF-8"):
        read_corrections(path)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run("list")`` is `trunkline collections list --json`; gives its JSON, or its status where that is not 0."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words, status=0):
        done = click.testing.CliRunner().invoke(trunkline_command, ["collections", *words, "--json"])
        assert done.exit_code == status, done.output + repr(done.exception)
        return json.loads(done.stdout) if done.stdout else done.stderr

    return invoke


@pytest.fixture
def say(run):
    """The same without --json; gives what people read."""

    def invoke(*words):
        done = click.testing.CliRunner().invoke(trunkline_command, ["collections", *words])
        assert done.exit_code == 0, done.output + repr(done.exception)
        return done.stdout

    return invoke


@pytest.fixture
def photos(run):
    """A collection of three rows and an error row, written through the client."""
    with trunkline.open() as client:
        info = client.create_collection("photos", space_id="mine", dim=2)
        client.upsert(
            "photos",
            ["a", "b", "c"],
            np.arange(6).reshape(3, 2),
            space_id=info.space_id,
            labels=["x", "y", None],
            metadata=[{"grade": 1}, {"grade": 2}, {}],
            decode="unknown",
        )
        bad = trunkline.Row("bad", None, status="error", error="corrupt_image: x")
        client.upsert_rows("photos", [bad], space_id=info.space_id, decode="unknown")
    return "photos"


def labels(run, *ids):
    return [row["label"] for row in run("get", "photos", *ids)]


def test_list_show_and_get(run, say, photos):
    (listed,) = run("list")
    shown = run("show", photos)
    assert (listed["rows"], listed["errors"], listed["declared"]) == (3, 1, True)
    assert shown["columns"]["grade"] == "int64"
    assert run("show", f"{photos}@1")["rows"] == 0
    assert "own columns: grade (int64)" in say("show", photos)
    assert "(declared)" in say("list")
    rows = run("get", photos, "b", "bad", "--vectors")
    assert (rows[0]["embedding"], rows[0]["metadata"], rows[1]["embedding"]) == (
        [2.0, 3.0],
        {"grade": 2},
        None,
    )
    assert "corrupt_image" in say("get", photos, "bad")
    assert "embedding" not in run("get", photos, "a")[0]


def test_relabel_by_id_by_condition_and_by_file(run, photos, corrections):
    assert run("relabel", photos, "--id", "a", "--id", "c", "--label", "z")["rows"] == 2
    assert labels(run, "a", "b", "c") == ["z", "y", "z"]
    run("relabel", photos, "--where", "grade > ?", "--param", "1", "--label", "big")
    run("relabel", photos, "--id", "a", "--unlabel")
    assert labels(run, "a", "b") == [None, "big"]
    path = corrections("id,label,by\na,new,me\nb,,me\n")
    assert run("relabel", photos, "--from", str(path))["rows"] == 2
    assert labels(run, "a", "b") == ["new", None]


def test_relabel_writes_nothing_where_an_id_is_unknown(run, photos, corrections):
    path = corrections("id,label\na,new\nq,new\nr,new\n")
    version = run("show", photos)["version"]
    assert run("relabel", photos, "--from", str(path), status=1)["unknown"] == ["q", "r"]
    assert (run("show", photos)["version"], labels(run, "a")) == (version, ["x"])
    done = run("relabel", photos, "--from", str(path), "--skip-unknown")
    assert (done["rows"], done["unknown"], labels(run, "a")) == (1, ["q", "r"], ["new"])


def test_relabel_with_lists_of_labels(run, corrections):
    with trunkline.open() as client:
        info = client.create_collection("photos", space_id="mine", dim=2, multi_label=True)
        client.upsert("photos", ["a", "b"], np.ones((2, 2)), space_id=info.space_id, decode="unknown")
    run("relabel", "photos", "--id", "a", "--label", "x", "--label", "y")
    run("relabel", "photos", "--from", str(corrections("id,label\nb,p;q\n")), "--separator", ";")
    assert labels(run, "a", "b") == [["x", "y"], ["p", "q"]]


@pytest.mark.parametrize(
    "words",
    [
        ("relabel", "photos", "--label", "x"),
        ("relabel", "photos", "--id", "a"),
        ("relabel", "photos", "--id", "a", "--label", "x", "--unlabel"),
        ("relabel", "photos", "--id", "a", "--where", "true", "--label", "x"),
        ("relabel", "photos", "--id", "a", "--label", "x", "--label", "y"),
        ("relabel", "photos", "--id", "a", "--label", "x", "--param", "1"),
        ("delete", "photos"),
        ("drop", "photos"),
        ("delete", "photos", "--id", "a"),
        ("purge", "photos", "--id", "a"),
        ("restore", "photos", "1"),
        ("compact", "photos", "--keep-days", "1", "--keep-all"),
        ("delete", "photos", "--id", "a", "--where", "true"),
        ("purge", "photos", "--id", "a", "--param", "1"),
        ("export", "photos", "--to", "photos.csv"),
        ("export", "photos", "--to", "photos.npy", "--since", "1"),
        ("alias", "photos@prod", "--to", "photos@new"),
        ("compact", "photos", "--keep-days", "-1"),
    ],
    ids=" ".join,
)
def test_options_that_contradict_are_a_matter_of_usage(run, photos, words):
    run(*words, status=2)


def test_delete_purge_and_drop(run, photos):
    assert run("delete", photos, "--id", "a", "--id", "absent", "--yes")["rows"] == 1
    assert run("delete", photos, "--where", "status = ?", "--param", "error", "--yes")["rows"] == 1
    assert run("show", f"{photos}@{run('show', photos)['version'] - 1}")["errors"] == 1
    assert run("purge", photos, "--id", "b", "--yes")["rows"] == 1
    assert run("versions", photos)[0]["rows"] == 1
    run("drop", photos, "--yes")
    assert run("list") == []


@pytest.mark.parametrize(
    "words", [("drop",), ("delete", "--id", "a"), ("purge", "--where", "true"), ("restore", "1")]
)
def test_nothing_is_destroyed_where_nobody_can_be_asked(run, photos, words):
    version = run("show", photos)["version"]
    assert "add --yes" in run(words[0], photos, *words[1:], status=2)
    assert run("show", photos)["version"] == version


def test_somebody_at_a_terminal_is_asked(run, photos, monkeypatch):
    asked = []

    def answer(question, **options):
        asked.append(question)
        raise click.Abort

    monkeypatch.setattr("trunkline_service.cli.collections.group.asks", lambda: True)
    monkeypatch.setattr("trunkline_service.cli.collections.removing.asks", lambda: True)
    monkeypatch.setattr(click, "confirm", answer)
    run("delete", photos, "--where", "grade > 0", status=1)
    run("drop", photos, status=1)
    run("restore", photos, "1", status=1)
    assert asked[0] == "delete 2 rows of photos?"
    assert len(asked) == 3
    assert run("delete", photos, "--id", "a", "--yes")["rows"] == 1


def test_versions_tags_restore_and_compact(run, photos):
    first = run("show", photos)["version"]
    assert run("tag", photos, "reviewed")["version"] == first
    run("delete", photos, "--id", "a", "--yes")
    assert labels(run, "b") == ["y"]
    found = {version["version"]: version for version in run("versions", photos)}
    assert (found[first]["tags"], found[first]["rows"], found[first + 1]["rows"]) == (["reviewed"], 4, 3)
    assert run("restore", photos, str(first), "--yes")["restored"] == first
    assert labels(run, "a") == ["x"]
    run("untag", photos, "reviewed")
    count = len(run("versions", photos))
    done = run("compact", photos, "--keep-all")
    assert (done["versions_removed"], done["fragments_after"]) == (0, 1)
    assert len(run("versions", photos)) >= count
    assert run("compact", photos, "--keep-days", "0")["versions_removed"] >= 3
    assert len(run("versions", photos)) == 1


def test_aliases(run, say, photos):
    run("alias", "photos@prod", "--to", photos)
    assert run("alias", "photos@old", "--to", f"{photos}@1")["version"] == 1
    assert run("show", "photos@old")["rows"] == 0
    assert [alias["name"] for alias in run("aliases")] == ["photos@old", "photos@prod"]
    assert "the latest version" in say("aliases")
    assert "aliases: photos@old, photos@prod" in say("show", photos)
    run("unalias", "photos@old")
    assert [alias["name"] for alias in run("aliases")] == ["photos@prod"]


def test_export_and_import(run, photos, tmp_path):
    before = run("show", photos)["version"]
    assert run("export", photos, "--to", "all.parquet")["rows"] == 4
    run("delete", photos, "--id", "a", "--yes")
    assert (
        run("export", f"{photos}@{before}", "--to", "some.parquet", "--where", "grade = ?", "--param", "1")[
            "rows"
        ]
        == 1
    )
    assert run("export", photos, "--to", "new.parquet", "--since", str(before))["rows"] == 1
    assert pq.read_table(tmp_path / "new.parquet").column("change").to_pylist() == ["delete"]
    assert run("export", photos, "--to", "all.npy")["rows"] == 2
    done = run("import", "all.parquet", "--into", "copy")
    assert (done["rows"], done["errors"], done["created"]) == (3, 1, True)
    assert run("import", "all.npy", "--into", "vectors", "--space", "mine")["rows"] == 2
    assert run("get", "vectors", "b", "--vectors")[0]["embedding"] == [2.0, 3.0]
    run("import", "all.npy", "--into", "vectors", status=2)


def test_errors_of_a_call_are_raised_as_they_are(run, photos):
    done = click.testing.CliRunner().invoke(trunkline_command, ["collections", "get", "photos", "absent"])
    assert isinstance(done.exception, (TrunklineError, trunkline.TrunklineError))
    assert "no row 'absent'" in str(done.exception)


def test_one_is_one(run, say, photos):
    assert ", 1 error, " in say("show", photos)
    assert "1 row relabelled" in say("relabel", photos, "--id", "a", "--label", "z")
    assert "1 row deleted" in say("delete", photos, "--id", "a", "--yes")


def test_a_condition_that_can_not_be_used_is_shown_as_it_was_written_and_once(run, photos):
    for command in ("export", "delete", "relabel"):
        options = {"export": ("--to", "x.parquet"), "delete": ("--yes",), "relabel": ("--label", "x")}[
            command
        ]
        words = ["collections", command, photos, "--where", "bogus = 1", *options]
        done = click.testing.CliRunner().invoke(trunkline_command, words)
        said = str(done.exception)
        assert "where 'bogus = 1' can't be used" in said
        assert said.count("bogus") == 2
        assert said.count("content_hash") == 1
