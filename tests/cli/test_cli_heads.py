"""`trunkline heads` and `trunkline predict` on folders of this machine and over a server."""

from __future__ import annotations

import contextlib
import json

import click.testing
import numpy as np
import pytest

import trunkline
from trunkline_service.cli.app import trunkline_command
from trunkline_service.server.app import Server
from trunkline_service.settings import Settings

SHADES = [10, 240] * 10


def picture(shade):
    """A shade with a stripe, so that not all vectors point one way."""
    pixels = np.full((32, 32, 3), shade, np.uint8)
    pixels[: shade // 12] = (0, 255, 0)
    return pixels


@pytest.fixture
def home(tmp_path, monkeypatch, publish_tiny, png):
    """A folder with two models, a collection and two pictures."""
    monkeypatch.chdir(tmp_path)
    publish_tiny(tmp_path / "models")
    publish_tiny(tmp_path / "models", name="double", scale=2.0)
    monkeypatch.setenv("TRUNKLINE_DEFAULT_MODEL", "tiny")
    for name, shade in (("dark", 12), ("light", 230)):
        (tmp_path / f"{name}.png").write_bytes(png(picture(shade)))
    with trunkline.open(default_model="tiny") as client:
        pictures = [picture(shade + index % 5) for index, shade in enumerate(SHADES)]
        ids = [f"r{index}" for index in range(20)]
        said = {"labels": ["dark", "light"] * 10, "metadata": [{"price": float(s)} for s in SHADES]}
        client.add("shades", pictures, ids, **said)
        client.add("doubled", pictures, ids, model="double")
    return tmp_path


@pytest.fixture(params=["here", "server"])
def run(request, home):
    """``run("heads", "list")`` in the folder, or over a server of it; gives the result of success."""
    stack, place = contextlib.ExitStack(), ()
    if request.param == "server":
        folders = {"models": str(home / "models"), "data": str(home / "data")}
        server = Server(
            Settings(**folders, default_model="tiny", listen="127.0.0.1:0", threads=1, drain_s=10)
        )
        server.start()
        stack.callback(server.stop)
        place = ("--server", str(server.address))

    def invoke(*words, status=0):
        done = click.testing.CliRunner().invoke(trunkline_command, [*words, *place])
        assert done.exit_code == status, done.output + repr(done.exception)
        return done

    with stack:
        yield invoke


def asked(run, *words):
    return json.loads(run(*words, "--json").stdout)


def test_a_head_from_its_fit_to_its_end(run):
    told = run("heads", "fit", "shades", "--name", "shade", "--folds", "4")
    assert "head shade@1 (logistic) on 20 rows of shades version" in told.stdout
    assert "cross-validated accuracy 1.000" in told.stdout
    assert "next: trunkline predict IMAGE --head shade" in told.stderr
    fitted = asked(run, "heads", "fit", "shades", "--name", "shade", "--kind", "centroid", "--candidate")
    assert (fitted["name"], fitted["version"], fitted["kind"], fitted["accuracy"]) == (
        "shade",
        2,
        "centroid",
        1.0,
    )
    assert (fitted["serving"], fitted["versions"]) == (1, [1, 2])
    (listed,) = asked(run, "heads", "list")
    assert (listed["version"], listed["metric"], listed["score"]) == (1, "accuracy", 1.0)
    assert "shade@1" in run("heads", "list").stdout
    assert asked(run, "heads", "promote", "shade@2")["serving"] == 2
    assert run("heads", "rollback", "shade").stdout == "shade@1 serves\n"
    assert run("heads", "alias", "shade@prod", "--to", "2").stdout == "shade@prod stands for shade@2\n"
    assert "shade@2 runs beside shade@1" in run("heads", "shadow", "shade@prod").stdout
    shown = run("heads", "show", "shade").stdout
    assert "1 (serves), 2 (prod, shadow)" in shown
    assert asked(run, "heads", "show", "shade@prod")["kind"] == "centroid"
    assert "nothing runs beside shade@1" in run("heads", "shadow", "shade", "--off").stdout
    assert run("heads", "unalias", "shade@prod").stdout == "there is no alias shade@prod any more\n"
    assert asked(run, "heads", "drop", "shade@2", "--yes") == {"head": "shade@2", "dropped": True}
    assert run("heads", "drop", "shade", "--yes").stdout == "shade is gone\n"
    assert "no heads here yet" in run("heads", "list").stderr


def test_a_drop_is_asked_about(run):
    run("heads", "fit", "shades", "--name", "shade", "--kind", "centroid")
    assert "add --yes" in run("heads", "drop", "shade", status=2).output
    assert len(asked(run, "heads", "list")) == 1


def test_a_role_needs_a_version(run):
    for command in ("promote", "shadow"):
        assert "name the version too, e.g. shade@3" in run("heads", command, "shade", status=2).output


def test_every_option_of_a_fit(run):
    fitted = asked(
        run,
        *("heads", "fit", "shades", "--name", "price", "--kind", "ridge", "--target", "price"),
        *("--group", "label", "--transform", "none", "--grid", "0.1,10", "--folds", "3", "--seed", "5"),
    )
    assert (fitted["task"], fitted["target"], fitted["classes"]) == ("regression", "price", ["price"])
    assert fitted["hyper_parameters"]["transform"] == "none"
    told = run("heads", "fit", "shades", "--name", "price", "--kind", "ridge", "--target", "price")
    assert "R2" in told.stdout
    assert (
        "give numbers parted by commas"
        in run("heads", "fit", "shades", "--name", "x", "--grid", "a,b", status=2).output
    )


def test_a_warm_fit_after_corrections(run):
    first = asked(run, "heads", "fit", "shades", "--name", "shade")
    again = asked(run, "heads", "fit", "shades", "--name", "shade", "--warm")
    assert again["version"] == 2
    assert again["hyper_parameters"]["C"] == first["hyper_parameters"]["C"]


def test_a_migration_shows_both_sides_before_anyone_switches(run):
    run("heads", "fit", "shades", "--name", "shade", "--kind", "centroid")
    told = run("heads", "migrate", "shade", "--to", "doubled")
    assert "both say the same of 100.0% of the 20 rows" in told.stdout
    assert "next: trunkline heads promote shade@2" in told.stderr
    done = asked(run, "heads", "migrate", "shade", "--to", "doubled", "--promote")
    assert (done["before"]["version"], done["after"]["version"], done["agreement"]) == (1, 3, 1.0)
    assert done["after"]["serving"] == 3
    assert done["after"]["model"] == "double@1"


def test_predictions_of_one_head(run):
    run("heads", "fit", "shades", "--name", "shade", "--kind", "centroid")
    dark, light = asked(run, "predict", "dark.png", "light.png", "--head", "shade")
    assert (dark["source"], dark["label"], dark["head"]) == ("dark.png", "dark", "shade@1")
    assert set(dark["probabilities"]) == {"dark", "light"}
    assert dark["probability"] == max(dark["probabilities"].values())
    assert light["label"] == "light"
    assert "unknown" not in light
    (best,) = asked(run, "predict", "light.png", "--head", "shade", "--top-k", "1")
    assert best["top"] == [{"label": "light", "probability": pytest.approx(light["probability"])}]
    shown = run("predict", "dark.png", "light.png", "--head", "shade")
    assert [line.split()[-1] for line in shown.stdout.splitlines()] == ["label", "dark", "light"]
    assert "head shade@1" in shown.stderr


def test_predictions_of_several_heads_and_tasks(run):
    run("heads", "fit", "shades", "--name", "shade", "--kind", "centroid")
    run("heads", "fit", "shades", "--name", "price", "--kind", "ridge", "--target", "price")
    run("heads", "fit", "shades", "--name", "odd", "--kind", "anomaly")
    words = ("predict", "light.png", "--head", "shade", "--head", "price", "--head", "odd")
    (found,) = asked(run, *words)
    assert found["source"] == "light.png"
    by_head = {said["head"]: said for said in found["predictions"]}
    assert by_head["shade@1"]["label"] == "light"
    assert by_head["price@1"]["values"]["price"] == pytest.approx(240, abs=30)
    assert by_head["odd@1"]["score"] > 0
    shown = run(*words).stdout
    for name in ("shade@1", "price@1", "odd@1"):
        assert f"head {name}" in shown


def test_what_is_unlike_anything_that_was_learned_is_unknown(run, home, png):
    run("heads", "fit", "shades", "--name", "shade", "--kind", "centroid")
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    noise[:16] = (255, 0, 255)
    (home / "noise.png").write_bytes(png(noise))
    (found,) = asked(run, "predict", "noise.png", "--head", "shade", "--unknown")
    assert (found["label"], found["unknown"]) == (None, "far")
    assert "unknown (far)" in run("predict", "noise.png", "--head", "shade", "--unknown").stdout
    (sure,) = asked(run, "predict", "light.png", "--head", "shade", "--min-probability", "0.2")
    assert sure["label"] == "light"


def test_a_picture_that_cannot_be_used_ends_in_1(run, home):
    run("heads", "fit", "shades", "--name", "shade", "--kind", "centroid")
    (home / "letter.txt").write_text("Dear reader,")
    failed, served = json.loads(
        run("predict", "letter.txt", "dark.png", "--head", "shade", "--json", status=1).stdout
    )
    assert (failed["reason"], served["label"]) == ("unsupported_image", "dark")
    assert "failed:" in run("predict", "letter.txt", "--head", "shade", status=1).stdout


def test_a_card_as_lines(run):
    run("heads", "fit", "shades", "--name", "shade", "--grid", "0.1,1", "--no-report")
    run("heads", "fit", "shades", "--name", "shade", "--kind", "centroid", "--candidate", "--no-report")
    lines = run("heads", "show", "shade").stdout.splitlines()
    assert lines[0].split() == ["head", "shade@1"]
    assert all(line and line == line.rstrip() for line in lines)
    named = {line[:16].strip(): line[16:].strip() for line in lines}
    assert {"temperature", "distance"} <= named.keys()
    assert named["versions"] == "1 (serves), 2 (candidate)"
    assert "[" not in named["hyper-parameters"]
    assert named["distance"].startswith("99% of held-out rows are nearer than ")


def test_a_validation_split_is_called_one(run, home):
    with trunkline.open(default_model="tiny") as client:
        client.relabel("shades", {f"r{index}": "val" for index in range(8)}, column="split")
        client.relabel("shades", {f"r{index}": "test" for index in range(8, 12)}, column="split")
    told = run("heads", "fit", "shades", "--name", "shade", "--no-report")
    assert "accuracy on the validation split (8 rows) 1.000" in told.stdout
    assert "cross-validated" not in told.stdout
    assert "note: evaluated on the 8 rows of the validation split" in told.stderr
    assert "warning:" not in told.stderr.replace("warning: model tiny", "")
    shown = run("heads", "show", "shade").stdout
    assert "accuracy 1.000 on 8 rows" in shown
    assert "accuracy 1.000 on 4 rows of split 'test'" in shown


def test_an_anomaly_score_comes_with_its_bound(run):
    words = ("--name", "odd", "--kind", "anomaly", "--normal", "dark", "--no-report")
    run("heads", "fit", "shades", *words)
    normal, unusual = asked(run, "predict", "dark.png", "light.png", "--head", "odd")
    assert (normal["verdict"], unusual["verdict"]) == ("normal", "unusual")
    assert normal["score"] <= normal["bound"] == unusual["bound"] < unusual["score"]
    shown = run("predict", "dark.png", "--head", "odd").stdout
    assert f"normal (99% of normal rows: below {normal['bound']:.3f})" in shown


def test_the_name_of_an_image_stands_once(run):
    run("heads", "fit", "shades", "--name", "shade", "--kind", "centroid", "--no-report")
    shown = run("predict", "dark.png", "light.png", "--head", "shade", "--top-k", "2").stdout
    assert [shown.count(name) for name in ("dark.png", "light.png")] == [1, 1]
    assert len(shown.splitlines()) == 5
