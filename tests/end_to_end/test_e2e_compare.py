"""Choosing a backbone as a user does: ``trunkline compare`` in processes of their own."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

LABELS = ("day", "night")


@pytest.fixture(scope="module")
def home(tmp_path_factory, publish_tiny):
    """Models ``tiny``, which sees brightness, and ``blind``, which sees nothing; and images in a split."""
    root = tmp_path_factory.mktemp("compare")
    publish_tiny(root / "models")
    publish_tiny(root / "models", name="blind", scale=0.0, pretrained=False)
    rng = np.random.default_rng(5)
    for number in range(40):
        label = LABELS[number % 2]
        value = int(np.clip(rng.normal(150 if label == "day" else 90, 20), 5, 250))
        path = root / "my photos" / "train" / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(value - 5, value + 5, (32, 32, 3), np.uint8)).save(path)
    (path.parent / "letter.jpg").write_text("Dear reader,")
    (root / "my photos" / "loose.png").write_bytes(path.read_bytes())
    return root


@pytest.fixture(scope="module")
def run(cli, home):
    def checked(*arguments, status=0):
        done = cli(*arguments, cwd=home)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return checked


@pytest.fixture(scope="module")
def compared(run):
    return run("compare", "my photos", "--models", "blind, tiny")


def next_command(stderr):
    (line,) = (line for line in stderr.splitlines() if line.startswith("next: "))
    program, *words = shlex.split(line.removeprefix("next: "))
    assert program == "trunkline"
    return words


def test_the_table_the_choice_and_what_was_understood(compared):
    text = compared.stdout
    assert "42 images; 2 labels from folder names" in text
    assert "40 images of 2 labels (left out: 1 without a label, 1 that failed (1 unsupported_image))" in text
    heading, best, other, choice, note = text.splitlines()[2:7]
    assert heading.split("  ")[0] == "model"
    for column in ("accuracy (95%)", "against best", "dim", "img/s", "MB", "precision"):
        assert column in heading
    assert re.match(r"tiny@1 +0\.\d{3} \(0\.\d{3}-[01]\.\d{3}\) +best +48 +[\d.]+ +0\.0 +fp32", best)
    assert other.startswith("blind@1 ")
    assert "worse, p < 0.001" in other
    assert choice.startswith("pick tiny@1: the most accurate")
    assert "splits (train 41) were not used" in note


def test_notices_stay_off_standard_output(compared):
    assert "my-photos-tiny: 41 embedded with tiny@1, 0 were done before" in compared.stderr
    assert "warning: model blind@1 has random weights" in compared.stderr
    assert "next:" not in compared.stdout


def test_the_next_command_works_at_once_and_gives_the_accuracy_of_the_table(compared, run):
    words = next_command(compared.stderr)
    assert words == ["heads", "fit", "my-photos-tiny", "--name", "my-photos"]
    fitted = json.loads(run(*words, "--json").stdout)
    assert f" {fitted['accuracy']:.3f} " in compared.stdout
    assert fitted["rows"] == 40


def test_json_says_everything_and_a_second_run_embeds_nothing(compared, run):
    done = run("compare", "my photos", "--models", "blind,tiny", "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert [result["model"] for result in found["results"]] == ["tiny@1", "blind@1"]
    for result in found["results"]:
        assert (result["embedded"], result["unchanged"]) == (0, 41)
        assert result["images_per_second"] > 0
        assert result["accuracy"] == result["evaluation"]["accuracy"]
        assert result["size_bytes"] > 0
        assert result["failed"] == {"unsupported_image": 1}
    best, blind = found["results"]
    assert best["paired"] is None
    assert blind["paired"]["only_best"] > blind["paired"]["only_this"]
    assert 0 < blind["paired"]["p_corrected"] < 0.05
    assert (found["pick"], found["collection"]) == ("tiny@1", "my-photos-tiny")
    assert found["next"] == "trunkline heads fit my-photos-tiny --name my-photos"
    assert found["left_out"] == {"unlabelled": 1, "failed": {"unsupported_image": 1}, "single": 0}
    assert (found["rows"], found["folds"], found["splits"]) == (40, 5, {"train": 41})
    again = run("compare", "my photos", "--models", "blind,tiny")
    assert "my-photos-tiny: 0 embedded with tiny@1, 41 were done before" in again.stderr


def test_other_places_are_named_in_the_next_command(run, cli, home, tmp_path):
    place = ("--repository", str(home / "models"), "--data", "kept here")
    done = cli(
        "compare",
        str(home / "my photos"),
        "--models",
        "tiny@1",
        "--into",
        "p",
        "--folds",
        "3",
        *place,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "3 folds" in done.stdout
    assert "pick tiny@1: the only model given" in done.stdout
    words = next_command(done.stderr)
    expected = [
        "heads",
        "fit",
        "p-tiny-v1",
        "--name",
        "p",
        "--models",
        str(home / "models"),
        "--data",
        "kept here",
    ]
    assert words == expected
    assert cli(*words, cwd=tmp_path).returncode == 0
    assert not (tmp_path / "data").exists()


def test_a_collection_of_another_space_names_the_way_out(run):
    run("embed", "my photos", "--into", "q-tiny", "--model", "blind")
    arguments = ("compare", "my photos", "--models", "tiny")
    refused = run(*arguments, "--into", "q", status=1)
    assert "holds vectors of space" in refused.stderr
    assert "--into q-2" in refused.stderr
    assert "tiny@1" in run(*arguments, "--into", "q-2").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("my photos", "--models", "tiny,blnd"), 1, "did you mean 'blind'"),
        (("my photos", "--models", "tiny,tiny"), 1, "'tiny' is given twice"),
        (("my photos", "--models", ","), 1, "no model is given"),
        (("my photos", "--models", "tiny", "--folds", "1"), 1, "folds is 1"),
        (("my photos/train/day", "--models", "tiny"), 1, "at least 2 labels"),
        (("absent", "--models", "tiny"), 1, "is not a folder"),
        (("my photos", "--models", "tiny", "--server", "127.0.0.1:1"), 2, "has no --server yet"),
        (("my photos",), 2, "--models"),
    ],
)
def test_errors_are_sentences_and_exit_codes(run, home, arguments, status, words):
    assert words in run("compare", *arguments, "--data", "untouched", status=status).stderr
    assert not (home / "untouched").exists()
