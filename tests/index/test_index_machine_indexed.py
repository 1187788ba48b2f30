"""The same with an approximate index: never a row that is gone, never a wrong score, and the recall that is wished."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray
from scipy.stats import binom

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index.indexes import Indexes, unheard
from trunkline_service.index.options import IndexOptions, WishedKind
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import SearchPolicy

DIM, START, WISHED = 8, 400, 0.9
# What is held against the searches of one example together, and how few hits are too few for a share.
LEAST, FEW = 0.85, 40
SPEC = CollectionSpec(space_id="sp1-a", dim=DIM, model="tiny@1", artifact_id="ar1-a", decode="exact")
KINDS: list[WishedKind] = ["ivf_flat", "hnsw", "ivf_sq8", "ivf_pq"]


class IndexedMachine(RuleBasedStateMachine):
    """Writes by one process, searches by two: the one that builds, and one that takes over."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.collection = CollectionStore(self.folder).create("any", SPEC)
        self.readers = [self.opened(), self.opened()]
        self.rng = np.random.default_rng(0)
        self.model: dict[str, tuple[NDArray[np.float32], str]] = {}
        self.made = 0
        self.found = self.asked = 0

    def opened(self) -> Indexes:
        # No filter leaves so few rows that all are compared.
        return Indexes(self.folder, None, SearchPolicy(threads=2, flat_rows=0))

    @initialize()
    def begin(self) -> None:
        self.write([f"r{number}" for number in range(START)])
        self.made = START
        self.build("ivf_flat")

    def write(self, ids: list[str]) -> None:
        vectors = self.rng.standard_normal((len(ids), DIM)).astype(np.float32)
        rows = [
            Row(row_id, vector, "rose" if number % 3 else "lily")
            for number, (row_id, vector) in enumerate(zip(ids, vectors, strict=True))
        ]
        self.collection.upsert(rows, space_id="sp1-a", decode="exact")
        self.model |= {row.id: (row.embedding, str(row.label)) for row in rows if row.embedding is not None}

    @rule(count=st.integers(1, 60))
    def add(self, count: int) -> None:
        self.write([f"r{self.made + number}" for number in range(count)])
        self.made += count

    @rule(picked=st.lists(st.integers(0, 2000), min_size=1, max_size=30))
    def change(self, picked: list[int]) -> None:
        self.write(self.living(picked))

    @rule(picked=st.lists(st.integers(0, 2000), min_size=1, max_size=30))
    def delete(self, picked: list[int]) -> None:
        ids = self.living(picked)
        self.collection.delete(ids)
        for row_id in ids:
            del self.model[row_id]

    @rule(picked=st.lists(st.integers(0, 2000), min_size=1, max_size=30))
    def relabel(self, picked: list[int]) -> None:
        ids = self.living(picked)
        self.collection.relabel(dict.fromkeys(ids, "daisy"))
        self.model |= {row_id: (self.model[row_id][0], "daisy") for row_id in ids}

    @rule()
    def compact(self) -> None:
        self.collection.compact(timedelta(0))

    @rule(kind=st.sampled_from(KINDS))
    def build(self, kind: WishedKind) -> None:
        self.readers[0].set_options(self.collection, IndexOptions(kind, WISHED))
        card = self.readers[0].build(self.collection, unheard, lambda: False)
        assert card.kind in (kind, "flat")
        assert card.recall is None or card.recall.measured >= WISHED

    @rule()
    def take_over(self) -> None:
        self.readers[1].adopt(self.collection)

    @rule(reader=st.sampled_from([0, 1]))
    def restart(self, reader: int) -> None:
        self.readers[reader].close()
        self.readers[reader] = self.opened()

    @rule(ids=st.lists(st.integers(0, 2000), min_size=1, max_size=3))
    def purge(self, ids: list[int]) -> None:
        gone = self.living(ids)
        self.collection.purge(gone)
        self.readers[0].purge(self.collection)
        for row_id in gone:
            del self.model[row_id]

    @rule(
        reader=st.sampled_from([0, 1]),
        k=st.sampled_from([1, 10, 50]),
        label=st.sampled_from([None, "rose", "lily", "daisy"]),
    )
    def search(self, reader: int, k: int, label: str | None) -> None:
        queries = self.rng.standard_normal((4, DIM)).astype(np.float32)
        where, values = (None, ()) if label is None else ("label = ?", (label,))
        outcome = self.readers[reader].search(self.collection, queries, SearchOptions(k, where, values))
        assert outcome.version == self.collection.version
        living = {row_id: vector for row_id, (vector, own) in self.model.items() if label in (None, own)}
        truth = scores(queries, living)
        for row, hits in zip(truth, outcome.hits, strict=True):
            assert len({hit.id for hit in hits}) == len(hits) == min(k, len(living))
            np.testing.assert_allclose([hit.score for hit in hits], [row[hit.id] for hit in hits], atol=1e-5)
            assert [hit.label for hit in hits] == [self.model[hit.id][1] for hit in hits]
            if hits:
                edge = sorted(row.values(), reverse=True)[len(hits) - 1]
                self.found += sum(hit.score >= edge - 1e-5 for hit in hits)
                self.asked += len(hits)

    @invariant()
    def counts_agree(self) -> None:
        if self.model:
            assert self.readers[0].state(self.collection).rows == len(self.model)

    def living(self, picked: list[int]) -> list[str]:
        ids = sorted(self.model)
        return sorted({ids[number % len(ids)] for number in picked}) if len(ids) > 100 else []

    def teardown(self) -> None:
        for reader in self.readers:
            reader.close()
        shutil.rmtree(self.folder)
        # Of a handful of hits a share says little: then it is their chance under that recall that is refused.
        few = self.asked < FEW
        enough = binom.cdf(self.found, self.asked, LEAST) > 1e-3 if few else self.found >= LEAST * self.asked
        assert enough, f"found {self.found} of {self.asked}"


def scores(queries: NDArray[np.float32], rows: dict[str, NDArray[np.float32]]) -> list[dict[str, float]]:
    if not rows:
        return [{} for _ in queries]
    matrix = np.stack(list(rows.values())).astype(np.float64)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return [dict(zip(rows, row, strict=True)) for row in (unit @ matrix.T).tolist()]


TestIndexedMachine = IndexedMachine.TestCase
TestIndexedMachine.settings = settings(max_examples=8, stateful_step_count=15, deadline=None)
