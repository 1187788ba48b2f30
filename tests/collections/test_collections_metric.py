"""How vectors are compared: chosen when a collection is made, kept for good, carried through every door."""

from __future__ import annotations

import json
from pathlib import Path

import click.testing
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import trunkline
from trunkline_service.cli.app import trunkline_command
from trunkline_service.cli.collections.remote_export import write_parquet_file
from trunkline_service.cli.collections.remote_store import RemoteStore
from trunkline_service.collections.exchange.importing import import_npy, import_parquet
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import METRICS, CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument

DIM = 2


def made(store: CollectionStore, metric: str, name: str = "c") -> None:
    spec = CollectionSpec("declared:mine", DIM, "", "", "unknown", metric=metric, declared=True)
    rows = [Row("a", np.ones(DIM, np.float32), decode="unknown")]
    store.create(name, spec).upsert(rows, space_id="declared:mine", decode="unknown")


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    return CollectionStore(tmp_path / "data")


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "embedding": [[1.0, 2.0], [3.0, 4.0]]}), path)
    return path


@pytest.mark.parametrize("metric", METRICS)
def test_a_collection_keeps_its_metric_and_an_export_brings_it_back(
    store: CollectionStore, tmp_path: Path, metric: str
) -> None:
    made(store, metric)
    assert store.open("c").metric == store.open("c").spec.metric == metric
    store.open("c").export_parquet(tmp_path / "c.parquet")
    import_parquet(store, tmp_path / "c.parquet", "back")
    assert store.open("back").spec == store.open("c").spec


def test_another_metric_than_there_is_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="metric is 'l2'; it can be cosine, dot, euclidean"):
        CollectionSpec("s", DIM, "m@1", "ar1-a", "exact", metric="l2")


def test_an_import_sets_the_metric_of_what_it_makes_and_of_nothing_else(
    store: CollectionStore, parquet: Path, tmp_path: Path
) -> None:
    import_parquet(store, parquet, "plain", space_id="mine")
    import_parquet(store, parquet, "far", space_id="mine", metric="euclidean")
    assert (store.open("plain").metric, store.open("far").metric) == ("cosine", "euclidean")
    # Said again, or not at all, it is no matter.
    import_parquet(store, parquet, "far", space_id="mine", metric="euclidean")
    import_parquet(store, parquet, "far", space_id="mine")
    version = store.open("far").version
    with pytest.raises(InvalidArgument, match="compares its vectors by euclidean, which stays"):
        import_parquet(store, parquet, "far", space_id="mine", metric="dot")
    assert store.open("far").version == version
    np.save(tmp_path / "m.npy", np.ones((1, DIM), np.float32))
    (tmp_path / "ids.txt").write_text("a\n")
    import_npy(store, tmp_path / "m.npy", tmp_path / "ids.txt", "inner", "mine", metric="dot")
    assert store.open("inner").metric == "dot"


def test_the_command_line_imports_and_shows_it(tmp_path: Path, parquet: Path) -> None:
    def run(*words: str) -> click.testing.Result:
        arguments = ["collections", *words, "--data", str(tmp_path / "data")]
        return click.testing.CliRunner().invoke(trunkline_command, arguments)

    done = run("import", str(parquet), "--into", "c", "--space", "mine", "--metric", "dot")
    assert done.exit_code == 0, done.output
    assert "compared by dot" in run("show", "c").output
    assert json.loads(run("show", "c", "--json").output)["metric"] == "dot"
    assert "'l2' is not one of" in run("import", str(parquet), "--into", "d", "--metric", "l2").output


def test_it_crosses_the_wire(tmp_path: Path, publish_tiny) -> None:
    publish_tiny(tmp_path / "models")
    with trunkline.open(models=tmp_path / "models", data=tmp_path / "data", default_model="tiny") as client:
        assert client.create_collection("plain").metric == "cosine"
        assert client.create_collection("far", metric="euclidean").metric == "euclidean"
        declared = client.create_collection("theirs", space_id="mine", dim=3, metric="dot")
        assert declared.metric == client.collection("theirs").metric == "dot"
        # Asked for again, it is the same one; with another metric, it is another.
        assert client.create_collection("far", metric="euclidean") == client.collection("far")
        with pytest.raises(trunkline.FailedPrecondition, match="already is a collection"):
            client.create_collection("far", metric="dot")
        with pytest.raises(trunkline.InvalidRequest, match="metric is 'l2'"):
            client.create_collection("other", metric="l2")


def test_an_import_into_a_server_and_an_export_from_it_carry_it(
    tmp_path: Path, publish_tiny, parquet: Path
) -> None:
    publish_tiny(tmp_path / "models")
    with trunkline.open(models=tmp_path / "models", data=tmp_path / "data", default_model="tiny") as client:
        remote = RemoteStore(client)
        import_parquet(remote, parquet, "c", space_id="mine", metric="euclidean")
        assert client.collection("c").metric == "euclidean"
        with pytest.raises(InvalidArgument, match="compares its vectors by euclidean"):
            import_parquet(remote, parquet, "c", space_id="mine", metric="cosine")
        write_parquet_file(client, "c", tmp_path / "c.parquet", None, ())
    store = CollectionStore(tmp_path / "elsewhere")
    import_parquet(store, tmp_path / "c.parquet", "c")
    assert store.open("c").metric == "euclidean"
