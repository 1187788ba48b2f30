"""Indexes: requests, and what their replies mean."""

from __future__ import annotations

from trunkline._wire import methods
from trunkline._wire.question import Question, Stream
from trunkline._wire.status import Refusal
from trunkline.exceptions import InvalidRequest
from trunkline.index import IndexBuild, IndexInfo, IndexLevel, IndexOptions, IndexSetting, Recall
from trunkline_protos.v1 import search_pb2


def index(collection: str) -> Question[IndexInfo]:
    """How a collection is searched."""
    request = search_pb2.GetIndexRequest(collection=collection)
    return Question(methods.GET_INDEX, request, index_info)


def set_index(collection: str, options: search_pb2.IndexOptions | None) -> Question[IndexInfo]:
    """What an index is to be like.

    Raises:
        InvalidRequest: Nothing was said.
    """
    if options is None:
        raise InvalidRequest("nothing to set; give kind=, recall=, k= or memory_mb=")
    request = search_pb2.SetIndexRequest(collection=collection, options=options)
    return Question(methods.SET_INDEX, request, index_info)


def drop_index(collection: str) -> Question[IndexInfo]:
    """An index is to go."""
    request = search_pb2.DropIndexRequest(collection=collection)
    return Question(methods.DROP_INDEX, request, index_info)


def measure_recall(collection: str, k: int, queries: int) -> Question[Recall]:
    """What an index finds.

    Raises:
        InvalidRequest: Counts that can't be.
    """
    for name, value in (("k", k), ("queries", queries)):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**32:
            raise InvalidRequest(f"{name} is {value!r}; it must be a positive integer")
    request = search_pb2.MeasureRecallRequest(collection=collection, k=k, queries=queries)
    return Question(methods.MEASURE_RECALL, request, _measured)


class Build(Stream[search_pb2.BuildIndexProgress]):
    """A call that builds an index and reports how far it is.

    Args:
        collection: Its name.
        options: What changes of what is wished; None where nothing does.
    """

    method = methods.BUILD_INDEX

    def __init__(self, collection: str, options: search_pb2.IndexOptions | None) -> None:
        self.request = search_pb2.BuildIndexRequest(collection=collection, options=options)
        self._collection = collection
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether it had begun."""
        return self._begun

    @property
    def progress(self) -> str:
        """How it can go on."""
        return f"the index before serves on; index({self._collection!r}) tells how the collection is searched"

    def words(self, refusal: Refusal) -> str:
        """Nothing where the server itself said why."""
        return "" if refusal.reason else self.progress

    def read(self, reply: search_pb2.BuildIndexProgress) -> search_pb2.BuildIndexProgress:
        """The message itself."""
        self._begun = True
        return reply


def options_of(
    kind: str | None, recall: float | None, k: int | None, memory_mb: int | None
) -> search_pb2.IndexOptions | None:
    """What changes of what is wished; None where nothing does.

    Raises:
        InvalidRequest: A value that can't be sent.
    """
    given = {"kind": kind, "recall": recall, "k": k, "memory_mb": memory_mb}
    message = search_pb2.IndexOptions()
    for name, value in given.items():
        if value is None:
            continue
        try:
            setattr(message, name, value)
        except (TypeError, ValueError) as exc:
            raise InvalidRequest(f"{name} is {value!r}, which can't be used: {exc}") from exc
    return message if any(value is not None for value in given.values()) else None


def recall_of(message: search_pb2.SearchResponse | search_pb2.Index | search_pb2.IndexBuild) -> Recall | None:
    """The recall in a reply; None where it has none."""
    return _measured(message.recall) if message.HasField("recall") else None


def index_info(message: search_pb2.Index) -> IndexInfo:
    """How the server says that a collection is searched."""
    return IndexInfo(
        collection=message.collection,
        version=message.collection_version,
        kind=message.kind,
        options=_options(message.options),
        rows=message.rows,
        delta_rows=message.delta_rows,
        deleted_rows=message.deleted_rows,
        build=_build(message.build) if message.HasField("build") else None,
        recall=recall_of(message),
        building=message.building,
        note=message.note,
    )


def _build(message: search_pb2.IndexBuild) -> IndexBuild:
    return IndexBuild(
        id=message.id,
        version=message.collection_version,
        kind=message.kind,
        rows=message.rows,
        held_out=message.held_out,
        parameters=dict(sorted(message.parameters.items())),
        effort=message.effort,
        recall=recall_of(message),
        settings=tuple(
            IndexSetting(entry.effort, entry.recall, entry.queries_per_s) for entry in message.settings
        ),
        reason=message.reason,
        options=_options(message.options),
        seconds=message.seconds,
        memory_bytes=message.memory_bytes,
        stored_bytes=message.stored_bytes,
        space_id=message.space_id,
        dim=message.dim,
        metric=message.metric,
        made_by=dict(sorted(message.made_by.items())),
        created_at=message.created_at,
        levels=tuple(IndexLevel(entry.effort, _measured(entry.recall)) for entry in message.levels),
    )


def _options(message: search_pb2.IndexOptions) -> IndexOptions:
    return IndexOptions(message.kind, message.recall, message.k, message.memory_mb or None)


def _measured(message: search_pb2.Recall) -> Recall:
    return Recall(
        k=message.k,
        measured=message.measured,
        low=message.low,
        queries=message.queries,
        version=message.version,
        rows=message.rows,
    )
