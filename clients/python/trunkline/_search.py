"""What a client does with neighbours and indexes. `_search_async` is its twin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from numpy.typing import ArrayLike

from trunkline._sync import Calls
from trunkline._wire import index as wire
from trunkline._wire.items import ImageInput
from trunkline._wire.job import Lane
from trunkline._wire.queries import queries
from trunkline._wire.search import SearchJob, Wishes
from trunkline.exceptions import Internal
from trunkline.index import IndexInfo, IndexKind, Recall
from trunkline.results import EmbedResult, SearchResult
from trunkline.rows import Scalar

Progress = Callable[[str, float], None]
"""Called with the stage of a build and the share of it that is done."""


class SearchMethods:
    """The part of `Client` that is about neighbours, and the indexes that find them.

    Every method raises `NotFound` where there is no such collection, and another `TrunklineError` where the
    call failed.
    """

    _calls: Calls

    def search(
        self,
        collection: str,
        images: ImageInput | Iterable[ImageInput] | None = None,
        *,
        vectors: ArrayLike | EmbedResult | None = None,
        ids: str | Iterable[str] | None = None,
        k: int = 10,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        min_version: int = 0,
        min_score: float | None = None,
        group_by: str | None = None,
        per_group: int = 1,
        collapse: float | None = None,
        exact: bool = False,
        columns: Sequence[str] = (),
        space_id: str | None = None,
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> SearchResult:
        """The nearest rows of a collection, for each query, nearest first.

        Rows that changed since the index was built are compared exactly; ``min_version`` makes sure that
        a write is seen.

        Args:
            collection: Where to search.
            images: One image or an iterable of them as queries; see the class.
            vectors: (N, dim) numbers, or an `EmbedResult`, as queries.
            ids: Rows of the collection as queries; a row is not its own neighbour.
            k: How many neighbours at most, up to 1,000; with ``group_by``, how many groups.
            where: A condition over the collection's columns, e.g. ``"label = ? AND split IS NULL"``.
            parameters: Values for each ``?`` of it, in order; text from outside belongs here.
            min_version: The version that a write returned, to see that write on any server.
            min_score: Hits score at least this: a cosine at most 1; of the metric ``"euclidean"``, minus the
                largest distance.
            group_by: A column: of rows that share its value, only the best are hits. A row without a value is
                a group of its own, so of such rows up to ``k`` are hits.
            per_group: How many of each group.
            collapse: Rows whose similarity to a better hit is at least this are folded into it; see
                ``duplicates`` of the result.
            exact: Compare with every row, whatever the index.
            columns: Columns whose values each hit carries, your own or others but ``embedding``; see
                ``metadata`` of the result.
            space_id: The space of the vectors, of a declared one its name; an `EmbedResult` knows its own.
            lane: ``"interactive"`` or ``"bulk"``.
            timeout: Seconds for one request, instead of the client's.

        Raises:
            InvalidRequest: Not exactly one of images, vectors and ids; ``k`` below 1 or above 1,000; vectors of
                another length, or with NaN; a condition or a column that can't be used; a threshold above
                every score.
            SpaceMismatch: The vectors lie in another space than the collection's.
            TrunklineError: A request failed as a whole.
        """
        asked = queries(images, vectors, space_id, ids, takes_ids=True)
        wishes = Wishes(
            k, where, parameters, min_version, min_score, group_by, per_group, collapse, exact, columns
        )
        return self._calls.collect(SearchJob(collection, wishes, lane, asked), images, timeout)

    def index(self, collection: str, *, timeout: float | None = None) -> IndexInfo:
        """How a collection is searched at the moment: kind, version, measured recall, and why."""
        return self._calls.ask(wire.index(collection), timeout)

    def build_index(
        self,
        collection: str,
        *,
        kind: IndexKind | None = None,
        recall: float | None = None,
        k: int | None = None,
        memory_mb: int | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> IndexInfo:
        """Builds an index aside and swaps it in; searches go on meanwhile.

        A call that ends early, by an exception in ``progress`` for example, builds none.

        Args:
            collection: Its name.
            kind: ``"auto"`` chooses by size, dimension, memory and the recall that is measured. None: as before.
            recall: The least recall@k that is wanted, above 0 and at most 1. None: as before, at first 0.99.
            k: Of that recall. None: as before, at first 10.
            memory_mb: Mebibytes that the index may keep in memory; 0 for no bound. None: as before.
            progress: Called with the stage and the share of it that is done.
            timeout: Seconds; None for no end.

        Raises:
            InvalidRequest: A value that can't be.
            FailedPrecondition: Another build of this collection is under way.
        """
        build = wire.Build(collection, wire.options_of(kind, recall, k, memory_mb))
        with closing(self._calls.stream(build, timeout)) as messages:
            for message in messages:
                if message.HasField("index"):
                    return wire.index_info(message.index)
                if progress is not None:
                    progress(message.stage, message.share)
        raise Internal("the build ended without an index")

    def set_index(
        self,
        collection: str,
        *,
        kind: IndexKind | None = None,
        recall: float | None = None,
        k: int | None = None,
        memory_mb: int | None = None,
        timeout: float | None = None,
    ) -> IndexInfo:
        """Says what a collection's index is to be like from its next build on; builds none.

        Takes what `build_index` takes.

        Raises:
            InvalidRequest: Nothing was said, or a value that can't be.
        """
        options = wire.options_of(kind, recall, k, memory_mb)
        return self._calls.ask(wire.set_index(collection, options), timeout)

    def drop_index(self, collection: str, *, timeout: float | None = None) -> IndexInfo:
        """Deletes a collection's index and what was wished of it; gives how it is searched then: exactly."""
        return self._calls.ask(wire.drop_index(collection), timeout)

    def measure_recall(
        self, collection: str, k: int = 10, queries: int = 1000, *, timeout: float | None = None
    ) -> Recall:
        """Measures what the index finds, against exact search.

        Args:
            collection: Its name.
            k: Neighbours to ask for, up to 1,000.
            queries: How many rows to ask about, drawn at random.
            timeout: Seconds, instead of the client's.

        Raises:
            InvalidRequest: A count that can't be.
        """
        return self._calls.ask(wire.measure_recall(collection, k, queries), timeout)
