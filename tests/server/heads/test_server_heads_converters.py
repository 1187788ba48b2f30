"""Between messages and heads: the top k, the size of a reply, options that are left out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trunkline_protos.v1 import heads_pb2
from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.options import FitOptions
from trunkline_service.server import head_converters


def test_a_request_of_an_older_client_names_its_head():
    # Field 1 was `string head`.
    assert list(heads_pb2.PredictRequest.FromString(b"\x0a\x07flowers").heads) == ["flowers"]


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(0, 6), st.integers(1, 9)), elements=st.floats(0, 1, width=32)
    ),
    st.integers(1, 12),
)
def test_the_top_k_are_the_largest_in_order(outputs, top_k):
    classes = [f"c{k}" for k in range(outputs.shape[1])]
    message = heads_pb2.Prediction()
    head_converters._write_top(message, classes, outputs, top_k)
    k = min(top_k, len(classes))
    figures = np.array(message.top.probabilities, np.float32).reshape(len(outputs), k)
    np.testing.assert_array_equal(figures, -np.sort(-outputs, axis=1)[:, :k])
    named = [message.classes[position] for position in message.top.classes]
    for row, names in enumerate(np.array(named, object).reshape(len(outputs), k)):
        assert len(set(names)) == k
        for name, figure in zip(names, figures[row], strict=True):
            assert outputs[row][classes.index(name)] == figure


def test_a_reply_that_would_be_too_large_is_refused_in_words():
    def check(most_bytes, items=100, **wishes):
        cards = [SimpleNamespace(classes="c" * count, task="single-label", dim=48) for count in (5, 7)]
        head_converters.check_size(cards, items, most_bytes, **wishes)

    check(4800)
    with pytest.raises(InvalidArgument, match=r"100 items with 12 outputs each take .* the top k"):
        check(4799)
    check(1600, top_k=1)
    with pytest.raises(InvalidArgument, match=r"100 items with 2 outputs each take .* a smaller top k"):
        check(1599, top_k=1)
    check(4800 + 400 * 48, with_embeddings=True)
    with pytest.raises(InvalidArgument, match=r"12 outputs each and its embedding take"):
        check(4799 + 400 * 48, with_embeddings=True)
    with pytest.raises(
        InvalidArgument, match=r"more than 134217728 numbers, the most that one call computes"
    ):
        check(2**40, 2**27 // 12 + 1, top_k=1)


def test_options_that_are_left_out_are_the_kinds_own():
    assert head_converters.fit_options_from(heads_pb2.FitOptions()) == FitOptions()
    message = heads_pb2.FitOptions(folds=3, grid=[0.1, 1], seed=4, normal="ok", device="cuda")
    assert head_converters.fit_options_from(message) == FitOptions(
        folds=3, grid=(0.1, 1.0), seed=4, normal="ok", device="cuda"
    )
