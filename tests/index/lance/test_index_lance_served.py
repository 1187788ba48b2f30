"""Lance's index as the service keeps it up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index.indexes import Indexes, unheard
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import SearchPolicy

DIM, ROWS = 8, 600
SPEC = CollectionSpec(space_id="sp1-a", dim=DIM, model="tiny@1", artifact_id="ar1-a", decode="exact")
never = lambda: False  # noqa: E731


def test_after_a_purge_it_is_made_and_measured_again(tmp_path: Path) -> None:
    collection = CollectionStore(tmp_path).create("points", SPEC)
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)
    rows = [Row(f"r{number}", vector) for number, vector in enumerate(vectors)]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    indexes = Indexes(tmp_path, None, SearchPolicy(1, 100))
    try:
        indexes.set_options(collection, IndexOptions("lance", 0.9, 5))
        indexes.build(collection, unheard, never)
        assert not indexes._lance.is_due(collection)
        collection.purge(["r1"])
        indexes.purge(collection)
        indexes.keep_up(collection, never, build=False)
        # It is there, and another one than was measured.
        assert indexes.state(collection).kind == "lance"
        assert indexes.state(collection).recall is None
        assert indexes._lance.is_due(collection)
        indexes.keep_up(collection, never)
        assert indexes.state(collection).recall is not None
        assert not indexes._lance.is_due(collection)
        answer = indexes.search(collection, vectors[:1], SearchOptions(1))
        # So few rows are compared, which needs no recall.
        assert (answer.searched.kind, answer.searched.exact, answer.searched.recall) == ("lance", True, None)
        # Too few rows to make it of are left; nothing is due for ever.
        collection.drop_vector_index()
        collection.delete([f"r{number}" for number in range(400)])
        assert not indexes._lance.is_due(collection)
    finally:
        indexes.close()
