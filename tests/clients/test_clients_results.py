"""How results show themselves and become tables."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import trunkline


@pytest.fixture
def failure() -> trunkline.ItemFailure:
    return trunkline.ItemFailure(11, "<b>cat</b>.jpg", "corrupt_image", "damaged & broken")


@pytest.fixture
def embedded(failure) -> trunkline.EmbedResult:
    vectors = np.array([[1, 2], [np.nan, np.nan]], np.float32)
    model = trunkline.ModelRef("m", 1, "sp1-x", "ar1-x", 2, "exact")
    return trunkline.EmbedResult(
        vectors=vectors, model=model, inputs=["a.jpg", failure.source], errors=[failure], start=10
    )


def test_one_line_says_what_there_is(embedded):
    line = repr(embedded)
    assert line == (
        "EmbedResult(2 items, dim 2, dtype float32, model m@1, space sp1-x, 1 failed: #11 corrupt_image)"
    )


def test_notebooks_get_a_table_in_which_everything_is_escaped(embedded):
    html = embedded._repr_html_()
    assert "&lt;b&gt;cat&lt;/b&gt;.jpg" in html
    assert "damaged &amp; broken" in html
    assert "<b>" not in html
    assert "m@1" in html


def test_many_failures_are_not_all_shown():
    failures = [trunkline.ItemFailure(i, "", "r", f"message {i}") for i in range(9)]
    result = trunkline.AddResult(ids=[None] * 9, inputs=[""] * 9, errors=failures)
    assert "message 4" in result._repr_html_()
    assert "message 5" not in result._repr_html_()
    assert "4 more" in result._repr_html_()
    assert repr(result).endswith("#4 r, ...)")


def test_the_mask_counts_from_the_start(embedded):
    assert embedded.ok.tolist() == [True, False]
    assert embedded.ok.dtype == np.bool_
    assert len(embedded) == 2


def test_embed_to_pandas(embedded):
    frame = embedded.to_pandas()
    assert list(frame.columns) == ["source", "embedding", "error"]
    assert list(frame.index) == [10, 11]
    np.testing.assert_array_equal(frame.loc[10, "embedding"], [1, 2])
    assert frame.loc[11, "embedding"] is None
    assert frame.loc[11, "error"] == "corrupt_image"


def test_add_and_predict_to_pandas(failure):
    added = trunkline.AddResult(ids=["x", None], inputs=["a", "b"], errors=[failure], start=10)
    assert added.to_pandas()["id"].iloc[0] == "x"
    predicted = trunkline.PredictResult(
        labels=["rose", None],
        probabilities=np.array([[0.25, 0.75], [np.nan, np.nan]], np.float32),
        classes=("lily", "rose"),
        inputs=["a", "b"],
        errors=[failure],
        start=10,
    )
    frame = predicted.to_pandas()
    assert list(frame.columns) == ["source", "label", "probability", "p(lily)", "p(rose)", "error"]
    assert frame.loc[10, "probability"] == 0.75
    assert np.isnan(frame.loc[11, "probability"])


def test_search_to_pandas_has_one_row_a_hit():
    found = trunkline.SearchResult(
        ids=[["a", "b"], [], ["c"]],
        scores=[[1.0, 0.5], [], [0.25]],
        labels=[["x", None], [], ["y"]],
        sources=[["1", "2"], [], ["3"]],
        inputs=["", "", ""],
    )
    frame = found.to_pandas()
    assert frame["query"].tolist() == [0, 0, 2]
    assert frame["rank"].tolist() == [1, 2, 1]
    assert frame["id"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["embed", "add", "predict", "search"])
def test_empty_results_are_empty_tables(kind):
    result = {
        "embed": lambda: trunkline.EmbedResult(vectors=np.empty((0, 0), np.float32)),
        "add": lambda: trunkline.AddResult(ids=[]),
        "predict": lambda: trunkline.PredictResult(labels=[], probabilities=np.empty((0, 0), np.float32)),
        "search": lambda: trunkline.SearchResult(ids=[], scores=[], labels=[], sources=[]),
    }[kind]()
    assert len(result.to_pandas()) == 0
    assert "0 items" in repr(result)
    assert result.ok.shape == (0,)


def test_without_pandas_the_message_says_what_to_install(embedded, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(trunkline.MissingExtra, match="pip install pandas"):
        embedded.to_pandas()
