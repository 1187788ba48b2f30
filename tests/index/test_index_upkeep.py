"""When an index is due."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.index.points import segment, view_of

from trunkline_service.index.card import IndexCard, Level, Recall
from trunkline_service.index.options import IndexKind, IndexOptions
from trunkline_service.index.segment import at_fragments
from trunkline_service.index.upkeep import Wear, is_due, is_stale, wear_of
from trunkline_service.index.view import View

AUTO = IndexOptions()


def card(kind: IndexKind, rows: int, held_out: int = 0, options: IndexOptions = AUTO) -> IndexCard:
    recall = Recall(10, 1.0, 1.0, 100, 1, rows)
    levels = () if kind == "flat" else (Level(1, recall),)
    values = dict.fromkeys(("build", "collection", "uid", "space_id", "reason", "created_at"), "x")
    return IndexCard(
        **values,
        dim=1,
        metric="cosine",
        version=1,
        kind=kind,
        rows=rows,
        held_out=held_out,
        parameters={},
        levels=levels,
        effort=1,
        recall=None if kind == "flat" else recall,
        settings=(),
        options=options,
        seconds=1.0,
        nbytes=0,
        files=(),
        made_by={},
    )


def flat(rows: int) -> View:
    return view_of(segment(np.ones((rows, 1), np.float32))) if rows else view_of()


def indexed(
    rows: int, held_out: int = 0, delta: int = 0, dead: int = 0, options: IndexOptions = AUTO
) -> View:
    first = segment(np.ones((rows, 1), np.float32), effort=1)
    beside = segment(np.ones((held_out + delta, 1), np.float32), first=rows)
    view = view_of(first, *([beside] if held_out + delta else []))
    part = view.parts[0]
    parts = (at_fragments(part, np.arange(rows) >= dead, part.fragment), *view.parts[1:])
    made = card("ivf_flat", rows, held_out, options)
    return replace(view, parts=parts, card=made, recall=made.recall)


def test_what_an_index_holds_out_does_not_wear_it() -> None:
    assert wear_of(indexed(5000, held_out=50)) == Wear(5050, 0, 0)
    assert wear_of(indexed(5000, held_out=50, delta=7, dead=3)) == Wear(5054, 7, 3)
    assert wear_of(flat(30)) == Wear(30, 30, 0)
    assert wear_of(flat(0)) == Wear(0, 0, 0)


@pytest.mark.parametrize(
    ("delta", "dead", "due"),
    [(0, 0, False), (1000, 0, False), (0, 1000, False), (501, 500, True), (1001, 0, True)],
)
def test_an_index_is_due_again_once_a_thousand_rows_and_a_tenth_changed(
    delta: int, dead: int, due: bool
) -> None:
    assert is_due(indexed(5000, 50, delta, dead), AUTO, 100) is due
    assert is_due(indexed(50_000, 50, delta, dead), AUTO, 100) is False


@pytest.mark.parametrize(
    ("kind", "rows", "due"),
    [
        ("auto", 200, False),
        ("auto", 2001, True),
        ("flat", 2001, False),
        ("lance", 2001, False),
        ("hnsw", 1000, False),
        ("hnsw", 1001, True),
    ],
)
def test_a_first_index_is_due_by_the_rows_or_because_it_is_wished(kind: str, rows: int, due: bool) -> None:
    assert is_due(flat(rows), IndexOptions(kind=kind), 2000) is due  # type: ignore[arg-type]


def test_where_comparing_all_was_better_it_is_tried_again_at_twice_the_rows() -> None:
    for rows, due in ((1000, False), (2000, False), (2001, True)):
        assert is_due(replace(flat(rows), card=card("flat", 1000)), AUTO, 500) is due


def test_other_wishes_make_an_index_due() -> None:
    wished = IndexOptions(recall=0.999)
    assert is_due(indexed(5000), wished, 100)
    assert not is_due(indexed(5000, options=wished), wished, 100)
    assert not is_due(indexed(5000), wished, 10_000)
    assert is_due(indexed(5000), IndexOptions(kind="hnsw"), 10_000)


def test_a_measurement_is_stale_once_a_tenth_of_the_rows_came_or_went() -> None:
    assert not is_stale(flat(5000))
    assert not is_stale(indexed(5000, delta=1000))
    assert is_stale(indexed(5000, delta=1001))
    assert is_stale(indexed(5000, dead=1001))
    assert not is_stale(indexed(50_000, delta=1001))
    assert not is_stale(replace(indexed(5000, delta=1001), recall=None))
