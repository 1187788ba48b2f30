"""Images, vectors or stored rows -> what heads say of them."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.engine import Caller, Embedded
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import DecodeModeMismatch, InvalidArgument, TrunklineError
from trunkline_service.heads.card import PRETRAINED, HeadCard
from trunkline_service.heads.serving.loaded import LoadedHead
from trunkline_service.heads.serving.stacked import StackedHeads
from trunkline_service.heads.serving.unknown import UnknownPolicy
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.images.inputs import ImageInput
from trunkline_service.index.query import SearchOptions
from trunkline_service.settings import DecodeMode
from trunkline_service.workspace.answers import Predicted, Prediction
from trunkline_service.workspace.embedding import Embedder
from trunkline_service.workspace.searching import Searching
from trunkline_service.workspace.shadow import Shadows

_STACKS = 16
_DECODE_MODES: dict[str, DecodeMode] = {"exact": "exact", "fast": "fast"}


@dataclass(frozen=True)
class PredictOptions:
    """What a caller wants to know beside the outputs.

    Attributes:
        unknown: When to abstain; None for never.
        distances: Whether to measure how far items are from the training rows; None: where there is one
            head. An ``unknown`` with a distance measures it in any case.
        neighbours: A collection of the heads' space, to search for the nearest rows; empty for none.
        k: How many of these.
        admit: Called with the heads' cards before anything is spent; what it raises refuses the call.
    """

    unknown: UnknownPolicy | None = None
    distances: bool | None = None
    neighbours: str = ""
    k: int = 10
    admit: Callable[[Sequence[HeadCard]], None] | None = None


@dataclass(frozen=True)
class Images:
    """Images to be embedded.

    Attributes:
        images: N of them.
        model: What embeds them; empty for the model that the first head was fitted with.
        caller: Who waits.
    """

    images: Sequence[ImageInput]
    model: str = ""
    caller: Caller | None = None


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors that the caller has.

    Attributes:
        vectors: (N, dim) float32.
        space_id: Where they lie.
    """

    vectors: NDArray[np.float32]
    space_id: str


@dataclass(frozen=True)
class Rows:
    """Rows of a collection, whose stored vectors are taken.

    Attributes:
        collection: A reference.
        ids: N of them.
    """

    collection: str
    ids: Sequence[str]


Items: TypeAlias = Images | Vectors | Rows


class Predictor:
    """The part of the workspace that predicts; see `Workspace.predict`.

    Args:
        heads: The heads.
        store: The collections.
        embedder: Embeds images.
        searching: Finds neighbours.
        shadows: Told what was answered.
    """

    def __init__(
        self,
        heads: HeadRegistry,
        store: CollectionStore,
        embedder: Embedder,
        searching: Searching,
        shadows: Shadows,
    ) -> None:
        self._heads = heads
        self._store = store
        self._embedder = embedder
        self._searching = searching
        self._shadows = shadows
        self._stacks = _Stacks()

    def predict(self, refs: Sequence[str], items: Items, options: PredictOptions) -> Predicted:
        """What heads say of items, all by the versions that serve when the call begins."""
        heads = tuple(self._heads.load(ref) for ref in refs)
        # A head that is named twice, by an alias as well, is asked once.
        stack = self._stacks.of(tuple(dict.fromkeys(heads)))
        cards = [head.card for head in heads]
        if options.admit is not None:
            options.admit(cards)
        if options.neighbours:
            # Before anything is spent.
            self._searching.check_space(options.neighbours, cards[0].space_id)
        vectors, space_id, errors, embedded = self._vectors(items, cards)
        heads[0].check(vectors, space_id)
        vectors, errors = _finite(vectors, errors)
        measured = options.distances if options.distances is not None else len(cards) == 1
        if options.unknown is not None and options.unknown.max_distance is not None:
            measured = True
        answered = dict(zip(stack.heads, stack.outputs(vectors, space_id, measured), strict=True))
        answers = [answered[head] for head in heads]
        predictions = tuple(
            Prediction(
                card,
                answer.outputs,
                answer.distance,
                {} if options.unknown is None else options.unknown.reasons(card, answer),
            )
            for card, answer in zip(cards, answers, strict=True)
        )
        self._shadows.follow(predictions, vectors)
        found = None
        if options.neighbours:
            found = self._searching.of(options.neighbours, vectors, space_id, SearchOptions(options.k))
        return Predicted(predictions, vectors, errors, embedded, found)

    def _vectors(
        self, items: Items, cards: Sequence[HeadCard]
    ) -> tuple[NDArray[np.float32], str, Mapping[int, TrunklineError], Embedded | None]:
        """Vectors, their space, what failed of them, and what embedded them."""
        match items:
            case Images(images, model, caller):
                caller = dataclasses.replace(caller or Caller(), decode=_decode_of(cards))
                card = cards[0]
                embedded = self._embedder.embed(
                    images, model or card.model, caller, card.space_id, f"head {card.ref} takes"
                )
                return embedded.vectors, embedded.card.space_id, embedded.errors, embedded
            case Rows(collection, ids):
                return *self._stored(collection, ids, cards[0]), None
            case Vectors(vectors, space_id):
                return vectors, space_id, {}, None

    def _stored(
        self, collection: str, ids: Sequence[str], card: HeadCard
    ) -> tuple[NDArray[np.float32], str, Mapping[int, TrunklineError]]:
        resolved = self._store.resolve(collection)
        spec = resolved.collection.spec
        rows = resolved.collection.get(ids, resolved.version)
        vectors = np.full((len(rows), spec.dim), np.nan, np.float32)
        errors: dict[int, TrunklineError] = {}
        for position, row in enumerate(rows):
            if row.embedding is None:
                errors[position] = InvalidArgument(
                    f"row {row.id!r} has no embedding ({row.error}); head {card.ref} can't be asked about it"
                )
            else:
                vectors[position] = row.embedding
        return vectors, spec.space_id, errors


def _finite(
    vectors: NDArray[np.float32], errors: Mapping[int, TrunklineError]
) -> tuple[NDArray[np.float32], Mapping[int, TrunklineError]]:
    """Vectors and errors, with one for each row that holds NaN or infinity; such rows become NaN."""
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    unsaid = [row for row in broken.tolist() if row not in errors]
    if not unsaid:
        return vectors, errors
    vectors = vectors.copy()
    vectors[broken] = np.nan
    said = {
        row: InvalidArgument(
            f"the embedding of item {row} holds NaN or infinity; no head can be asked about it"
        )
        for row in unsaid
    }
    return vectors, {**errors, **said}


class _Stacks:
    """The stacks of heads that were asked for together lately: putting the matrices side by side takes time."""

    def __init__(self) -> None:
        self._stacks: OrderedDict[tuple[LoadedHead, ...], StackedHeads] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, heads: tuple[LoadedHead, ...]) -> StackedHeads:
        with self._lock:
            found = self._stacks.get(heads)
            if found is not None:
                self._stacks.move_to_end(heads)
                return found
        found = StackedHeads(heads)
        with self._lock:
            self._stacks[heads] = found
            while len(self._stacks) > _STACKS:
                self._stacks.popitem(last=False)
        return found


def _decode_of(cards: Sequence[HeadCard]) -> DecodeMode | None:
    """How images are to be decoded: as those that the heads learned from; None where that is nobody's wish.

    Raises:
        DecodeModeMismatch: Two heads learned from differently decoded images.
    """
    wishes: dict[DecodeMode, HeadCard] = {}
    for card in cards:
        # A network's own classifier learned from neither; vectors that were brought in tell nothing.
        if card.kind != PRETRAINED and (mode := _DECODE_MODES.get(card.decode)) is not None:
            wishes.setdefault(mode, card)
    if len(wishes) > 1:
        one, other = wishes.values()
        raise DecodeModeMismatch(
            f"head {one.ref} learned from images that were decoded {one.decode!r}, and head {other.ref} from "
            f"{other.decode!r} ones; ask for them in two calls"
        )
    return next(iter(wishes), None)
