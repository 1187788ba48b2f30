"""What a client asks about a whole collection. `_explore_async` is its twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Literal, TypeVar

from trunkline._sync import Calls
from trunkline._wire import explore as wire
from trunkline._wire.look import Look
from trunkline.explore import Clusters, Duplicates, Map, Outliers
from trunkline.rows import Scalar

Progress = Callable[[str, float], None]
"""Called with the stage, ``"reading"``, ``"comparing"`` and the like, and the share of it that is done."""

R = TypeVar("R")


class ExploreMethods:
    """The part of `Client` that is about what a collection holds; see `CollectionMethods` for references.

    Every method takes a reference, a condition with its parameters, and ``progress``; an exception in that
    ends the call. Every method raises `NotFound` where there is no such collection, `InvalidRequest` for what
    can't be used, `Overloaded` while the server looks at another collection, and another `TrunklineError`
    where the call failed.
    """

    _calls: Calls

    def duplicates(
        self,
        collection: str,
        threshold: float | None = None,
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        exact: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Duplicates:
        """Pairs of rows that are nearly the same, the groups they make, and which row of each to keep.

        ``delete(collection, found.ids_to_delete)`` deletes the others, also of groups whose labels differ; look
        at those first: ``[group for group in found.groups if group.labels_differ]``.

        Args:
            collection: A reference.
            threshold: The least score of a pair: a cosine, 0.97 where None; of a collection with the metric
                ``"euclidean"``, minus the largest distance.
            where: A condition.
            parameters: Values for each ``?`` of it.
            exact: Compare all rows with all, also where they are more than 100,000.
            progress: Called with the stage and the share of it that is done.
            timeout: Seconds; None for no end.
        """
        look = wire.FindDuplicates(collection, threshold, where, parameters, exact)
        return self._look(look, progress, timeout)

    def outliers(
        self,
        collection: str,
        count: int = 50,
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        neighbours: int = 10,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Outliers:
        """The rows that are furthest from their neighbours, and why.

        Args:
            collection: A reference.
            count: How many, up to 1,000.
            where: A condition.
            parameters: Values for each ``?`` of it.
            neighbours: Which neighbour's distance counts, up to 100.
            progress: Called with the stage and the share of it that is done.
            timeout: Seconds; None for no end.
        """
        look = wire.FindOutliers(collection, count, where, parameters, neighbours)
        return self._look(look, progress, timeout)

    def clusters(
        self,
        collection: str,
        count: int | None = None,
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Clusters:
        """What kinds of rows there are, whatever their labels.

        Args:
            collection: A reference.
            count: Of clusters, up to 1,000; None to choose.
            where: A condition.
            parameters: Values for each ``?`` of it.
            progress: Called with the stage and the share of it that is done.
            timeout: Seconds; None for no end.
        """
        return self._look(wire.FindClusters(collection, count, where, parameters), progress, timeout)

    def map(
        self,
        collection: str,
        method: Literal["pca", "umap"] = "pca",
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        points: int | None = None,
        clusters: int | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Map:
        """Rows as points of a plane: what is alike lies near each other.

        Args:
            collection: A reference.
            method: ``"pca"``, or ``"umap"``, which the server must have.
            where: A condition.
            parameters: Values for each ``?`` of it.
            points: The most, up to 100,000; of more rows a sample is shown. None for 20,000.
            clusters: How many to tell apart; None to choose.
            progress: Called with the stage and the share of it that is done.
            timeout: Seconds; None for no end.
        """
        look = wire.DrawMap(collection, method, where, parameters, points, clusters)
        return self._look(look, progress, timeout)

    def _look(self, look: Look[R], progress: Progress | None, timeout: float | None) -> R:
        with closing(self._calls.stream(look, timeout)) as steps:
            for step in steps:
                if step is not None and progress is not None:
                    progress(*step)
        return look.result()
