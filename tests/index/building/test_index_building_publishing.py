"""What is published is whole, and a builder that was left behind harms no newer collection."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.index.building.conftest import DIM, ROWS, SPACE, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import Cancelled, StorageError
from trunkline_service.index.building import builder
from trunkline_service.index.card import IndexCard
from trunkline_service.index.kinds import ivf
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage.base import load_base
from trunkline_service.index.storage.bucket import Bucket
from trunkline_service.index.storage.store import IndexStore

Built = Callable[..., IndexCard]


@pytest.mark.parametrize("short", [8, 500, 4000])
def test_an_index_that_was_cut_short_is_not_published(
    collection: Collection,
    store: IndexStore,
    built: Built,
    monkeypatch: pytest.MonkeyPatch,
    short: int,
) -> None:
    card = built(collection)
    write(collection, range(10))
    whole = ivf.write_index

    def cut(index: Any, folder: Path) -> None:
        whole(index, folder)
        path = folder / "index.faiss"
        os.truncate(path, path.stat().st_size - short)

    with monkeypatch.context() as patch:
        patch.setattr(ivf, "write_index", cut)
        with pytest.raises(StorageError, match=r"'flowers' was not written whole: .*Is the disk full"):
            built(collection)
    assert store.newest("flowers", card.uid, collection.spec) == card
    load_base(store.open(card), card)
    assert built(collection).version == collection.version


def test_a_disk_that_fills_at_the_end_of_a_file_is_noticed(
    collection: Collection, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAISS's own files print a line where closing them fails, and go on."""
    whole = ivf.write_index

    def onto_full(index: Any, folder: Path) -> None:
        (folder / "index.faiss").symlink_to("/dev/full")
        whole(index, folder)

    monkeypatch.setattr(ivf, "write_index", onto_full)
    with pytest.raises(StorageError, match=r"can't write the index to .*No space left"):
        built(collection)


def test_an_old_builder_leaves_the_index_and_wishes_of_a_collection_made_anew(
    collections: CollectionStore,
    collection: Collection,
    store: IndexStore,
    built: Built,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_still, made = builder.is_still, []
    wished = IndexOptions("hnsw", 0.5, 7)

    def made_anew(asked: Collection, uid: str) -> bool:
        answer = is_still(asked, uid)
        if not made:
            made.append(None)
            collections.drop("flowers")
            store.drop("flowers")
            spec = CollectionSpec(
                space_id=SPACE, dim=DIM, model="tiny@1", artifact_id="ar1-a", decode="exact"
            )
            new = collections.create("flowers", spec)
            write(new, range(ROWS))
            store.set_options("flowers", new.revision.uid, wished)
            made[:] = [built(new, options=wished)]
        return answer

    monkeypatch.setattr(builder, "is_still", made_anew)
    old = built(collection)
    (new,) = made
    assert old.uid != new.uid
    assert store.options("flowers", new.uid) == wished
    assert store.newest("flowers", new.uid, collection.spec) == new


def test_a_build_is_called_off_while_it_is_sent(
    s3_bucket: str, tmp_path: Path, built: Built, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{s3_bucket}/data"
    remote = CollectionStore(uri).create("flowers", collection.spec)
    write(remote, range(ROWS))
    store = IndexStore(uri, tmp_path / "one")
    upload, begun = Bucket.upload, []

    def noting(self: Bucket, path: str, *given: Any) -> None:
        begun.append(path)
        upload(self, path, *given)

    monkeypatch.setattr(Bucket, "upload", noting)
    with pytest.raises(Cancelled, match="nothing was stored"):
        built(remote, store=store, cancelled=lambda: len(begun) == 2)
    assert len(begun) == 2
    assert store.newest("flowers", remote.revision.uid, remote.spec) is None
    assert [path for path in Bucket(f"{uri}/indexes").paths("flowers/") if ".lease" not in path] == []
