"""What is said of clusters, maps and distances."""

from __future__ import annotations

import dataclasses

import numpy as np

from trunkline.explore import Cluster, Clusters, ExploredRow, Map
from trunkline_service.cli.collections.exploring import clusters_page, map_page
from trunkline_service.cli.collections.exploring.clusters import more_words, summary
from trunkline_service.cli.collections.exploring.duplicates_words import score_words
from trunkline_service.cli.collections.exploring.map import better_words
from trunkline_service.cli.collections.exploring.outliers import ordinal
from trunkline_service.cli.collections.exploring.shared import distance_words

EXPLORED = {"collection": "things", "version": 3, "space_id": "sp1", "metric": "cosine"}


def clusters_of(count, silhouette, rows=900, chosen=True):
    cluster = Cluster(0, 9, 0.8, (ExploredRow("r4"),), {}, 0)
    return Clusters(
        **EXPLORED,
        rows=rows,
        chosen=chosen,
        silhouette=silhouette,
        clusters=(cluster,) * count,
        ids=[],
        numbers=np.zeros(0),
    )


def test_clusters_that_are_hardly_any_or_may_be_more():
    assert "so the rows hardly fall into clusters" in summary(clusters_of(3, 0.04))
    assert "so they run into one another" in summary(clusters_of(3, 0.2))
    assert summary(clusters_of(3, 0.6)).endswith("mean silhouette 0.60")
    found = clusters_of(64, 0.3)
    assert more_words(found) == ("64 is the most that was tried for 900 rows; for more, ask with -k")
    assert "64 is the most" in clusters_page.render(found, None)
    assert "16 is the most" in more_words(clusters_of(16, 0.3, rows=130))
    assert more_words(clusters_of(48, 0.3)) is None
    assert more_words(clusters_of(64, 0.3, chosen=False)) is None
    assert more_words(clusters_of(1, None, rows=5)) is None


def test_a_plane_that_shows_little_says_what_shows_more():
    points = tuple(ExploredRow(f"r{at}") for at in range(3))
    chart = Map(
        **EXPLORED,
        rows=3,
        method="pca",
        explained=(0.5, 0.25),
        points=points,
        places=np.eye(3, 2, dtype=np.float32),
        clusters=np.zeros(3, np.int64),
    )
    assert better_words(chart) is None
    little = dataclasses.replace(chart, explained=(0.03, 0.012))
    words = "PCA shows 4% of what differs; --method umap (pip install 'trunkline[server,map]') shows neighbourhoods"
    assert better_words(little) == words
    assert "PCA shows 4% of what differs" in map_page.render(little, None, 0)
    for explained in (None, (0.0, 0.0)):
        assert better_words(dataclasses.replace(chart, explained=explained)) is None


def test_distances_in_words():
    assert [distance_words(each) for each in (0, 0.0123, 2.5, 3.3e25, -4e-25)] == (
        ["0.000", "0.012", "2.500", "3.3e+25", "-4e-25"]
    )
    assert [score_words(each) for each in (-0.0, 0.97, 1.0, -3.3e25)] == [
        "0.0000",
        "0.9700",
        "1.0000",
        "-3.3e+25",
    ]


def test_ordinals():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 100)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "100th"]
    )
