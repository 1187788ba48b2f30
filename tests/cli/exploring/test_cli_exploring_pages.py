"""The pages about whole collections: bounded, escaped, and in a real browser."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from tests.heads.report.browser import CHROMIUM, browser

from trunkline.explore import (
    Cluster,
    Clusters,
    DuplicateGroup,
    DuplicateRow,
    Duplicates,
    ExploredRow,
    Map,
    Outlier,
    Outliers,
)
from trunkline_service.cli.collections.exploring import (
    clusters_page,
    duplicates_page,
    map_page,
    outliers_page,
)
from trunkline_service.cli.collections.exploring.colours import PALETTE, REST, legend
from trunkline_service.cli.collections.exploring.map_picture import draw_png
from trunkline_service.cli.collections.exploring.pictures import Pictures

HOSTILE = "</script><script>alert(1)</script>"
EXPLORED = {"collection": "things", "version": 3, "space_id": "sp1", "metric": "cosine"}
POINTS = 300


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for at in range(40):
        Image.fromarray(generator.integers(0, 255, (50, 70, 3), np.uint8)).save(folder / f"{at}.png")
    return folder


@pytest.fixture(scope="module")
def row(images):
    def make(at, label=HOSTILE):
        return ExploredRow(f"{HOSTILE}{at}", label, "train", str(images / f"{at}.png"), 1000)

    return make


@pytest.fixture(scope="module")
def chart(row):
    """A map of 300 points, of which the first 40 have an image."""
    places = np.random.default_rng(0).normal(size=(POINTS, 2)).astype(np.float32)
    points = tuple(row(at, ("x", "y", None)[at % 3]) for at in range(POINTS))
    return Map(
        **EXPLORED,
        rows=POINTS,
        method="pca",
        explained=(0.5, 0.25),
        points=points,
        places=places,
        clusters=np.arange(POINTS) % 4,
    )


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page).group(1))


def check_frame(page, scripts):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert "default-src &#x27;none&#x27;" in policy or "default-src 'none'" in policy
    assert page.count("<script") == scripts
    assert HOSTILE not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert " style=" not in page


def test_pages_hold_texts_as_texts(row, chart, images):
    pair = DuplicateGroup((DuplicateRow(row(0)), DuplicateRow(row(1, "y"), row(0).id, 0.98)))
    duplicates = Duplicates(
        **EXPLORED,
        rows=9,
        threshold=0.97,
        pair_count=1,
        pairs=(),
        groups=(pair,),
        exact=False,
        recall=0.99,
        recall_pairs=7,
    )
    outlier = Outlier(row(2), 0.5, 2.0, f"nothing is like {HOSTILE}", row(3), 0.4)
    outliers = Outliers(**EXPLORED, rows=9, neighbours=3, usual=0.2, outliers=(outlier,))
    cluster = Cluster(0, 9, 0.8, (row(4), row(5)), {HOSTILE: 5, "y": 4}, 9)
    clusters = Clusters(
        **EXPLORED, rows=9, chosen=True, silhouette=0.1, clusters=(cluster,), ids=[], numbers=np.zeros(0)
    )
    page = duplicates_page.render(duplicates, images)
    check_frame(page, 0)
    assert "labels differ" in page
    assert "found 99.0% of 7 pairs of a sample" in page
    check_frame(outliers_page.render(outliers, images), 0)
    page = clusters_page.render(clusters, images)
    check_frame(page, 0)
    assert "they run into one another" in page
    check_frame(map_page.render(chart, images, 10), 2)


def test_a_page_holds_some_groups_those_with_a_conflict_first(row):
    plain = DuplicateGroup(
        tuple(DuplicateRow(row(at, "x"), None if at == 0 else "k", 0.99) for at in range(30))
    )
    doubtful = DuplicateGroup((DuplicateRow(row(0, "x")), DuplicateRow(row(1, "y"), "k", 0.98)))
    groups = (*[plain] * (duplicates_page.MOST_GROUPS + 4), doubtful)
    found = Duplicates(**EXPLORED, rows=9, threshold=0.9, pair_count=1, pairs=(), groups=groups)
    page = duplicates_page.render(found, None)
    # Numbered as they stand there, under headings.
    headings = re.findall(r"<h2[^>]*>([^<]*)|<h3>Group (\d+): (\d+) rows", page)
    assert headings[:4] == [("Labels differ", "", ""), ("", "1", "2"), ("The rest", "", ""), ("", "2", "30")]
    assert headings[-1] == ("", str(duplicates_page.MOST_GROUPS), "30")
    assert page.count("<section") == duplicates_page.MOST_GROUPS
    assert "and 6 more" in page
    assert "5 more groups are not shown" in page


def test_images_are_bounded_in_number_and_bytes(images):
    sources = [str(images / f"{at % 40}.png") for at in range(100)]
    for bound, least in (({"most": 30}, 30), ({"most_bytes": 50_000}, 5)):
        made = list(Pictures(images, **bound).of_each(sources))
        assert len(made) == 100
        kept = [copy.uri for copy in made if copy.uri is not None]
        assert least <= len(kept) < 60
        assert made[0].uri is not None
        assert made[-1].reason == "there are more images than a page holds"
    # The last one that is let in may pass the bound.
    assert sum(map(len, kept)) < 50_000 + max(map(len, kept))
    assert list(Pictures(images).of_each([])) == []


def test_images_are_spread_over_the_map(chart, images):
    places = np.array([[0, 0]] * 50 + [[9999, 9999], [0, 9999]], np.int64)
    assert map_page.spread(places, 3) == [0, 50, 51]
    assert map_page.spread(places, 99) == list(range(52))
    assert map_page.spread(places, 0) == []
    data = data_of(map_page.render(chart, images, 20))
    assert 0 < len(data["images"]) <= 20
    assert len(data["x"]) == len(data["ids"]) == len(data["labels"]) == POINTS
    assert 0 <= min(data["x"]) <= max(data["x"]) <= 10_000
    top = int(chart.places[:, 1].argmax())
    assert data["y"][top] == min(data["y"])
    assert data["legends"]["label"]["names"] == ["x", "y", "no label"]


def test_rare_labels_share_a_colour(row):
    labels = [f"kind {at // 3:02}" for at in range(60)] + [None]
    found = Map(
        **EXPLORED,
        rows=61,
        method="umap",
        explained=None,
        points=tuple(row(at, label) for at, label in enumerate(labels)),
        places=np.zeros((61, 2), np.float32),
        clusters=np.zeros(61, np.int64),
    )
    names = legend(found, "label")
    assert names.names[-2:] == ("9 others", "no label")
    assert names.colours[-2:] == (REST, REST)
    assert len(names.names) == len(PALETTE) + 2
    assert names.counts[-2:] == (27, 1)
    assert np.bincount(names.codes).tolist() == list(names.counts)
    assert legend(found, "cluster").names == ("cluster 1",)
    # All points in one place, and more names than there is room for.
    assert draw_png(found, "label").size == (1600, 1200)


@pytest.mark.parametrize("length", [1e-44, 3e38])
def test_places_of_any_length_fill_the_page(chart, length):
    places = np.array([[-length, 0], [length, length], [0, -length]], np.float32)
    scaled = map_page._scaled(places)
    assert (scaled.min(), scaled.max()) == (0, 10_000)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_map_in_a_browser(chart, images, tmp_path):
    path = tmp_path / "map.html"
    path.write_text(map_page.render(chart, images, 40))
    with browser(tmp_path / "profile") as page:
        page.open(path, tmp_path)
        page.call(
            "Emulation.setDeviceMetricsOverride", width=1000, height=800, deviceScaleFactor=1, mobile=False
        )
        settle = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        page.run(settle)
        colours = """(() => { const c = document.getElementById('map');
          const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
          const seen = new Set(); let sum = 0;
          for (let i = 0; i < p.length; i += 4) if (p[i + 3] > 150) { seen.add(p[i] >> 5 | p[i + 1] >> 5 << 3 | p[i + 2] >> 5 << 6); sum += 1; }
          return [seen.size, sum]; })()"""
        kinds, drawn = page.run(colours)
        assert kinds >= 3
        assert drawn > POINTS

        # Where the pointer is, a point shows its image, label and id, all of them as text.
        x, y = page.run(
            """(() => { const d = JSON.parse(document.getElementById('data').textContent);
              const b = document.getElementById('map').getBoundingClientRect();
              const at = Object.keys(d.images).map(Number).sort((a, b) => d.y[b] - d.y[a])[0]; const u = 0.92 * Math.min(b.width, b.height) / 10000;
              return [b.left + b.width / 2 + (d.x[at] - 5000) * u, b.top + b.height / 2 + (d.y[at] - 5000) * u]; })()"""
        )
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        page.run(settle)
        assert page.run("document.getElementById('card').hidden") is False
        assert page.run("document.querySelector('#card img').src").startswith("data:image/jpeg")
        assert page.run("document.querySelector('#card .id').textContent").startswith(HOSTILE)
        page.run("document.querySelector('#card img').decode()")
        page.run(settle)
        # Also at the lower edge the card is seen whole.
        below = "document.querySelector('.stage').getBoundingClientRect().bottom - document.getElementById('card').getBoundingClientRect().bottom"
        assert page.run(below) >= 0
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
        page.run(settle)
        assert page.run("document.getElementById('card').hidden") is True

        # Zoom changes what is drawn, and "All" brings it back.
        page.run("document.getElementById('in').click()")
        page.run(settle)
        assert page.run(colours)[1] != drawn
        page.run("document.getElementById('all').click()")
        page.run(settle)
        assert page.run(colours)[1] == drawn
        page.call("Input.dispatchMouseEvent", type="mouseWheel", x=500, y=500, deltaX=0, deltaY=-400)
        page.run(settle)
        assert page.run(colours)[1] != drawn
        page.run("document.getElementById('map').focus()")
        page.call("Input.dispatchKeyEvent", type="keyDown", key="0")
        page.run(settle)
        assert page.run(colours)[1] == drawn

        # A category can be hidden; colours can mean clusters.
        page.run("document.querySelector('#legend button').click()")
        page.run(settle)
        assert page.run(colours)[1] < drawn
        page.run("document.querySelectorAll('#by button')[1].click()")
        assert page.run("document.querySelectorAll('#legend button').length") == 4
        assert page.run("document.querySelector('#legend button').textContent") == "cluster 175"

        page.run("document.getElementById('find').focus()")
        page.call("Input.insertText", text=f"{HOSTILE}29")
        assert page.run("document.getElementById('found').textContent") == "11 points"

        page.call(
            "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True
        )
        page.run(settle)
        assert page.run("document.documentElement.scrollWidth") <= 360
        entries = [e["params"]["entry"] for e in page.events if e.get("method") == "Log.entryAdded"]
        # What this test itself reads so often.
        troubles = [entry for entry in entries if "getImageData" not in entry["text"]]
        raised = [event for event in page.events if event.get("method") == "Runtime.exceptionThrown"]
        dialogs = [e for e in page.events if e.get("method") == "Page.javascriptDialogOpening"]
        loaded = {
            event["params"]["request"]["url"].partition(":")[0]
            for event in page.events
            if event.get("method") == "Network.requestWillBeSent"
        }
        assert (troubles, raised, dialogs) == ([], [], [])
        assert loaded <= {"file", "data"}


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_duplicates_in_a_browser(row, images, tmp_path):
    group = DuplicateGroup((DuplicateRow(row(0)), DuplicateRow(row(1, "y"), row(0).id, 0.98)))
    found = Duplicates(**EXPLORED, rows=9, threshold=0.97, pair_count=1, pairs=(), groups=(group,))
    path = tmp_path / "duplicates.html"
    path.write_text(duplicates_page.render(found, images))
    with browser(tmp_path / "profile") as page:
        page.open(path, tmp_path)
        shown = "[...document.images].map((image) => image.complete && image.naturalWidth)"
        page.run("Promise.all([...document.images].map((image) => image.decode()))")
        assert page.run(shown) == [70, 70]
        assert page.run("document.querySelector('.kept .id').textContent") == f"{HOSTILE}0"
        page.call(
            "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True
        )
        assert page.run("document.documentElement.scrollWidth") <= 360
        assert [
            e for e in page.events if e.get("method") in ("Log.entryAdded", "Page.javascriptDialogOpening")
        ] == []
