"""Plans: every item is judged once, shards are a partition, chunks keep order and bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.collections.known import Known
from trunkline_service.errors import InvalidArgument
from trunkline_service.jobs.plan import UNKNOWN_BYTES, Listed, Task, chunks, plan
from trunkline_service.jobs.shard import Shard, parse_shard
from trunkline_service.jobs.sources import SourceItem

ids = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=60)


def item(name, size=1, mtime=1.0, etag=None):
    return SourceItem(name, name, lambda _limit: b"", size=size, mtime=mtime, etag=etag)


def known(rows):
    """Rows of (id, status, size, mtime, etag)."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * 5
    return Known([[*columns, [f"hash of {name}" for name in columns[0]], [""] * len(columns[0])]])


@given(ids, st.integers(1, 9))
def test_shards_are_disjoint_and_together_everything(names, count):
    for name in names:
        assert sum(Shard(number, count).has(name) for number in range(1, count + 1)) == 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(InvalidArgument, match="NUMBER/COUNT"):
        parse_shard(text)


def test_a_shard_is_parsed():
    assert parse_shard("2/4") == Shard(2, 4)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.tuples(st.sampled_from(["new", "same", "changed", "failed"]), st.booleans()),
        max_size=40,
    ),
    st.booleans(),
    st.booleans(),
)
def test_the_plan_is_the_anti_join(cases, retry_failed, verify):
    rows = [
        (name, "error" if kind == "failed" else "ok", 2 if kind == "changed" else 1, 1.0, None)
        for name, (kind, _) in cases.items()
        if kind != "new"
    ]
    listed = Listed()
    items = (item(name) for name in cases)
    todo = {
        task.item.id: task.compare
        for task in plan(items, known(rows), listed, retry_failed=retry_failed, verify=verify)
    }
    wanted = {
        name: kind != "new"
        for name, (kind, _) in cases.items()
        if kind in ("new", "changed") or (kind == "same" and verify) or (kind == "failed" and retry_failed)
    }
    assert todo == wanted
    assert listed.items == len(cases)
    assert listed.complete


def test_a_tag_decides_where_there_is_one():
    rows = known([("a", "ok", 1, 5.0, "t"), ("b", "ok", 1, 5.0, "t")])
    items = [item("a", mtime=9.0, etag="t"), item("b", mtime=5.0, etag="u")]
    assert [task.item.id for task in plan(items, rows, Listed())] == ["b"]


def test_a_plan_that_is_not_read_to_its_end_is_not_complete():
    listed = Listed()
    next(plan([item("a"), item("b")], known([]), listed))
    assert not listed.complete


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=40), st.integers(1, 7), st.integers(1, 100)
)
def test_chunks_keep_order_and_bounds(sizes, most_images, most_bytes):
    tasks = [Task(item(str(number), size), False) for number, size in enumerate(sizes)]
    cut = list(chunks(tasks, most_images, most_bytes))
    assert [task for chunk in cut for task in chunk] == tasks
    for chunk in cut:
        assert 0 < len(chunk) <= most_images
        bytes_ = sum(UNKNOWN_BYTES if task.item.size is None else task.item.size for task in chunk)
        assert bytes_ <= most_bytes or len(chunk) == 1
