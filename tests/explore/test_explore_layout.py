"""Maps: PCA as scikit-learn's, a sample of many rows, and UMAP where it is installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA

from trunkline_service.errors import InvalidArgument, MissingExtra, NotEnoughData
from trunkline_service.explore import layout
from trunkline_service.explore.layout import draw_map


def test_the_plane_is_the_one_of_the_largest_variance(make_live, clouds, monkeypatch):
    monkeypatch.setattr(layout, "_BLOCK_ROWS", 17)
    vectors, of = clouds([60, 50, 40])
    found = draw_map(make_live(vectors, compared="euclidean"), clusters=3)
    theirs = PCA(2, svd_solver="full").fit(vectors)
    places = theirs.transform(vectors)
    flipped = np.sign((places * found.places).sum(axis=0))
    np.testing.assert_allclose(found.places, places * flipped, atol=1e-4)
    assert found.explained == pytest.approx(tuple(theirs.explained_variance_ratio_), abs=1e-5)
    assert [len(set(found.clusters[of == cloud].tolist())) for cloud in range(3)] == [1, 1, 1]
    # The largest cluster is the first one.
    assert found.clusters[0] == 0
    assert [row.id for row in found.points[:2]] == ["r0", "r1"]
    np.testing.assert_array_equal(draw_map(make_live(vectors, compared="euclidean")).places, found.places)


def test_of_many_rows_a_sample_is_shown_in_the_plane_of_all(make_live, clouds):
    vectors, _ = clouds([150, 100])
    whole = draw_map(make_live(vectors))
    part = draw_map(make_live(vectors), points=40)
    assert (part.rows, len(part.points), part.places.shape) == (250, 40, (40, 2))
    positions = [int(row.id[1:]) for row in part.points]
    assert positions == sorted(set(positions))
    np.testing.assert_allclose(part.places, whole.places[positions], atol=1e-6)
    assert part.explained == whole.explained


@pytest.mark.parametrize("vectors", [[[1.0, 2.0]], [[3.0], [4.0], [5.0]], [[1.0, 1.0]] * 4])
def test_maps_of_no_width(make_live, vectors):
    found = draw_map(make_live(vectors, compared="euclidean"))
    assert found.places.shape == (len(vectors), 2)
    assert np.isfinite(found.places).all()
    assert found.explained is not None
    assert 0 <= sum(found.explained) <= 1 + 1e-6
    np.testing.assert_allclose(found.places[:, 1], 0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "tsne"}, "'pca' or 'umap'"),
        ({"points": 0}, "1 to 100,000"),
        ({"points": 100_001}, "1 to 100,000"),
        ({"clusters": 0}, "4 points make 1 to 4"),
        ({"clusters": 3, "points": 2}, "2 points make 1 to 2"),
    ],
)
def test_options_that_can_not_be(make_live, options, words):
    with pytest.raises(InvalidArgument, match=words):
        draw_map(make_live(np.eye(4)), **options)


def test_no_rows(make_live):
    with pytest.raises(NotEnoughData, match="no rows"):
        draw_map(make_live(np.empty((0, 3))))


def test_umap_that_is_not_installed_says_what_to_do(make_live, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"pip install 'trunkline\[server,map\]'"):
        draw_map(make_live(np.eye(4)), "umap")


# It warns of what it is built without, and numba of what it compiles.
@pytest.mark.filterwarnings("ignore")
def test_umap_keeps_neighbours(make_live, clouds):
    pytest.importorskip("umap", reason="the extra 'map' is not installed", exc_type=ImportError)
    vectors, of = clouds([40, 40, 40])
    found = draw_map(make_live(vectors), "umap")
    assert (found.method, found.explained, found.places.shape) == ("umap", None, (120, 2))
    apart = np.linalg.norm(found.places[:, None] - found.places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (of[apart.argmin(axis=1)] == of).mean() > 0.95
    assert draw_map(make_live(vectors[:4]), "umap").places.shape == (4, 2)
