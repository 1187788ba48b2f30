"""Search over real servers: fresh on every replica, while others write and indexes are built."""

from __future__ import annotations

import numpy as np
import pytest
from tests.end_to_end import search_soak

import trunkline

ROWS, DIM = 3000, search_soak.DIM


@pytest.fixture
def home(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    return tmp_path


def serve(start_server, home, name, *arguments):
    folder = home / name
    folder.mkdir()
    return start_server(
        folder, "--models", "../models", "--data", "../data", "--default-model", "tiny", *arguments
    )


def test_two_servers_never_show_what_was_deleted(home, start_server):
    with (
        serve(start_server, home, "one") as one,
        serve(start_server, home, "two") as two,
        trunkline.Client(one.address) as client,
    ):
        client.create_collection("soak", dim=DIM, space_id=search_soak.SPACE)
        ledger = search_soak.soak(
            [one.address, two.address], "soak", lambda turn: turn < 4, writers=4, readers=4
        )
        assert ledger.faults == []
        assert ledger.writes == 16
        assert ledger.searches > 0
        assert one.terminate() == two.terminate() == 0


def test_an_index_is_built_beside_searches_and_taken_over_by_the_other_server(home, start_server):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    ids = [f"r{number}" for number in range(ROWS)]
    with (
        serve(start_server, home, "one", "--index-build", "never") as one,
        trunkline.Client(one.address) as client,
    ):
        client.create_collection("photos", dim=DIM, space_id=search_soak.SPACE)
        client.upsert("photos", ids, vectors, space_id=search_soak.SPACE, decode="unknown")
        before = client.search("photos", vectors=vectors[:20], space_id=search_soak.SPACE, k=5)
        assert (before.index_kind, before.exact) == ("flat", True)
        built = client.build_index("photos", kind="ivf_flat", recall=0.9)
        assert built.kind == "ivf_flat"
        after = client.search("photos", vectors=vectors[:20], space_id=search_soak.SPACE, k=5)
        assert after.version == before.version
        assert [row[0] for row in after.ids] == ids[:20]
        with serve(start_server, home, "two") as two, trunkline.Client(two.address) as other:
            gone = client.delete("photos", ids[:10])
            found = other.search(
                "photos", vectors=vectors[:20], space_id=search_soak.SPACE, k=5, min_version=gone.version
            )
            assert found.version == gone.version
            assert not set(ids[:10]) & {row_id for row in found.ids for row_id in row}
            assert [row[0] for row in found.ids[10:]] == ids[10:20]
            assert other.index("photos").version == gone.version
            assert two.terminate() == 0
        assert one.terminate() == 0
