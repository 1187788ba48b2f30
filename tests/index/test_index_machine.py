"""Any sequence of writes and searches equals a dictionary and brute force."""

from __future__ import annotations

import shutil
import tempfile

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index.searcher import Searcher

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
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.collection = CollectionStore(self.folder).create("any", SPEC)
        self.searcher = Searcher(1)
        self.model: dict[str, Row] = {}

    @rule(batch=st.lists(rows, max_size=8))
    def upsert(self, batch: list[Row]) -> None:
        before = self.collection.version
        after = self.collection.upsert(batch, space_id="sp1-a", decode="exact")
        assert (after > before) == bool(batch)
        self.model |= {row.id: row for row in batch}

    @rule(ids=st.lists(names, max_size=4))
    def delete(self, ids: list[str]) -> None:
        assert self.collection.delete(ids) == len(set(ids) & set(self.model))
        for row_id in ids:
            self.model.pop(row_id, None)

    @rule()
    def open_anew(self) -> None:
        self.collection = CollectionStore(self.folder).open("any")

    @rule(query=vectors, k=st.integers(1, 14), label=labels, excluded=st.none() | names)
    def search(self, query: NDArray[np.float32], k: int, label: str | None, excluded: str | None) -> None:
        where = None if label is None else f"label = '{label}'"
        outcome = self.searcher.search(self.collection, query[None], k, where=where, exclude_ids=[excluded])
        truth = {
            row.id: cosine(query, row.embedding)
            for row in self.model.values()
            if row.embedding is not None and label in (None, row.label) and row.id != excluded
        }
        (hits,) = outcome.hits
        assert outcome.version == self.collection.version
        assert len({hit.id for hit in hits}) == len(hits) == min(k, len(truth))
        best = sorted(truth.values(), reverse=True)[: len(hits)]
        np.testing.assert_allclose([hit.score for hit in hits], best, atol=1e-6)
        np.testing.assert_allclose([hit.score for hit in hits], [truth[hit.id] for hit in hits], atol=1e-6)
        assert [hit.label for hit in hits] == [self.model[hit.id].label for hit in hits]

    @invariant()
    def holds_the_same_rows(self) -> None:
        found = [name for batch in self.collection.scan(["id"]) for name in batch.column("id").to_pylist()]
        assert sorted(found) == sorted(self.model)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


CollectionMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
TestCollectionMachine = CollectionMachine.TestCase
