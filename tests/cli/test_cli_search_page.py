"""The page of `trunkline search --html` and `--open`: what it shows, and that a real browser loads nothing for it."""

from __future__ import annotations

import html
import json
import re
import webbrowser
from pathlib import Path
from urllib.parse import unquote, urlparse

import click.testing
import numpy as np
import pytest
from tests.heads.report.browser import CHROMIUM, browser

import trunkline
from trunkline_service.cli.app import trunkline_command
from trunkline_service.cli.search import page as page_module

HOSTILE = "<script>alert(1)</script>"
GENERATOR = np.random.default_rng(5)
PIXELS = [
    np.kron(GENERATOR.integers(0, 256, (4, 4, 3), np.uint8), np.ones((8, 8, 1), np.uint8)) for _ in range(6)
]


@pytest.fixture
def home(tmp_path, monkeypatch, publish_tiny, png):
    """A folder with images and the collection ``photos`` of them; the last row's source is gone."""
    monkeypatch.chdir(tmp_path)
    publish_tiny(tmp_path / "models")
    monkeypatch.setenv("TRUNKLINE_DEFAULT_MODEL", "tiny")
    (tmp_path / "pics").mkdir()
    paths = [tmp_path / "pics" / f"{index}.png" for index in range(6)]
    for path, pixels in zip(paths, PIXELS, strict=True):
        path.write_bytes(png(pixels))
    (tmp_path / "pics" / "broken.png").write_bytes(b"text")
    ids = [f"i{index}" for index in range(5)]
    with trunkline.open(default_model="tiny") as client:
        client.add("photos", paths[:5], ids, sources=[str(path) for path in paths[:5]])
        client.add("photos", PIXELS[5:], [HOSTILE], ['<b>bold</b> & "quoted"'])
    paths[4].unlink()
    return tmp_path


def search(*words, status=0):
    done = click.testing.CliRunner().invoke(trunkline_command, ["search", *words, "--collection", "photos"])
    assert done.exit_code == status, done.output + repr(done.exception)
    return done


def pictures(text):
    """Whether each place for an image holds one, or says why not."""
    return [html.unescape(found) for found in re.findall(r'class="picture"><(?:p>([^<]*)|img)', text)]


def test_hits_are_shown_with_their_images(home):
    done = search("pics/0.png", "-k", "6", "--html", "page.html")
    assert done.stdout.splitlines()[-1] == "wrote page.html"
    text = Path("page.html").read_text()
    assert sorted(pictures(text)) == ["", "", "", "", "", "file can't be read", "source not recorded"]
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "<script" not in text
    assert "every one of 6 rows compared" in text
    assert "<title>photos@3: search</title>" in text
    assert "could be shown" not in done.stderr


def test_the_page_beside_json(home):
    done = search("--id", "i0", "-k", "1", "--html", "page.html", "--json")
    assert json.loads(done.stdout)[0]["query"] == "i0"
    assert "wrote page.html" in done.stderr
    # The query's image is the row's.
    assert pictures(Path("page.html").read_text()) == ["", ""]


def test_a_query_that_failed_says_why(home):
    search("pics/broken.png", "pics/0.png", "-k", "1", "--html", "page.html", status=1)
    text = Path("page.html").read_text()
    assert 'class="failure">' in text
    assert pictures(text) == ["image can't be decoded", "", ""]


def test_only_images_below_the_root_are_shown(home):
    (home / "other").mkdir()
    search("pics/0.png", "-k", "1", "--html", "page.html", "--root", "other")
    # The query was named on the command line.
    assert pictures(Path("page.html").read_text()) == ["", "outside the image folder"]


def test_vectors_have_no_image(home):
    np.save("q.npy", np.ones((1, 48), np.float32))
    search("--vector", "q.npy", "-k", "1", "--html", "page.html")
    assert pictures(Path("page.html").read_text())[0] == "a vector"


def test_the_images_of_a_page_are_bounded(home, monkeypatch):
    monkeypatch.setattr(page_module, "MOST_IMAGES", 2)
    search("pics/0.png", "-k", "3", "--html", "page.html")
    shown = pictures(Path("page.html").read_text())
    assert shown.count("") == 2
    assert "the page shows 2 images" in shown


def test_without_a_browser_the_page_is_named(home, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    done = search("pics/0.png", "--open")
    assert "no browser was found here" in done.stderr
    written = Path(unquote(urlparse(opened[0]).path))
    assert f"wrote {written}" in done.stdout
    assert pictures(written.read_text())[0] == ""


def test_a_page_that_can_not_be_written_is_refused_before_the_search(home):
    done = search("absent.png", "--html", "absent/page.html", status=2)
    assert "absent/page.html can't be written: there is no folder absent" in done.stderr


def test_where_no_image_of_a_hit_could_be_shown_the_terminal_says_so(home):
    (home / "other").mkdir()
    done = search("pics/0.png", "-k", "1", "--html", "page.html", "--root", "other")
    assert "no image of a hit could be shown" in done.stderr


def test_hits_of_a_group_stand_together():
    assert page_module.together(["a", "b", None, "a", None, "b"]) == [0, 3, 1, 5, 2, 4]
    assert page_module.together([None, None]) == [0, 1]


def test_a_page_says_why_there_are_no_hits(home):
    search("pics/0.png", "--where", "id = 'absent'", "--html", "page.html")
    assert "No row meets the condition." in Path("page.html").read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_it_and_loads_nothing(home, tmp_path):
    search("pics/0.png", "pics/1.png", "-k", "6", "--collapse", "0.5", "--html", "page.html")
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "page.html", tmp_path)
        # Images out of sight are not loaded before they are asked for; one that can't be decoded raises.
        page.run(
            "Promise.all([...document.images].map((i) => ((i.loading = 'eager'), i.decode()))).then(() => 1)"
        )
        assert page.run("document.images.length") > 2
        assert page.run("document.querySelectorAll('section').length") == 2
        assert page.run("getComputedStyle(document.querySelector('.hits')).display") == "grid"
        texts = page.run("[...document.querySelectorAll('p, li')].map((element) => element.textContent)")
        assert HOSTILE in texts
        page.call(
            "Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=True
        )
        assert page.run("document.documentElement.scrollWidth") <= 360
        troubles = [
            event
            for event in page.events
            if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")
        ]
        loaded = {
            event["params"]["request"]["url"].partition(":")[0]
            for event in page.events
            if event.get("method") == "Network.requestWillBeSent"
        }
    assert troubles == []
    assert loaded <= {"file", "data"}
