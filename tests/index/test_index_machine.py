"""Any sequence of writes, upkeep, restarts and searches equals a dictionary and brute force."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index.indexes import Indexes
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import SearchPolicy

DIM = 3
SPEC = CollectionSpec(space_id="sp1-a", dim=DIM, model="tiny@1", artifact_id="ar1-a", decode="exact")
names = st.sampled_from([f"id{number}" for number in range(12)])
labels = st.sampled_from(["rose", "lily", None])
vectors = st.lists(st.integers(-3, 3), min_size=DIM, max_size=DIM).map(lambda row: np.array(row, np.float32))
rows = st.one_of(
    st.builds(Row, id=names, embedding=vectors, label=labels),
    st.builds(
        Row,
        id=names,
        embedding=st.none(),
        label=labels,
        status=st.just("error"),
        error=st.just("truncated_image"),
    ),
)


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


class CollectionMachine(RuleBasedStateMachine):
    """Two readers share a data folder: one searches after every step, the other now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.collection = CollectionStore(self.folder).create("any", SPEC)
        self.indexes = [self.opened(), self.opened()]
        self.model: dict[str, Row] = {}
        self.past: list[tuple[int, dict[str, Row]]] = []

    def opened(self) -> Indexes:
        return Indexes(self.folder, None, SearchPolicy(threads=1))

    def note(self) -> None:
        self.past.append((self.collection.version, dict(self.model)))

    @rule(batch=st.lists(rows, max_size=8))
    def upsert(self, batch: list[Row]) -> None:
        before = self.collection.version
        after = self.collection.upsert(batch, space_id="sp1-a", decode="exact")
        assert (after > before) == bool(batch)
        self.model |= {row.id: row for row in batch}
        self.note()

    @rule(ids=st.lists(names, max_size=4))
    def delete(self, ids: list[str]) -> None:
        assert self.collection.delete(ids) == len(set(ids) & set(self.model))
        for row_id in ids:
            self.model.pop(row_id, None)
        self.note()

    @rule(ids=st.lists(names, max_size=4), label=labels)
    def relabel(self, ids: list[str], label: str | None) -> None:
        self.collection.relabel(dict.fromkeys(ids, label))
        for row_id in set(ids) & set(self.model):
            self.model[row_id] = self.with_label(self.model[row_id], label)
        self.note()

    @rule(keep=st.sampled_from([None, timedelta(0)]))
    def compact(self, keep: timedelta | None) -> None:
        self.collection.compact(keep)
        if keep is not None:
            self.past.clear()

    @rule(back=st.integers(0, 5))
    def restore(self, back: int) -> None:
        if self.past:
            version, model = self.past[max(0, len(self.past) - 1 - back)]
            self.collection.restore(version)
            self.model = dict(model)
            self.note()

    @rule(ids=st.lists(names, min_size=1, max_size=2))
    def purge(self, ids: list[str]) -> None:
        self.collection.purge(ids)
        for index in self.indexes[:1]:
            index.purge(self.collection)
        for row_id in ids:
            self.model.pop(row_id, None)
        self.past.clear()

    @rule()
    def open_anew(self) -> None:
        self.collection = CollectionStore(self.folder).open("any")
        self.indexes[0].close()
        self.indexes[0] = self.opened()

    @rule(
        query=vectors,
        k=st.integers(1, 14),
        label=labels,
        excluded=st.none() | names,
        reader=st.sampled_from([0, 1]),
        min_score=st.sampled_from([None, 0.0, 0.5]),
    )
    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        label: str | None,
        excluded: str | None,
        reader: int,
        min_score: float | None,
    ) -> None:
        where, values = (None, ()) if label is None else ("label = ?", (label,))
        options = SearchOptions(k, where, values, self.collection.version, min_score)
        outcome = self.indexes[reader].search(self.collection, query[None], options, [excluded])
        truth = {
            row.id: cosine(query, row.embedding)
            for row in self.model.values()
            if row.embedding is not None and label in (None, row.label) and row.id != excluded
        }
        (hits,) = outcome.hits
        assert outcome.version == self.collection.version
        best = sorted(truth.values(), reverse=True)
        if min_score is not None:
            # What lies on the edge may be in or out, by rounding.
            surely = sum(score > min_score + 1e-6 for score in best)
            perhaps = sum(score > min_score - 1e-6 for score in best)
            assert min(k, surely) <= len(hits) <= min(k, perhaps)
        else:
            assert len(hits) == min(k, len(best))
        assert len({hit.id for hit in hits}) == len(hits)
        np.testing.assert_allclose([hit.score for hit in hits], best[: len(hits)], atol=1e-6)
        for hit in hits:
            assert hit.score == np.float32(hit.score)
            np.testing.assert_allclose(hit.score, truth[hit.id], atol=1e-6)
            assert hit.label == self.model[hit.id].label

    @invariant()
    def the_first_reader_follows_every_step(self) -> None:
        query = np.ones((1, DIM), np.float32)
        (hits,) = self.indexes[0].search(self.collection, query, SearchOptions(20)).hits
        living = {row.id for row in self.model.values() if row.embedding is not None}
        assert {hit.id for hit in hits} == living

    @invariant()
    def holds_the_same_rows(self) -> None:
        found = [name for batch in self.collection.scan(["id"]) for name in batch.column("id").to_pylist()]
        assert sorted(found) == sorted(self.model)

    def with_label(self, row: Row, label: str | None) -> Row:
        return Row(row.id, row.embedding, label, status=row.status, error=row.error)

    def teardown(self) -> None:
        for index in self.indexes:
            index.close()
        shutil.rmtree(self.folder)


TestCollectionMachine = CollectionMachine.TestCase
TestCollectionMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
