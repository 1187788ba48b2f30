"""What a job knows of a collection is what a dictionary would know."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.known import Known, Verdict, stamp
from trunkline_service.collections.rows import Row

ids = st.text("abcé", min_size=1, max_size=2)
sizes = st.none() | st.integers(0, 3)
mtimes = st.none() | st.sampled_from([0.0, 1.0, 1.5])
etags = st.none() | st.sampled_from(["", "e", "f"])
hashes = st.sampled_from(["", "h1", "h2", "h3"])
sources = st.sampled_from(["", "/a", "/b"])
facts = st.tuples(st.sampled_from(["ok", "error"]), sizes, mtimes, etags, hashes, sources)
stored = st.dictionaries(ids, facts, max_size=12)


def known_of(rows: dict[str, tuple[object, ...]], batch: int) -> Known:
    items = [(row_id, *fact) for row_id, fact in rows.items()]
    return Known(
        list(zip(*items[start : start + batch], strict=True)) for start in range(0, len(items), batch)
    )


def verdict(
    rows: dict[str, tuple[object, ...]], row_id: str, size: object, mtime: object, etag: object
) -> Verdict:
    if row_id not in rows:
        return Verdict.NEW
    status, old_size, old_mtime, old_etag, *_ = rows[row_id]
    by_tag = bool(etag) and bool(old_etag)
    same = (size, etag) == (old_size, old_etag) if by_tag else (size, mtime) == (old_size, old_mtime)
    if not same or bool(etag) != bool(old_etag):
        return Verdict.CHANGED
    return Verdict.FAILED if status == "error" else Verdict.SAME


@given(stored, st.lists(st.tuples(ids, sizes, mtimes, etags), max_size=12), st.integers(1, 5))
def test_judging_equals_a_dictionary(
    rows: dict[str, tuple[object, ...]],
    items: list[tuple[str, int | None, float | None, str | None]],
    batch: int,
) -> None:
    known = known_of(rows, batch)
    assert len(known) == len(rows)
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        found = known.judge([item[0] for item in part], [stamp(*item[1:]) for item in part])
        assert found.tolist() == [verdict(rows, *item) for item in part]
    seen = {item[0] for item in items}
    assert known.unseen(list(rows)) == [row_id not in seen for row_id in rows]


@given(stored, st.lists(st.lists(hashes, max_size=4), max_size=8))
def test_contents_equal_a_set(rows: dict[str, tuple[object, ...]], noted: list[list[str]]) -> None:
    known = known_of(rows, 3)
    expected = {fact[4] for fact in rows.values() if fact[0] == "ok" and fact[4]}
    for contents in noted:
        known.note_contents(filter(None, contents))
        expected |= set(filter(None, contents))
        assert {name for name in ("h1", "h2", "h3") if known.has_content(name)} == expected


@given(stored, ids, hashes, sources)
def test_a_row_is_told_by_its_content_and_its_source(
    rows: dict[str, tuple[object, ...]], row_id: str, content: str, source: str
) -> None:
    known = known_of(rows, 3)
    status, *_, old_content, old_source = rows.get(row_id, ("absent", None, None))
    assert known.has_embedding(row_id) == (status == "ok")
    assert known.same_content(row_id, content) == (status == "ok" and content == old_content)
    assert known.same_source(row_id, source) == (status != "absent" and source == old_source)


def test_nothing_is_known_of_an_empty_collection(collection: Collection) -> None:
    known = collection.known()
    assert len(known) == 0
    assert known.judge(["a"], [stamp(1, 2.0, None)]).tolist() == [Verdict.NEW]
    assert known.unseen(["a"]) == [False]
    assert not known.has_content("h")
    known.note_contents(["h"])
    assert known.has_content("h")


def test_a_collection_tells_of_every_row(collection: Collection) -> None:
    good = Row("a", np.ones(4, np.float32), size=3, mtime=2.5, content_hash="h")
    bad = Row("b", None, size=7, etag="e", content_hash="x", status="error", error="truncated_image")
    collection.upsert([good, bad], space_id="sp1-a", decode="exact")
    known = collection.known()
    stamps = [stamp(3, 2.5, None), stamp(7, None, "e"), stamp(1, None, None)]
    assert known.judge(["a", "b", "c"], stamps).tolist() == [Verdict.SAME, Verdict.FAILED, Verdict.NEW]
    assert known.judge(["a"], [stamp(3, 2.75, None)]).tolist() == [Verdict.CHANGED]
    assert (known.has_content("h"), known.has_content("x")) == (True, False)
