"""What the workspace does with neighbours and indexes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.engine import Caller
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, StorageError
from trunkline_service.images.inputs import ImageInput
from trunkline_service.index.calling_off import never
from trunkline_service.index.card import Recall
from trunkline_service.index.indexes import Indexes, Progress, unheard
from trunkline_service.index.maintainer import IndexMaintainer
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.state import IndexState
from trunkline_service.settings import Settings
from trunkline_service.workspace.answers import Found
from trunkline_service.workspace.searching import Searching

_PLAIN = SearchOptions()


class SearchWork:
    """The searching part of `Workspace`.

    A collection that is searched may be named with a version, a tag or an alias (``photos@7``).
    """

    settings: Settings
    collections: CollectionStore
    _searching: Searching
    _indexes: Indexes

    def search(
        self,
        collection: str,
        images: Sequence[ImageInput],
        options: SearchOptions = _PLAIN,
        caller: Caller | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> Found:
        """The nearest rows of each image, embedded with the collection's own model.

        Args:
            collection: Where to search.
            images: The queries.
            options: How.
            caller: Who waits for the embedding.
            cancelled: Whether nobody waits for the answer any more; asked now and then.

        Raises:
            CollectionNotFound, InvalidArgument, FailedPrecondition: See ``Searcher.search``. Columns that can't
                be given, or a threshold above every score, are an InvalidArgument too.
            SpaceMismatch: Another collection took the name after the images were embedded.
            Cancelled: ``cancelled`` said so.
            TrunklineError: See ``Engine.embed``.
        """
        return self._searching.images(collection, images, options, caller, cancelled)

    def search_vectors(
        self,
        collection: str,
        vectors: NDArray[np.float32],
        space_id: str,
        options: SearchOptions = _PLAIN,
        cancelled: Callable[[], bool] = never,
    ) -> Found:
        """The nearest rows of each vector, [Q, dim] float32; of a declared space the bare name will do.

        Raises:
            SpaceMismatch: The vectors lie in another space than the collection's.
            Cancelled: ``cancelled`` said so.
        """
        return self._searching.vectors(collection, vectors, space_id, options, cancelled)

    def search_ids(
        self,
        collection: str,
        ids: Sequence[str],
        options: SearchOptions = _PLAIN,
        cancelled: Callable[[], bool] = never,
    ) -> Found:
        """The nearest other rows of each row.

        Raises:
            RowNotFound: An id that the collection does not hold.
            InvalidArgument: A row without an embedding.
            SpaceMismatch: Another collection took the name after the rows were read.
            Cancelled: ``cancelled`` said so.
        """
        return self._searching.ids(collection, ids, options, cancelled)

    def index(self, collection: str) -> IndexState:
        """How the collection is searched."""
        return self._indexes.state(self.collections.open(collection))

    def index_options(self, collection: str) -> IndexOptions:
        """What is wished of the collection's index."""
        return self._indexes.options(self.collections.open(collection))

    def set_index(self, collection: str, options: IndexOptions) -> IndexState:
        """Notes what is wished of the collection's index; it is built when it is due, or by `build_index`."""
        target = self.collections.open(collection)
        self._indexes.set_options(target, options)
        return self._indexes.state(target)

    def build_index(
        self,
        collection: str,
        options: IndexOptions | None = None,
        progress: Progress = unheard,
        cancelled: Callable[[], bool] = never,
    ) -> IndexState:
        """Builds the collection's index aside and swaps it in; searches go on meanwhile.

        Args:
            collection: Its name.
            options: What is wished from now on; None for what was wished before.
            progress: Told the phase, and how much of it is done, 0..1.
            cancelled: Asked now and then.

        Raises:
            FailedPrecondition: Another builder is at work.
            Cancelled: The caller went away.
        """
        target = self.collections.open(collection)
        if options is not None:
            self._indexes.set_options(target, options)
        self._indexes.build(target, progress, cancelled)
        return self._indexes.state(target)

    def drop_index(self, collection: str) -> IndexState:
        """Deletes the collection's index and what was wished of it; search is exact again."""
        target = self.collections.open(collection)
        self._indexes.drop(target)
        return self._indexes.state(target)

    def measure_recall(
        self, collection: str, k: int = 10, queries: int = 1000, cancelled: Callable[[], bool] = never
    ) -> Recall:
        """Measures, now, which share of the true neighbours a search finds.

        Args:
            collection: Its name.
            k: Neighbours.
            queries: Rows of the collection to ask for; each is no neighbour of itself.
            cancelled: Whether nobody waits any more; asked now and then.

        Raises:
            NotEnoughData: The collection has fewer than two rows.
            Cancelled: ``cancelled`` said so.
        """
        return self._indexes.measure(self.collections.open(collection), k, queries, cancelled)

    def index_maintainer(self) -> IndexMaintainer:
        """What keeps the indexes up to date beside searches; to be started and stopped by the caller.

        Where the settings say that nothing is built unasked, it takes over what others build.
        """
        return IndexMaintainer(
            self._indexes,
            build=self.settings.index.build == "auto",
            at_start=self._indexes.sweep_cache,
        )

    def drop_collection(self, name: str) -> None:
        """Deletes a collection with all of its versions, its indexes, and what is in memory of it.

        Other processes let go of theirs when they search it again. A call that failed may be repeated: what is
        left of the indexes is deleted also where the collection is gone.

        Raises:
            CollectionNotFound: There is none (any more); no index of this name is left either.
            FailedPrecondition: An alias stands for it.
            StorageError: Something is left; the message says whether it is the collection or its indexes.
        """
        target = self.collections.lookup(name).collection
        try:
            self.collections.drop(name)
        except CollectionNotFound:
            # A call before this one may have left them.
            self._drop_indexes(name, target)
            raise
        self._drop_indexes(name, target)

    def _drop_indexes(self, name: str, target: Collection) -> None:
        try:
            self._indexes.forget_dropped(name, target)
        except StorageError as exc:
            raise StorageError(
                f"collection {name!r} is dropped, but its indexes, which hold ids and vectors of it, are not: "
                f"{exc.message}; drop {name!r} again"
            ) from exc
