"""`trunkline heads report`, `suggest` and `export`; and the loop that makes labels better."""

from __future__ import annotations

import contextlib
import json
import webbrowser

import click.testing
import numpy as np
import onnxruntime
import pytest

from trunkline_service.cli.app import trunkline_command
from trunkline_service.images.inputs import EncodedImage, prepare
from trunkline_service.models.repository import ModelRepository
from trunkline_service.server.app import Server
from trunkline_service.settings import ImageLimits, Settings

PER_CLASS = 12


def invoked(*words, status=0):
    done = click.testing.CliRunner().invoke(trunkline_command, [*words])
    assert done.exit_code == status, done.output + repr(done.exception)
    return done


@pytest.fixture
def home(tmp_path, monkeypatch, publish_tiny, png):
    """A folder with a model, and 24 images of two classes in the collection ``shades``."""
    monkeypatch.chdir(tmp_path)
    publish_tiny(tmp_path / "models")
    monkeypatch.setenv("TRUNKLINE_DEFAULT_MODEL", "tiny")
    generator = np.random.default_rng(0)
    for shade, low in (("dark", 0), ("light", 140)):
        (tmp_path / "pics" / shade).mkdir(parents=True)
        for index in range(PER_CLASS):
            # Blocks, so that the mean colours of the model's cells differ from image to image.
            blocks = generator.integers(low, low + 100, (4, 4, 3), np.uint8)
            pixels = np.kron(blocks, np.ones((10, 12, 1), np.uint8))
            (tmp_path / "pics" / shade / f"{index}.png").write_bytes(png(pixels))
    invoked("embed", "pics", "--into", "shades", "--json")
    return tmp_path


@pytest.fixture(params=["here", "server"])
def run(request, home):
    """``run("heads", "list")`` in the folder, or over a server of it; gives the result of success."""
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
        yield lambda *words, status=0: invoked(*words, *place, status=status)


def asked(run, *words):
    return json.loads(run(*words, "--json").stdout)


def test_labels_are_found_wrong_on_the_page_and_made_right(run, home):
    wrong = {"dark/3.png": "light", "light/5.png": "dark"}
    for row_id, label in wrong.items():
        run("collections", "relabel", "shades", "--id", row_id, "--label", label)
    told = run("heads", "fit", "shades", "--name", "shade")
    assert "trunkline heads report shade@1" in told.stderr
    told = run("heads", "report", "shade", "--html", "shade.html", "--root", "pics")
    assert "head shade@1 (logistic) on 24 rows of shades version" in told.stdout
    assert "labels look wrong to it" in told.stdout
    assert told.stdout.endswith("wrote shade.html\n")
    page = (home / "shade.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "trunkline collections relabel shades --from corrections.csv" in page
    suspects = {row["id"]: row for row in asked(run, "heads", "report", "shade")["suspects"]}
    assert set(wrong) <= set(suspects)
    # As the page's script writes it.
    lines = ["id,label", *(f"{row_id},{suspects[row_id]['suggested']}" for row_id in wrong)]
    (home / "corrections.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    assert "2 rows relabelled" in run("collections", "relabel", "shades", "--from", "corrections.csv").stdout
    fitted = asked(run, "heads", "fit", "shades", "--name", "shade", "--warm")
    assert (fitted["version"], fitted["accuracy"]) == (2, 1.0)
    after = asked(run, "heads", "report", "shade")
    assert after["suspects"] == []
    assert after["agreement"]["previous"] == "shade@1"


def test_a_report_in_the_terminal(run):
    run("heads", "fit", "shades", "--name", "shade", "--kind", "centroid")
    told = run("heads", "report", "shade@1")
    for title in ("cross-validated, 24 rows", "simple rules on the same rows", "learning curve", "by class"):
        assert f"\n{title}\n" in told.stdout
    assert "--html shade.html" in told.stderr
    document = asked(run, "heads", "report", "shade")
    assert (document["schema_version"], document["task"]) == (1, "single-label")
    told = run("heads", "report", "shade", "--html", "page.html", "--json")
    assert json.loads(told.stdout) == document
    assert "wrote page.html" in told.stderr


def test_no_image_is_opened_outside_the_declared_folder(run, home):
    run("collections", "relabel", "shades", "--id", "dark/3.png", "--label", "light")
    run("heads", "fit", "shades", "--name", "shade", "--kind", "centroid")
    for words in ((), ("--root", "pics/light")):
        run("heads", "report", "shade", "--html", "page.html", *words)
        page = (home / "page.html").read_text()
        assert "dark/3.png" in page
        assert "data:image/jpeg" not in page


def test_the_page_is_opened_in_a_browser(home, monkeypatch):
    invoked("heads", "fit", "shades", "--name", "shade", "--kind", "centroid")
    opened, answers = [], [True, False]
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or answers.pop(0))
    words = ("heads", "report", "shade", "--html", "a page.html", "--open")
    assert "warning" not in invoked(*words).stderr
    assert opened == [f"{home.as_uri()}/a%20page.html"]
    assert "no browser was found here; open a page.html in one" in invoked(*words).stderr
    for words in (("--open",), ("--root", "pics")):
        assert "give that too" in invoked("heads", "report", "shade", *words, status=2).output


def test_a_head_without_a_report_says_how_to_get_one(home, capsys, monkeypatch):
    from trunkline_service.cli.app import run as run_process

    assert "heads report" not in invoked("heads", "fit", "shades", "--name", "h", "--no-report").stderr
    monkeypatch.setattr("sys.argv", ["trunkline", "heads", "report", "h"])
    assert run_process() == 1
    assert "head h@1 has no report" in (told := capsys.readouterr().err)
    assert "fit it again: trunkline heads fit shades --name h" in told


def test_a_report_that_failed_is_warned_of_and_not_recommended(home, monkeypatch):
    from trunkline_service.errors import StorageError
    from trunkline_service.heads.storage.registry import HeadRegistry

    def full(*_args):
        raise StorageError("no room")

    monkeypatch.setattr(HeadRegistry, "write_report", full)
    told = invoked("heads", "fit", "shades", "--name", "h", "--kind", "centroid").stderr
    assert "warning: it has no report: no room" in told
    assert "heads report" not in told


def test_what_to_label_next(run):
    run("heads", "fit", "shades", "--name", "shade", "--no-report")
    assert "no row of shades is without a value of label" in run("heads", "suggest", "shade", "shades").stderr
    ids = [f"{shade}/{index}.png" for shade in ("dark", "light") for index in range(3)]
    run(
        "collections",
        "relabel",
        "shades",
        *(word for row_id in ids for word in ("--id", row_id)),
        "--unlabel",
    )
    found = asked(run, "heads", "suggest", "shade", "shades", "-n", "4")
    assert (found["head"], found["unlabelled"], found["asked"]) == ("shade@1", 6, 6)
    assert len({row["id"] for row in found["suggestions"]} & set(ids)) == 4
    for row in found["suggestions"]:
        assert row["source"].endswith(f"pics/{row['id']}")
        likeliest, other = row["likeliest"]
        assert likeliest["label"] == row["id"].split("/")[0]
        assert likeliest["probability"] > other["probability"]
    told = run("heads", "suggest", "shade", "shades", "-n", "4")
    header, *rows = told.stdout.splitlines()
    assert header.split() == ["id", "source", "likeliest", "next", "why"]
    assert [row.split()[0] for row in rows] == [row["id"] for row in found["suggestions"]]
    assert "shade@1 was asked about 6 rows of shades without a label" in told.stderr
    assert "next: trunkline collections relabel shades --id ID" in told.stderr


def test_a_head_with_its_backbone_as_one_file(home, png):
    invoked("heads", "fit", "shades", "--name", "shade", "--no-report")
    told = invoked("heads", "export", "shade", "--to", "shade.onnx", "--fused")
    assert "wrote head shade@1 with tiny@1 before it to shade.onnx" in told.stdout
    assert "uint8 [batch, 32, 32, 3]" in told.stdout
    assert "squashed to 32 x 32 (bilinear, antialiased)" in told.stdout
    session = onnxruntime.InferenceSession("shade.onnx", providers=["CPUExecutionProvider"])
    spec = ModelRepository(home / "models").resolve("tiny").card.preprocess
    paths = ["pics/dark/1.png", "pics/light/2.png"]
    images = [EncodedImage((home / path).read_bytes()) for path in paths]
    pixels = np.stack([prepare(image, spec, "exact", ImageLimits()) for image in images])
    (found,) = session.run(["probabilities"], {"image": pixels})
    served = json.loads(invoked("predict", *paths, "--head", "shade", "--json").stdout)
    expected = [list(document["probabilities"].values()) for document in served]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert [document["label"] for document in served] == ["dark", "light"]


def test_a_head_as_a_file(home):
    invoked("heads", "fit", "shades", "--name", "shade", "--kind", "centroid", "--no-report")
    document = json.loads(invoked("heads", "export", "shade@1", "--to", "h.onnx", "--json").stdout)
    assert (document["head"], document["model"], document["classes"]) == ("shade@1", None, ["dark", "light"])
    assert document["inputs"] == [{"name": "embedding", "dtype": "float32", "shape": ["batch", 48]}]
    assert document["bytes"] == (home / "h.onnx").stat().st_size
    again = click.testing.CliRunner().invoke(
        trunkline_command, ["heads", "export", "shade", "--to", "h.onnx"]
    )
    assert "replace it with --force" in str(again.exception)
    assert "in " in invoked("heads", "export", "shade", "--to", "h.onnx", "--force").stdout
    assert (
        "has no --server yet"
        in invoked("heads", "export", "shade", "--to", "x.onnx", "--server", "localhost:1", status=2).output
    )
