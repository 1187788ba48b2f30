"""The README's first five minutes as a user types them, in processes of their own, with the bundled model."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trunkline_service.models.repository import BUNDLED

CLASSES = ("stripes", "spots", "plain")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Sixty textures of three kinds: something that a real backbone tells apart."""
    root = tmp_path_factory.mktemp("first") / "photos"
    rng = np.random.default_rng(3)
    grid = np.arange(96)
    for number in range(60):
        kind = CLASSES[number % 3]
        colours = rng.integers(0, 256, (2, 3))
        if kind == "stripes":
            mask = (grid[None, :] + grid[:, None] * rng.integers(0, 3)) // rng.integers(4, 9) % 2
        elif kind == "spots":
            step = rng.integers(14, 24)
            mask = ((grid[None, :] % step - step / 2) ** 2 + (grid[:, None] % step - step / 2) ** 2) < (
                step / 3
            ) ** 2
        else:
            mask = np.zeros((96, 96))
        pixels = colours[np.broadcast_to(mask, (96, 96)).astype(int)] + rng.integers(-8, 9, (96, 96, 3))
        path = root / kind / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def home(photos):
    return photos.parent


@pytest.fixture(scope="module")
def run(cli, home):
    def checked(*arguments, status=0):
        done = cli(*arguments, cwd=home)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return checked


@pytest.fixture(scope="module")
def embedded(run):
    return run("embed", "photos", "--into", "photos")


@pytest.fixture(scope="module")
def fitted(run, embedded):
    return json.loads(run("heads", "fit", "photos", "--name", "kind", "--json").stdout)


def test_the_bundled_model_is_small_and_proved():
    card = json.loads((BUNDLED / "trunkline-small" / "1" / "card.json").read_text())
    assert card["parity"]["status"] == "verified"
    assert card["pretrained"]
    assert card["license"] == "apache-2.0"
    assert (BUNDLED / "trunkline-small" / "1" / "model.onnx").stat().st_size <= 8_400_000


def test_embed_says_what_it_understood_and_what_comes_next(embedded, run):
    assert "60 images; 3 labels from folder names" in embedded.stdout
    assert "60 embedded with trunkline-small@1" in embedded.stdout
    assert "one export away" in embedded.stderr
    assert "next: trunkline heads fit photos" in embedded.stderr
    again = json.loads(run("embed", "photos", "--into", "photos", "--json").stdout)
    assert (again["embedded"], again["unchanged"]) == (0, 60)


def test_a_head_learns_and_predicts(fitted, run, photos):
    assert (fitted["name"], fitted["version"], fitted["kind"]) == ("kind", 1, "logistic")
    assert fitted["accuracy"] > 0.85
    paths = [f"photos/{kind}/{CLASSES.index(kind)}.jpg" for kind in CLASSES]
    predicted = json.loads(run("predict", *paths, "--head", "kind", "--json").stdout)
    assert [entry["label"] for entry in predicted] == list(CLASSES)
    assert all(0 < entry["probability"] <= 1 for entry in predicted)
    (photos.parent / "letter.txt").write_text("Dear reader,")
    done = run("predict", "letter.txt", paths[0], "--head", "kind", "--json", status=1)
    failed, served = json.loads(done.stdout)
    assert failed["reason"] == "unsupported_image"
    assert served["label"] == "stripes"


def test_search_finds_the_image_itself_first(embedded, run):
    (found,) = json.loads(
        run("search", "photos/spots/1.jpg", "--collection", "photos", "-k", "3", "--json").stdout
    )
    assert found["query"] == "photos/spots/1.jpg"
    assert found["hits"][0]["id"] == "spots/1.jpg"
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert len(found["hits"]) == 3
    arguments = (
        "search",
        "photos/spots/1.jpg",
        "--collection",
        "photos",
        "--where",
        "label = 'plain'",
        "--json",
    )
    (found,) = json.loads(run(*arguments).stdout)
    assert {hit["label"] for hit in found["hits"]} == {"plain"}


def test_collections_are_listed_shown_and_exported(embedded, run, home):
    (listed,) = json.loads(run("collections", "list", "--json").stdout)
    assert (listed["name"], listed["rows"], listed["labelled"]) == ("photos", 60, 60)
    assert "stripes" in run("collections", "show", "photos").stdout
    run("collections", "export", "photos", "--to", "photos.parquet")
    table = pq.read_table(home / "photos.parquet")
    assert {"id", "embedding", "label", "status"} <= set(table.column_names)
    assert table.num_rows == 60


def test_the_same_commands_over_a_server(fitted, run, home, start_server):
    with start_server(home) as server:
        place = ("--server", server.address, "--json")
        remote = json.loads(run("predict", "photos/plain/2.jpg", "--head", "kind", *place).stdout)
        local = json.loads(run("predict", "photos/plain/2.jpg", "--head", "kind", "--json").stdout)
        assert remote == local
        assert json.loads(run("collections", "list", *place).stdout)[0]["name"] == "photos"
        assert json.loads(run("models", "list", *place).stdout)[0]["name"] == "trunkline-small"
        assert json.loads(run("heads", "list", *place).stdout)[0]["name"] == "kind"
        assert json.loads(run("search", "photos/plain/2.jpg", "--collection", "photos", *place).stdout)
        again = json.loads(run("heads", "fit", "photos", "--name", "kind", *place).stdout)
        assert (again["version"], again["serving"], again["accuracy"]) == (2, 2, fitted["accuracy"])
        assert json.loads(run("heads", "rollback", "kind", *place).stdout)["serving"] == 1


def test_errors_are_sentences(run, home):
    for arguments, words in (
        (("embed", "absent", "--into", "c"), "does not exist"),
        (("predict", "photos/plain/2.jpg", "--head", "../etc"), "can't name a head"),
        (("search", "photos/plain/2.jpg", "--collection", "phots"), "photos"),
        (("heads", "fit", "absent", "--name", "h"), "absent"),
        (("models", "show", "trunkline-smal"), "did you mean 'trunkline-small'"),
    ):
        assert words in run(*arguments, status=1).stderr


def test_the_demo_works_on_a_users_folder(run, photos):
    text = run("demo", "photos").stdout
    assert "cross-validated accuracy" in text
    assert "2 served; image 1:" in text
    assert "look up neighbours" in text
    assert "trunkline serve" in text


def test_the_demo_works_on_its_own_images(cli, tmp_path):
    done = cli("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1,797 embedded" in done.stdout
    assert "china.jpg -> 192 floats" in done.stdout
