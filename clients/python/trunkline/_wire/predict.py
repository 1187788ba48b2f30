"""Images, vectors or rows -> what heads say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trunkline._wire import floats, methods
from trunkline._wire.chunks import Chunk, Limits
from trunkline._wire.job import Common, Job, common, joined, lane_of, model_ref
from trunkline._wire.neighbours import hits_of, joined_hits, most_queries
from trunkline._wire.prediction import Reading, read
from trunkline._wire.queries import Queries
from trunkline.exceptions import FailedPrecondition, Internal, InvalidRequest
from trunkline.heads import Unknown
from trunkline.predictions import PredictResult
from trunkline.results import ItemResults, SearchResult
from trunkline.values import HeadRef, ModelRef, ServerInfo
from trunkline_protos.v1 import heads_pb2


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Predictions(ItemResults):
    """What several heads say of the same items.

    Attributes:
        readings: A head's own part, in the order of the heads; none if nothing was sent.
        model: What embedded the images.
        vectors: Embeddings, where they were asked for.
        neighbours: The nearest rows, where they were asked for.
    """

    readings: list[Reading]
    model: ModelRef | None = None
    vectors: NDArray[np.float32] | None = None
    neighbours: SearchResult | None = None

    def of(self, position: int) -> PredictResult:
        """What one of the heads says."""
        shared = Common(inputs=self.inputs, errors=self.errors, start=self.start, timings=self.timings)
        if not self.readings:
            none = np.empty((len(self), 0), np.float32)
            labels = [None] * len(self)
            return PredictResult(labels=[*labels], probabilities=none, unknown=[*labels], **shared)
        return PredictResult(
            **vars(self.readings[position]),
            model=self.model,
            vectors=self.vectors,
            neighbours=self.neighbours,
            **shared,
        )


@dataclass(frozen=True)
class Wishes:
    """What a caller wants to know beside the labels.

    Attributes:
        top_k: The k most probable classes instead of all; None for all.
        unknown: When to abstain; True for as far as the card's 99% of held-out rows.
        with_distances: Whether to measure distances; None: where there is one head.
        with_vectors: Whether to bring the embeddings.
        neighbours: A collection to search for the nearest rows; empty for none.
        k: How many.

    Raises:
        InvalidRequest: A number out of range.
    """

    top_k: int | None = None
    unknown: bool | Unknown = False
    with_distances: bool | None = None
    with_vectors: bool = False
    neighbours: str = ""
    k: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.unknown, (bool, Unknown)):
            raise InvalidRequest(
                f"unknown is {self.unknown!r}; pass True, or bounds such as trunkline.Unknown(min_probability=0.5)"
            )
        for name, value in (("top_k", self.top_k), ("k", self.k)):
            if value is not None and not 1 <= value < 2**32:
                raise InvalidRequest(f"{name} is {value!r}; it must be a positive integer")

    def write(self, request: heads_pb2.PredictRequest) -> None:
        """Puts them into a request."""
        request.top_k = self.top_k or 0
        request.with_embeddings = self.with_vectors
        if self.with_distances is not None:
            request.with_distances = self.with_distances
        if self.neighbours:
            request.neighbours.collection = self.neighbours
            request.neighbours.k = self.k
        unknown = Unknown(max_distance="card") if self.unknown is True else self.unknown
        if unknown:
            request.unknown.SetInParent()
            if unknown.min_probability is not None:
                request.unknown.min_probability = unknown.min_probability
            if unknown.max_distance == "card":
                request.unknown.distance_of_card = True
            elif unknown.max_distance is not None:
                request.unknown.max_distance = unknown.max_distance


class PredictJob(Job[Predictions]):
    """Predict, in chunks, all of them by the versions that answered the first.

    Args:
        heads: References.
        model: What embeds the images.
        lane: Who waits.
        queries: The vectors or ids; None if the chunks are of images.
        collection: Of the ids.
        wishes: What else to bring.

    Raises:
        InvalidRequest: No head, another lane than there is, or ids without their collection.
    """

    method = methods.PREDICT

    def __init__(
        self,
        heads: Sequence[str],
        model: str,
        lane: str,
        queries: Queries | None,
        collection: str = "",
        wishes: Wishes | None = None,
    ) -> None:
        super().__init__(queries)
        if not heads:
            raise InvalidRequest("heads is empty; name at least one head")
        ids = queries is not None and not queries.are_vectors
        if ids != bool(collection):
            raise InvalidRequest("ids and collection= go together: the rows, and where they are")
        self._answering: tuple[HeadRef, ...] | None = None
        self._wishes = wishes or Wishes()
        self._base = heads_pb2.PredictRequest(
            heads=heads,
            model=model,
            lane=lane_of(lane),
            collection=collection,
            space_id=queries.space_id if queries else "",
        )
        self._wishes.write(self._base)

    def limits(self, info: ServerInfo, chunk_bytes: int, chunk_images: int) -> Limits:
        """What one request may carry, so that its neighbours fit a reply."""
        limits = super().limits(info, chunk_bytes, chunk_images)
        most = most_queries(self._wishes.k) if self._wishes.neighbours else limits.count
        return replace(limits, count=min(limits.count, most))

    def base(self) -> heads_pb2.PredictRequest:
        """The request without images, vectors or ids."""
        request = heads_pb2.PredictRequest()
        request.CopyFrom(self._base)
        return request

    def fill(self, request: heads_pb2.PredictRequest, chunk: Chunk) -> None:
        """Puts the images, vectors or ids in."""
        if self.queries is None:
            for item in chunk.payload:
                item.write(request.images.add())
        elif self.queries.are_vectors:
            floats.pack(chunk.payload, request.embeddings)
        else:
            request.ids.extend(chunk.payload)

    def outdated(self, reply: Any) -> bool:
        """Whether other versions answered than the first chunk's, as happens where one is promoted meanwhile."""
        if reply is None:
            return False
        if self._answering is None:
            self._answering = _refs(reply)
            # What is sent from now on asks for these.
            self._base.heads[:] = map(str, self._answering)
            return False
        return _refs(reply) != self._answering

    def result(self, chunk: Chunk, reply: Any) -> Predictions:
        """What each head says of each item that was served."""
        shared = common(chunk, reply)
        if reply is None:
            return Predictions(readings=[], **shared)
        if len(reply.predictions) != len(self._base.heads):
            raise Internal(
                f"the reply for {len(self._base.heads)} heads has {len(reply.predictions)} predictions"
            )
        for head in _refs(reply):
            self.check_space(head.space_id, chunk)
        self._check_versions(_refs(reply), chunk)
        failed = {failure.index - chunk.start for failure in shared["errors"]}
        served = [row not in failed for row in range(len(chunk))]
        vectors = None
        if self._wishes.with_vectors:
            matrix = floats.unpack(reply.embeddings, len(chunk.rows)).astype(np.float32, copy=False)
            vectors = floats.place(matrix, chunk.rows, len(chunk)).astype(np.float32, copy=False)
        return Predictions(
            readings=[read(message, chunk.rows, served) for message in reply.predictions],
            model=model_ref(reply.model),
            vectors=vectors,
            neighbours=hits_of(chunk, reply) if self._wishes.neighbours else None,
            **shared,
        )

    def merge(self, parts: Sequence[Predictions]) -> Predictions:
        """All items."""
        asked = [part for part in parts if part.readings]
        if not asked:
            return Predictions(readings=[], **joined(parts))
        # A part that nothing was asked for has empty rows, of the shape of the others.
        heads = range(len(asked[0].readings))
        blank = [
            part.readings or [asked[0].readings[head].blank(len(part)) for head in heads] for part in parts
        ]
        vectors = None
        if self._wishes.with_vectors:
            empty = np.empty((0, 0), np.float32)
            stacked = floats.stack(
                [part.vectors if part.vectors is not None else _nothing(part, empty) for part in parts]
            )
            vectors = stacked.astype(np.float32, copy=False)
        return Predictions(
            readings=[Reading.joined([readings[head] for readings in blank]) for head in heads],
            model=next((part.model for part in parts if part.model), None),
            vectors=vectors,
            neighbours=joined_hits(parts) if self._wishes.neighbours else None,
            **joined(parts),
        )

    def _check_versions(self, refs: tuple[HeadRef, ...], chunk: Chunk) -> None:
        if self._answering is not None and refs != self._answering:
            raise FailedPrecondition(
                f"items {chunk.start} to {chunk.start + len(chunk) - 1} were answered by "
                f"{', '.join(map(str, refs))}, those before by {', '.join(map(str, self._answering))}: the server "
                "does not answer by the versions that it is asked for",
                items=chunk.items,
            )


def _refs(reply: heads_pb2.PredictResponse) -> tuple[HeadRef, ...]:
    return tuple(
        HeadRef(prediction.head.name, prediction.head.version, prediction.head.space_id)
        for prediction in reply.predictions
    )


def _nothing(part: ItemResults, empty: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.empty((len(part), 0), np.float32) if len(part) else empty


def references(head: str | None, heads: Iterable[str] | None) -> tuple[list[str], Literal["one", "many"]]:
    """The heads that a caller names, and whether it is one or several.

    Raises:
        InvalidRequest: Both or neither are given, a text where a list is meant, or a head twice.
    """
    if (head is None) == (heads is None):
        raise InvalidRequest("pass head= for one head or heads= for several, and not both")
    if head is not None:
        return [head], "one"
    if isinstance(heads, str):
        raise InvalidRequest(f"heads is the text {heads!r}; pass a list of names: [{heads!r}]")
    assert heads is not None
    names = list(heads)
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise InvalidRequest(f"heads holds {twice!r} twice; name each head once")
    return names, "many"
