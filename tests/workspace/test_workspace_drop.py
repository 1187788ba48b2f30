"""A collection that is dropped takes its indexes, and what is in memory of it, along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import CollectionNotFound, FailedPrecondition, InvalidArgument, StorageError
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.query import SearchOptions
from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace

SPEC = CollectionSpec(space_id="sp1-a", dim=8, model="tiny@1", artifact_id="ar1-a", decode="exact")


@pytest.fixture
def workspace(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    settings = Settings(
        models=str(tmp_path / "models"), data=str(tmp_path / "data"), default_model="tiny", device="cpu"
    )
    with Workspace(settings) as opened:
        collection = opened.collections.create("c", SPEC)
        vectors = np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32)
        collection.upsert(
            [Row(f"secret-{number}", vector) for number, vector in enumerate(vectors)],
            space_id="sp1-a",
            decode="exact",
        )
        opened.build_index("c", IndexOptions("ivf_flat", 0.9))
        opened.search_vectors("c", vectors[:1], "sp1-a", SearchOptions(1))
        yield opened


def files_of(root: Path) -> list[Path]:
    """Files that hold an id or belong to a build."""
    return [path for path in (root / "data").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_nothing_of_it_is_left(workspace, tmp_path):
    assert any("indexes" in path.parts for path in files_of(tmp_path))
    key = workspace.collections.open("c").key
    workspace.drop_collection("c")
    assert files_of(tmp_path) == []
    assert not (tmp_path / "data" / "indexes" / "c").exists()
    assert key not in [collection.key for collection in workspace._indexes.searched()]
    assert workspace._indexes._searcher.views._entries == {}
    with pytest.raises(CollectionNotFound):
        workspace.drop_collection("c")


def test_indexes_that_cannot_be_deleted_are_told_of_and_go_when_it_is_dropped_again(
    workspace, tmp_path, monkeypatch
):
    def fail(*_):
        raise StorageError("the disk does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(workspace._indexes._store, "drop", fail)
        with pytest.raises(
            StorageError, match=r"'c' is dropped, but its indexes.*does not answer; drop 'c' again"
        ):
            workspace.drop_collection("c")
    assert not workspace.collections.exists("c")
    assert files_of(tmp_path) != []
    with pytest.raises(CollectionNotFound):
        workspace.drop_collection("c")
    assert files_of(tmp_path) == []


def test_one_that_may_not_be_dropped_keeps_its_indexes(workspace, tmp_path):
    workspace.collections.set_alias("c@prod", "c")
    with pytest.raises(FailedPrecondition, match="alias"):
        workspace.drop_collection("c")
    assert workspace.index("c").kind == "ivf_flat"
    for reference in ("c@prod", "c@1", "../c"):
        with pytest.raises(InvalidArgument):
            workspace.drop_collection(reference)
    assert workspace.index("c").kind == "ivf_flat"
