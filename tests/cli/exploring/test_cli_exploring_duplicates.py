"""`trunkline collections duplicates`: the table, what is said of it, and deleting; here and over a server."""

from __future__ import annotations

import json
import shlex

import pytest

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.collections.exploring.duplicates import duplicates

HOSTILE = "<script>alert(1)</script>"


def rows_left():
    with trunkline.open() as client:
        return client.collection("things").rows


def test_duplicates_as_a_table_and_as_json(run):
    done = run("duplicates", "things", "--threshold", "0.999")
    assert "2 pairs of 0.999 or more (cosine) make 2 groups of 4 rows, of which 2 could go" in done.stdout
    assert "in 1 group the labels differ, so that some may be wrong" in done.stderr
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


def test_the_table_says_which_row_a_score_is_of(run):
    lines = run("duplicates", "things", "--threshold", "0.999").stdout.splitlines()
    assert lines[1].split() == ["group", "score", "like", "label", "split", "size", "id"]
    assert lines[2].split() == ["1", "keep", "even", "train", "r0"]
    assert lines[3].split() == ["1.0000", "r0", "odd", "train", HOSTILE]


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


def test_the_command_that_deletes_reads_as_it_was_meant(invoked, home):
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


def test_an_older_version_is_not_deleted_from(run):
    words = ("duplicates", "things@2", "--threshold", "0.999", "--delete", "--yes")
    assert "stands for version 2" in str(run(*words, status=1).exception)
    assert rows_left() == 42


def test_a_chain_is_told_as_one_and_copies_come_first(run, home, by_hand):
    done = run("duplicates", "vectors", "--threshold", "0.995", "--html", "page.html")
    lines = done.stdout.splitlines()
    # No row has a split, so that there is no such column.
    assert lines[1].split() == ["group", "score", "like", "label", "size", "id"]
    assert [line.split()[-1] for line in lines[2:8]] == ["v4", "v5", "v0", "v2", "v1", "v3"]
    chain = "a chain: 2 of 4 rows are kept, no two of which score 0.995"
    assert lines[8].strip() == f"({chain})"
    assert "1 group is a chain of look-alikes" in done.stderr
    page = (home / "page.html").read_text()
    assert page.count("A chain: 2 of 4 rows are kept") == 1


def test_many_look_alikes_by_the_default_threshold_are_warned_of(run, by_hand):
    done = run("duplicates", "vectors", "--json")
    assert (
        "6 of 6 rows (100%) are in groups by the default threshold 0.97: for this model, images that differ may "
        "be that near; look at some before you delete, or take --threshold 0.999, by which 2 are"
        in done.stderr
    )
    assert json.loads(done.stdout)["rows"] == 6
    assert "default threshold" not in run("duplicates", "vectors", "--threshold", "0.97").stderr
    # Copies are what was looked for.
    copies = ("--where", "id IN ('v4', 'v5', 'v0')")
    assert "default threshold" not in run("duplicates", "vectors", *copies).stderr
