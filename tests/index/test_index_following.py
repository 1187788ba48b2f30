"""Following a collection equals reading it from scratch, and reads what changed alone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray
from tests.index.points import Sighted, at, levels_of, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.partial import Touched
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import StorageError
from trunkline_service.index.following import flat_view, follow
from trunkline_service.index.segment import Part
from trunkline_service.index.view import View

SPEC = CollectionSpec(space_id="sp1-a", dim=2, model="tiny@1", artifact_id="ar1-a", decode="exact")
names = st.sampled_from([f"id{number}" for number in range(8)])
some = st.lists(names, max_size=6, unique=True)
labels = st.sampled_from(["rose", "lily", None])
vectors = st.tuples(st.integers(-3, 3), st.integers(-3, 3)).map(lambda pair: np.array(pair, np.float32))
rows = st.builds(Row, id=names, embedding=vectors, label=labels) | st.builds(
    Row, id=names, embedding=st.none(), status=st.just("error"), error=st.just("truncated_image")
)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return CollectionStore(tmp_path).create("points", SPEC)


def contents(view: View) -> dict[int, tuple[Any, ...]]:
    """All that is known of each living row, by row id."""
    found: dict[int, tuple[Any, ...]] = {}
    for part in view.parts:
        assert part.living == np.count_nonzero(part.alive)
        segment = part.segment
        columns = (segment.ids, segment.labels, segment.sources)
        texts = zip(*(column.to_pylist() for column in columns), strict=True)
        for place, values in enumerate(texts):
            if part.alive[place]:
                row_id = int(segment.row_ids[place])
                assert row_id not in found
                key = view.keys[part.fragment[place]]
                found[row_id] = (*values, segment.vectors[place].tolist(), int(segment.written[place]), key)
    assert len(found) == len(view)
    return found


def indexed(view: View) -> View:
    """The same with an approximate structure over its first part."""
    (first, *rest) = view.parts
    segment = replace(first.segment, approximate=Sighted(first.segment.vectors), levels=levels_of(1))
    return replace(view, parts=(replace(first, segment=segment), *rest))


def held(part: Part) -> tuple[int, int]:
    """The very structure, and the very vectors."""
    return id(part.segment.approximate), id(part.segment.vectors)


class FollowingMachine(RuleBasedStateMachine):
    """One view follows every step, two others are left at versions of their own now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.collection = CollectionStore(self.folder).create("any", SPEC)
        self.views = [flat_view(self.collection.fragments())] * 3
        self.versions = [self.collection.version]

    @rule(batch=st.lists(rows, min_size=1, max_size=8))
    def upsert(self, batch: list[Row]) -> None:
        self.versions.append(self.collection.upsert(batch, space_id="sp1-a", decode="exact"))

    @rule(ids=some, vector=vectors)
    def refresh(self, ids: list[str], vector: NDArray[np.float32]) -> None:
        fresh = [Row(row_id, vector, source="again") for row_id in ids]
        self.versions.append(self.collection.refresh(fresh, space_id="sp1-a", decode="exact"))

    @rule(ids=some)
    def touch(self, ids: list[str]) -> None:
        moved = [Touched(row_id, f"at {self.collection.version}", 1, 1.0, None) for row_id in ids]
        self.versions.append(self.collection.touch(moved))

    @rule(ids=some, label=labels)
    def relabel(self, ids: list[str], label: str | None) -> None:
        self.collection.relabel(dict.fromkeys(ids, label))

    @rule(old=labels, new=labels)
    def relabel_where(self, old: str | None, new: str | None) -> None:
        self.collection.relabel_where(new, "label IS NOT DISTINCT FROM ?", [old])

    @rule(name=names, colour=st.sampled_from(["red", "blue"]))
    def add_a_column(self, name: str, colour: str) -> None:
        row = Row(name, np.ones(2, np.float32), metadata={colour: "yes"})
        self.collection.upsert([row], space_id="sp1-a", decode="exact")

    @rule(ids=some)
    def delete(self, ids: list[str]) -> None:
        self.collection.delete(ids)

    @rule(label=labels)
    def delete_where(self, label: str | None) -> None:
        self.collection.delete_where("label IS NOT DISTINCT FROM ?", [label])

    @rule(keep=st.sampled_from([None, timedelta(0)]))
    def compact(self, keep: timedelta | None) -> None:
        self.collection.compact(keep)
        self.versions = [info.version for info in self.collection.versions()]

    @rule(ids=some)
    def purge(self, ids: list[str]) -> None:
        self.collection.purge(ids)
        self.versions = [info.version for info in self.collection.versions()]

    @rule(back=st.integers(1, 6))
    def restore(self, back: int) -> None:
        self.collection.restore(self.versions[-min(back, len(self.versions))])

    @rule(which=st.integers(1, 2), with_structure=st.booleans())
    def follow_late(self, which: int, with_structure: bool) -> None:
        self.follow(which)
        view = self.views[which]
        if with_structure and view.parts and view.indexed is None:
            self.views[which] = indexed(view)

    @invariant()
    def follow_at_once(self) -> None:
        self.follow(0)

    def follow(self, which: int) -> None:
        now = self.collection.fragments()
        before = self.views[which]
        parts, alive = before.parts, [part.alive.copy() for part in before.parts]
        right, view = contents(flat_view(now)), follow(before, now)
        assert (view.version, view.keys, view.spec) == (now.version, now.keys, now.spec)
        assert contents(view) == right
        assert before.parts is parts
        assert all((part.alive == old).all() for part, old in zip(parts, alive, strict=True))
        structured = [part for part in view.parts if part.segment.approximate is not None]
        # What the structure holds stays, whatever is written beside the vectors.
        assert [held(part) for part in structured] == [
            held(part) for part in before.parts if part.segment.approximate is not None
        ]
        assert view.parts[: len(structured)] == tuple(structured)
        self.views[which] = view

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


FollowingMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=16, deadline=None)
TestFollowingMachine = FollowingMachine.TestCase


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Rows that were read with their vectors, of each reading since the last call."""
    counts: list[int] = []
    batches = Fragments.batches

    def counted(self: Fragments, *arguments: Any, **options: Any) -> Any:
        counts.append(0)
        for batch in batches(self, *arguments, **options):
            counts[-1] += len(batch.embeddings)
            yield batch

    monkeypatch.setattr(Fragments, "batches", counted)

    def since() -> list[int]:
        found, counts[:] = list(counts), []
        return found

    return since


def test_only_what_changed_is_read(collection: Collection, reads: Callable[[], list[int]]) -> None:
    write(collection, **{f"n{number}": number for number in range(100)})
    first = view = flat_view(collection.fragments())
    assert reads() == [100]

    def step() -> list[int]:
        nonlocal view
        view = follow(view, collection.fragments())
        assert len(view) == sum(len(batch.ids) for batch in collection.fragments().batches())
        return reads()[:-1]

    start = collection.version
    assert step() == []
    write(collection, n1=7, n2=8, more=9)
    assert step() == [3]
    collection.relabel({"n3": "other", "n4": "other"})
    assert step() == [2]
    collection.delete(["n5", "n6"])
    assert step() == []
    collection.compact()
    assert step() == []
    collection.upsert([Row("n7", None, status="error", error="why")], space_id="sp1-a", decode="exact")
    assert step() == []
    write(collection, n8=1)
    collection.compact()
    assert step() == [1]
    collection.restore(start)
    assert step() == []
    assert contents(view) == contents(first)


def test_rows_of_which_nobody_kept_the_content_are_read_again_when_a_version_is_set_back(
    collection: Collection, reads: Callable[[], list[int]]
) -> None:
    write(collection, **{f"n{number}": number for number in range(10)})
    start = collection.version
    collection.delete([f"n{number}" for number in range(8)])
    view = flat_view(collection.fragments())
    reads()
    collection.restore(start)
    view = follow(view, collection.fragments())
    # Two were known; Lance gives all that were written together, and they are left out.
    assert reads() == [10]
    assert len(view) == 10


def test_parts_are_few_and_each_row_is_copied_a_few_times(collection: Collection) -> None:
    write(collection, **{f"n{number}": number for number in range(64)})
    view = flat_view(collection.fragments())
    base = view.parts[0].segment
    for number in range(40):
        write(collection, **{f"m{number}": number})
        view = follow(view, collection.fragments())
        sizes = [len(part.segment) for part in view.parts]
        assert all(size > 2 * after for size, after in pairwise(sizes))
    # 40 rows beside 64 are more than half.
    assert view.parts[0].segment is not base
    assert sum(sizes) == len(view) == 104


def test_a_part_that_mostly_died_is_written_anew_and_an_empty_one_is_let_go(collection: Collection) -> None:
    write(collection, **{f"n{number}": number for number in range(100)})
    view = flat_view(collection.fragments())
    collection.delete([f"n{number}" for number in range(50)])
    view = follow(view, collection.fragments())
    assert [len(part.segment) for part in view.parts] == [100]
    collection.delete(["n50"])
    view = follow(view, collection.fragments())
    assert [len(part.segment) for part in view.parts] == [49]
    collection.delete_where("true")
    view = follow(view, collection.fragments())
    assert (view.parts, len(view)) == ((), 0)
    write(collection, late=0)
    assert len(follow(view, collection.fragments())) == 1


def test_what_has_a_structure_stays_as_it_is_however_much_of_it_died(collection: Collection) -> None:
    write(collection, **{f"n{number}": number for number in range(20)})
    view = indexed(flat_view(collection.fragments()))
    segment = view.parts[0].segment
    collection.delete([f"n{number}" for number in range(1, 20)])
    write(collection, **{f"m{number}": number for number in range(30)})
    view = follow(view, collection.fragments())
    assert view.parts[0].segment is segment
    assert (view.parts[0].living, len(view)) == (1, 31)
    assert view.indexed is view.parts[0]
    collection.delete_where("true")
    view = follow(view, collection.fragments())
    assert [part.segment for part in view.parts] == [segment]
    assert len(view) == 0


def test_what_has_a_structure_keeps_the_rows_that_many_were_relabelled(collection: Collection) -> None:
    write(collection, **{f"n{number:02}": number for number in range(40)})
    first = view = indexed(flat_view(collection.fragments()))
    written = collection.version
    collection.relabel_where("other", "id >= ?", ["n10"])
    view = follow(view, collection.fragments())
    assert ([part.living for part in view.parts], held(view.parts[0])) == ([40], held(first.parts[0]))
    assert view.texts(np.arange(40), "labels") == ["n"] * 10 + ["other"] * 30
    assert first.texts(np.arange(40), "labels") == ["n"] * 40
    # Some of them change, and their vectors with them; others are gone.
    write(collection, **{f"n{number:02}": number + 90 for number in range(20)})
    collection.delete(["n39"])
    view = follow(view, collection.fragments())
    assert ([part.living for part in view.parts], held(view.parts[0])) == ([19, 20], held(first.parts[0]))
    assert contents(view) == contents(flat_view(collection.fragments()))
    collection.restore(written)
    view = follow(view, collection.fragments())
    assert [part.living for part in view.parts] == [40]
    assert contents(view) == contents(first)


def test_a_few_relabelled_rows_are_not_worth_a_copy_of_all_texts(collection: Collection) -> None:
    write(collection, **{f"n{number:02}": number for number in range(100)})
    first = view = indexed(flat_view(collection.fragments()))
    collection.relabel({"n00": "other", "n99": "other"})
    view = follow(view, collection.fragments())
    assert view.parts[0].segment is first.parts[0].segment
    assert [part.living for part in view.parts] == [98, 2]


def test_a_version_that_was_removed_meanwhile_is_an_error(collection: Collection) -> None:
    write(collection, a=0, b=1)
    view = flat_view(collection.fragments())
    write(collection, a=2)
    late = collection.fragments()
    assert late.keys
    write(collection, a=3)
    collection.compact(keep=timedelta(0))
    with pytest.raises(StorageError):
        follow(view, late)


def test_slots_name_rows_through_all_parts(collection: Collection) -> None:
    write(collection, **{f"n{number:02}": number for number in range(30)})
    view = flat_view(collection.fragments())
    collection.delete(["n03"])
    write(collection, n05=200, z1=90, z2=91)
    view = follow(view, collection.fragments())
    assert len(view.parts) == 2
    ids = collection.row_ids("id IN ('n05', 'z2', 'n29', 'n03')")
    slots = view.slots_of(np.append(ids, np.uint64(10**9)))
    assert slots[-1] == -1
    assert (slots[:-1] >= 0).all()
    found = view.texts(slots[:-1], "ids")
    assert sorted(found) == ["n05", "n29", "z2"]
    assert view.row_ids(slots[:-1]).tolist() == ids.tolist()
    place = found.index("n05")
    np.testing.assert_allclose(view.vectors(slots[:-1])[place], at(200)[0], atol=1e-6)
    masks = view.masks_of(ids)
    assert [len(mask) for mask in masks] == [len(part.segment) for part in view.parts]
    assert sum(int(mask.sum()) for mask in masks) == 3
    assert view.texts(np.empty(0, np.int64), "ids") == []
    assert view.vectors(np.empty(0, np.int64)).shape == (0, 2)
