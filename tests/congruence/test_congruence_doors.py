"""One contract, every door: vectors of another space, dimension or decode mode never enter a collection."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import trunkline
from trunkline_service.collections.exchange.importing import import_npy, import_parquet
from trunkline_service.collections.rows import Row
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import TrunklineError
from trunkline_service.jobs.local import LocalTarget
from trunkline_service.jobs.remote import RemoteTarget
from trunkline_service.jobs.run import run
from trunkline_service.jobs.sources import GivenSource
from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace

DIM = 48


@pytest.fixture
def home(tmp_path, publish_tiny, png):
    """A collection of one row, decoded exactly, with ``tiny``; and ``other``, of another space."""
    publish_tiny(tmp_path / "models")
    publish_tiny(tmp_path / "models", name="other", scale=2.0)
    with workspace_at(tmp_path) as workspace:
        image = png(np.full((32, 32, 3), 7, np.uint8))
        run(LocalTarget(workspace, "c", "tiny", in_flight=4), GivenSource([("first", image, {})]))
    return tmp_path


def workspace_at(home, **settings):
    return Workspace(
        Settings(
            models=str(home / "models"), data=str(home / "data"), default_model="tiny", threads=1, **settings
        )
    )


def client_at(home):
    return trunkline.open(models=home / "models", data=home / "data", default_model="tiny", threads=1)


def through_python(home, space, dim, decode):
    rows = [Row("new", np.ones(dim, np.float32), decode=decode)]
    CollectionStore(home / "data").open("c").upsert(rows, space_id=space, decode=decode)


def through_rpc(home, space, dim, decode):
    with client_at(home) as client:
        client.upsert("c", ["new"], np.ones((1, dim), np.float32), space_id=space, decode=decode)


def through_rpc_rows(home, space, dim, decode):
    with client_at(home) as client:
        row = trunkline.Row("new", np.ones(dim, np.float32), decode=decode)
        client.upsert_rows("c", [row], space_id=space)


def through_import(home, space, dim, decode):
    """A Parquet file that Trunkline itself exported from a collection of such vectors."""
    from trunkline_service.collections.spec import CollectionSpec

    away = CollectionStore(home / "away")
    made = away.create("c", CollectionSpec(space, dim, "m@1", "ar1", decode))
    made.upsert([Row("new", np.ones(dim, np.float32), decode=decode)], space_id=space, decode=decode)
    made.export_parquet(home / "away.parquet")
    import_parquet(CollectionStore(home / "data"), home / "away.parquet", "c")


DOORS = (through_python, through_rpc, through_rpc_rows, through_import)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("wrong", ["space", "dim", "decode"])
def test_what_is_of_another_kind_is_refused_and_nothing_is_written(home, door, wrong):
    collection = CollectionStore(home / "data").open("c")
    spec = collection.spec
    given = {"space": spec.space_id, "dim": DIM, "decode": "exact"}
    given[wrong] = {"space": "sp1-another", "dim": DIM + 1, "decode": "fast"}[wrong]
    before = collection.version
    with pytest.raises((TrunklineError, trunkline.TrunklineError)) as caught:
        door(home, **given)
    message = str(caught.value)
    if wrong == "space":
        assert spec.space_id in message
        assert "sp1-another" in message
    elif wrong == "dim":
        assert str(DIM + 1) in message
    else:
        assert "fast" in message
        assert "exact" in message
    assert [batch.to_pydict()["id"] for batch in collection.scan(["id"])] == [["first"]]
    assert collection.version == before


@pytest.mark.parametrize("door", DOORS)
def test_what_is_of_its_kind_enters_by_every_door(home, door):
    collection = CollectionStore(home / "data").open("c")
    door(home, collection.spec.space_id, DIM, "exact")
    assert set(collection.find(["first", "new"])) == {"first", "new"}


def test_a_file_without_identity_enters_no_collection_of_a_proved_space(home):
    vectors = np.ones((1, DIM), np.float32)
    np.save(home / "v.npy", vectors)
    (home / "v.ids.txt").write_text("new\n")
    table = pa.table(
        {"id": ["new"], "embedding": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), DIM)}
    )
    pq.write_table(table, home / "v.parquet")
    store = CollectionStore(home / "data")
    with pytest.raises(TrunklineError, match="space"):
        import_parquet(store, home / "v.parquet", "c")
    with pytest.raises(TrunklineError, match="space"):
        import_parquet(store, home / "v.parquet", "c", space_id="mine")
    with pytest.raises(TrunklineError, match="space"):
        import_npy(store, home / "v.npy", home / "v.ids.txt", "c", "mine")


def local_job(home, source):
    with workspace_at(home) as workspace:
        run(LocalTarget(workspace, "c", "other", in_flight=4), source)


def remote_job(home, source):
    with client_at(home) as client:
        run(RemoteTarget(client, "c", "other"), source)


@pytest.mark.parametrize("job", [local_job, remote_job])
def test_a_job_with_a_model_of_another_space_is_refused(home, png, job):
    source = GivenSource([("new", png(np.full((32, 32, 3), 9, np.uint8)), {})])
    with pytest.raises((TrunklineError, trunkline.TrunklineError), match="space"):
        job(home, source)


def test_a_job_never_brings_another_decode_mode(home, png):
    """A server that decodes another way is refused; here the collection's own mode is used."""
    source = GivenSource([("new", png(np.full((32, 32, 3), 9, np.uint8)), {})])
    fast = trunkline.open(
        models=home / "models", data=home / "data", default_model="tiny", threads=1, decode="fast"
    )
    with fast as client, pytest.raises((TrunklineError, trunkline.TrunklineError), match="decode"):
        run(RemoteTarget(client, "c"), source)
    with workspace_at(home, decode="fast") as workspace:
        run(LocalTarget(workspace, "c", in_flight=4), source)
        assert workspace.collections.open("c").get(["new"])[0].decode == "exact"
