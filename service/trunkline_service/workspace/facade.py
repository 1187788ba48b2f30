"""The workspace: models and data opened together.

The one facade that servicers, jobs, CLI and notebooks use.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from trunkline_service.batching.engine import Caller, Embedded, Engine
from trunkline_service.batching.observer import Observer
from trunkline_service.collections.arrivals import (
    NewRow,
    arriving_rows,
    brings_lists,
    check_labels,
    content_hash,
    could_lose,
)
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.info import CollectionInfo
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.purging import Purged
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import TrunklineError
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.images.inputs import ImageInput
from trunkline_service.index.indexes import Indexes
from trunkline_service.index.searcher import SearchPolicy
from trunkline_service.models.card import ModelCard
from trunkline_service.models.registry import Models
from trunkline_service.settings import Settings
from trunkline_service.workspace.answers import Added
from trunkline_service.workspace.embedding_work import EmbeddingWork
from trunkline_service.workspace.exploring import Exploring
from trunkline_service.workspace.fitting import OneAtATime
from trunkline_service.workspace.heads import HeadWork
from trunkline_service.workspace.observer import ShadowObserver
from trunkline_service.workspace.predicting import Predictor
from trunkline_service.workspace.search import SearchWork
from trunkline_service.workspace.searching import Searching
from trunkline_service.workspace.shadow import Shadows

_log = logging.getLogger(__name__)


class Workspace(EmbeddingWork, HeadWork, SearchWork):
    """Models, collections and heads of one place.

    Args:
        settings: Where they are, and how to run.
        observer: Told what the stages measure.
        engine: Instead of one in this process.
        models: The models that this engine runs; beside ``engine``.
    """

    def __init__(
        self,
        settings: Settings,
        observer: Observer | None = None,
        engine: Engine | None = None,
        models: Models | None = None,
    ) -> None:
        super().__init__(settings, observer, engine, models)
        self.collections = CollectionStore(settings.data)
        self.heads = HeadRegistry(settings.data, trunkline_version=importlib.metadata.version("trunkline"))
        self._indexes = Indexes(settings.data, _cache_of(settings), _policy_of(settings))
        self.explore = Exploring(self.collections, settings.worker_threads)
        self._searching = Searching(self.collections, self._embedder, self._indexes)
        # Threads start with the first candidate, so that a workspace without one has none.
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        shadows = Shadows(
            self.heads, observer if isinstance(observer, ShadowObserver) else None, self._beside
        )
        self._predictor = Predictor(self.heads, self.collections, self._embedder, self._searching, shadows)
        self._fits = OneAtATime()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finishes what was admitted and lets everything go."""
        self._indexes.close()
        super().close()
        self._beside.shutdown(cancel_futures=True)

    def add(
        self, collection: str, rows: Sequence[NewRow], model: str = "", caller: Caller | None = None
    ) -> Added:
        """Embeds images and stores them by id; when it returns they are searchable.

        A bad image becomes an error row with its reason, unless a good row of its id is there already: that
        one stays. Label, split and metadata that are not given leave earlier ones as they are. JPEG is
        decoded in the collection's mode. A new collection is multi-label where the labels are tuples.

        Raises:
            SpaceMismatch: The collection holds other vectors than this model makes.
            InvalidArgument: A label or a value that the collection can't hold, naming the row.
            TrunklineError: See ``Engine.embed``.
        """
        target = self.open_for(collection, model, multi_label=brings_lists(rows))
        check_labels(rows, target.spec.multi_label)
        embedded = self.embed_for(target, [row.image for row in rows], model, caller)
        hashes = [content_hash(row.image) for row in rows]
        ids = tuple(row.id or hashed[:32] for row, hashed in zip(rows, hashes, strict=True))
        own_columns = [name for name in target.columns() if name not in COLUMNS]
        known = target.find([ids[index] for index in could_lose(rows, embedded, own_columns)])
        stored = arriving_rows(rows, ids, hashes, embedded, known)
        version = target.upsert(stored, space_id=embedded.card.space_id, decode=embedded.decode)
        return Added(ids, embedded, version)

    def open_for(self, name: str, model: str = "", *, multi_label: bool = False) -> Collection:
        """The collection, made in the space of ``model`` if it does not exist.

        An empty model means the one that made the collection, or for a new one the default.

        Args:
            name: Of the collection.
            model: ``name`` or ``name@version``.
            multi_label: Whether a new one holds lists of labels.

        Raises:
            SpaceMismatch: It exists, in another space.
        """
        if self.collections.exists(name) and not model:
            return self.collections.open(name)
        spec = dataclasses.replace(self._spec_of(self.models.get(model).card), multi_label=multi_label)
        return self.collections.open_or_create(name, spec)

    def spec_for(self, name: str, model: str = "") -> CollectionSpec:
        """The identity that `open_for` would find or make; nothing is made."""
        if self.collections.exists(name):
            return self.collections.open(name).spec
        return self._spec_of(self.models.get(model).card)

    def _spec_of(self, card: ModelCard) -> CollectionSpec:
        return CollectionSpec(
            space_id=card.space_id,
            dim=card.dim,
            model=card.reference,
            artifact_id=card.artifact.artifact_id,
            decode=self.settings.decode,
            pretrained=card.pretrained,
        )

    def list_collections(self) -> list[CollectionInfo]:
        """All collections, by name; one that can't be read is logged and left out."""
        found: list[CollectionInfo] = []
        for name in self.collections.names():
            try:
                found.append(self.collections.open(name).info())
            except TrunklineError as exc:
                _log.warning("collection %s: %s", name, exc)
        return found

    def purge(
        self,
        collection: str,
        ids: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        *,
        exclusive: bool = False,
    ) -> Purged:
        """Deletes rows such that neither a file nor this process's memory holds them; see `Collection.purge`.

        The index of the collection is deleted with the rows, and built anew when it is due. Other processes
        keep theirs until they search the collection again.
        """
        target = self.collections.open(collection)
        try:
            return target.purge(ids, where, parameters, exclusive=exclusive)
        finally:
            # A purge that failed may have deleted the rows already.
            self._indexes.purge(target)

    # Shared --------------------------------------------------------------------------------------------

    def embed_for(
        self, target: Collection, images: Sequence[ImageInput], model: str = "", caller: Caller | None = None
    ) -> Embedded:
        """Vectors that may meet those of a collection; see `Embedder.embed_for`."""
        return self._embedder.embed_for(target, images, model, caller)


def _policy_of(settings: Settings) -> SearchPolicy:
    wishes = settings.index
    return SearchPolicy(
        settings.worker_threads, wishes.flat_rows, wishes.refresh_s, wishes.memory_mb * 1024 * 1024
    )


def _cache_of(settings: Settings) -> Path | None:
    return Path(settings.index.cache) if settings.index.cache else None
