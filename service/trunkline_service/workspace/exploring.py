"""What a whole collection holds: near duplicates, outliers, clusters, a map."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import Overloaded
from trunkline_service.explore.clusters import Clusters, find_clusters
from trunkline_service.explore.duplicates import Duplicates, find_duplicates
from trunkline_service.explore.layout import DEFAULT_POINTS, Map, Method, draw_map
from trunkline_service.explore.live import Live, Told, read_live
from trunkline_service.explore.outliers import Outliers, find_outliers
from trunkline_service.index.workers import Workers, one_blas_thread_each

_RETRY_AFTER_S = 2.0
_NEIGHBOURS, _OUTLIERS = 10, 50


def _nobody(_stage: str, _share: float) -> None:
    """Told where nobody listens."""


class Exploring:
    """The part of the workspace that looks at whole collections; one call works at a time.

    A call takes as many cores as it may, and its collection's vectors lie in memory once.

    Every method takes a reference, a condition with its parameters, and ``told``, which is called often with
    the stage and the share of it that is done; what that raises ends the work. Every method raises
    ``CollectionNotFound``, ``InvalidArgument`` for a condition that can't be used, and ``Overloaded`` while
    another call works.

    Args:
        store: The collections.
        threads: The most that a call uses.
    """

    def __init__(self, store: CollectionStore, threads: int = 1) -> None:
        self._store = store
        self._threads = threads
        self._free = threading.Lock()

    def duplicates(
        self,
        collection: str,
        threshold: float | None = None,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        *,
        exact: bool = False,
        told: Told = _nobody,
    ) -> Duplicates:
        """Pairs of rows that are nearly the same, and their groups; see `find_duplicates`."""
        with self._rows(collection, where, parameters, told) as (live, workers):
            return find_duplicates(live, threshold, exact=exact, workers=workers, told=told)

    def outliers(
        self,
        collection: str,
        count: int = _OUTLIERS,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        *,
        neighbours: int = _NEIGHBOURS,
        told: Told = _nobody,
    ) -> Outliers:
        """The rows that are furthest from their neighbours; see `find_outliers`."""
        with self._rows(collection, where, parameters, told) as (live, workers):
            return find_outliers(live, count, neighbours, workers=workers, told=told)

    def clusters(
        self,
        collection: str,
        count: int | None = None,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        *,
        told: Told = _nobody,
    ) -> Clusters:
        """What kinds of rows there are; see `find_clusters`."""
        with self._rows(collection, where, parameters, told) as (live, workers):
            return find_clusters(live, count, workers=workers, told=told)

    def map(
        self,
        collection: str,
        method: Method = "pca",
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        *,
        points: int = DEFAULT_POINTS,
        clusters: int | None = None,
        told: Told = _nobody,
    ) -> Map:
        """Rows as points of a plane; see `draw_map`."""
        with self._rows(collection, where, parameters, told) as (live, workers):
            return draw_map(live, method, points=points, clusters=clusters, workers=workers, told=told)

    @contextmanager
    def _rows(
        self, collection: str, where: str | None, parameters: Sequence[Scalar], told: Told
    ) -> Iterator[tuple[Live, Workers]]:
        if not self._free.acquire(blocking=False):
            raise Overloaded(
                f"exploring {collection!r} has to wait: another collection is being looked at here, one at a time; "
                f"try again in {_RETRY_AFTER_S:.0f} s",
                retry_after_s=_RETRY_AFTER_S,
            )
        workers = Workers(self._threads)
        try:
            told("reading", 0.0)
            live = read_live(self._store.resolve(collection), where, parameters)
            # Threads of BLAS would wait for each other by spinning, and hold up who serves beside.
            with one_blas_thread_each():
                yield live, workers
        finally:
            workers.close()
            self._free.release()
