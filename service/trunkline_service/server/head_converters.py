"""Heads and what they say: proto <-> domain. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trunkline_protos.v1 import common_pb2, heads_pb2
from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.serving.unknown import UnknownPolicy
from trunkline_service.heads.storage.reader import HeadEntry
from trunkline_service.server.converters import matrix_to
from trunkline_service.workspace import Migrated, Prediction, PredictOptions, Suggested, SuggestedRow

_DEFAULT_K = 10
DEFAULT_SUGGESTIONS = 20
# Half a gigabyte of them.
_MOST_OUTPUTS = 2**27
_CLASSIFIES = ("single-label", "multi-label")


def head_to(entry: HeadEntry) -> heads_pb2.Head:
    """A head, or a version of it."""
    card, pointer = entry.card, entry.pointer
    metric, score = ("", None) if card.metrics is None else card.metrics.headline
    return heads_pb2.Head(
        name=card.name,
        version=card.version,
        kind=card.kind,
        space_id=card.space_id,
        model=card.model,
        classes=card.classes,
        accuracy=card.metrics.accuracy if isinstance(card.metrics, Evaluation) else None,
        collection=card.collection,
        collection_version=card.collection_version,
        card_json=card.dumps(),
        task=card.task,
        metric=metric,
        score=score,
        versions=entry.versions,
        serving=pointer.serving,
        aliases=pointer.aliases,
        shadow=pointer.shadow,
    )


def migration_to(done: Migrated, before: HeadEntry, after: HeadEntry) -> heads_pb2.Migration:
    """A head before and after it moved to another space."""
    return heads_pb2.Migration(
        before=head_to(before),
        after=head_to(after),
        shared_rows=done.shared_rows,
        agreement=done.agreement,
        missing_rows=done.missing_rows,
    )


def suggested_to(found: Suggested) -> heads_pb2.SuggestResponse:
    """What to label next."""
    return heads_pb2.SuggestResponse(
        head=head_ref_to(found.card),
        collection=found.collection,
        collection_version=found.collection_version,
        unlabelled=found.unlabelled,
        asked=found.asked,
        suggestions=[_suggestion_to(row) for row in found.rows],
    )


def fit_options_from(message: heads_pb2.FitOptions) -> FitOptions:
    """How a head is to be fitted.

    Raises:
        InvalidArgument: A value that can't be used.
    """
    names = [entry.name for entry in message.DESCRIPTOR.fields if entry.name != "grid"]
    given = {name: getattr(message, name) for name in names if message.HasField(name)}
    return FitOptions(**given, grid=tuple(message.grid) or None)


def predict_options_from(request: heads_pb2.PredictRequest) -> PredictOptions:
    """What a caller wants to know beside the outputs.

    Raises:
        InvalidArgument: Bounds that can't be used.
    """
    return PredictOptions(
        unknown=_unknown_from(request.unknown) if request.HasField("unknown") else None,
        distances=request.with_distances if request.HasField("with_distances") else None,
        neighbours=request.neighbours.collection,
        k=request.neighbours.k or _DEFAULT_K,
    )


def prediction_to(prediction: Prediction, top_k: int) -> heads_pb2.Prediction:
    """What one head says of the items.

    Args:
        prediction: Of N items.
        top_k: How many classes of each, where the head classifies; 0 for all.
    """
    card = prediction.card
    message = heads_pb2.Prediction(
        head=head_ref_to(card),
        task=card.task,
        distances=None if prediction.distance is None else prediction.distance.tolist(),
        unknown=[
            heads_pb2.UnknownItem(index=index, reason=reason)
            for index, reason in sorted(prediction.unknown.items())
        ],
    )
    if top_k and card.task in _CLASSIFIES:
        _write_top(message, card.classes, prediction.outputs, top_k)
    else:
        message.classes.extend(card.classes)
        message.outputs.CopyFrom(matrix_to(prediction.outputs, common_pb2.FLOAT_TYPE_FLOAT32))
    return message


def head_ref_to(card: HeadCard) -> heads_pb2.HeadRef:
    """Which head answered."""
    return heads_pb2.HeadRef(name=card.name, version=card.version, space_id=card.space_id)


def check_size(
    cards: Sequence[HeadCard], items: int, most_bytes: int, *, top_k: int = 0, with_embeddings: bool = False
) -> None:
    """Does nothing where what heads are asked for can be computed, and fits into one reply.

    Args:
        cards: Of the heads.
        items: Of the request.
        most_bytes: The largest message.
        top_k: How many classes of each item are wanted; 0 for all.
        with_embeddings: Whether the embeddings go back too.

    Raises:
        InvalidArgument: They can't or don't; says what to do.
    """
    outputs = [max(1, len(card.classes)) for card in cards]
    if items * sum(outputs) > _MOST_OUTPUTS:
        raise InvalidArgument(
            f"{items} items with {sum(outputs)} outputs each are more than {_MOST_OUTPUTS} numbers, the most that "
            "one call computes; send fewer items at once, or ask fewer heads"
        )
    # With the top k comes the position of each class.
    sent = [
        2 * min(top_k, width) if top_k and card.task in _CLASSIFIES else width
        for card, width in zip(cards, outputs, strict=True)
    ]
    size = 4 * items * (sum(sent) + (cards[0].dim if with_embeddings else 0))
    if size > most_bytes:
        embeddings = " and its embedding" if with_embeddings else ""
        raise InvalidArgument(
            f"{items} items with {sum(outputs) if not top_k else sum(sent) // 2} outputs each{embeddings} take "
            f"{size / 1e6:.0f} MB, and a reply holds {most_bytes / 1e6:.0f}; send fewer items at once, ask fewer "
            f"heads, or for {'a smaller' if top_k else 'the'} top k alone"
        )


def _suggestion_to(row: SuggestedRow) -> heads_pb2.Suggestion:
    return heads_pb2.Suggestion(
        id=row.id,
        source=row.source,
        margin=row.margin,
        reason=row.reason,
        likeliest=[
            heads_pb2.LabelProbability(label=label, probability=probability)
            for label, probability in row.likeliest
        ],
    )


def _write_top(
    message: heads_pb2.Prediction, classes: Sequence[str], outputs: NDArray[np.float32], top_k: int
) -> None:
    k = min(top_k, len(classes))
    # Of thousands of classes a few: not all of them are sorted.
    chosen = np.argpartition(-outputs, k - 1, axis=1)[:, :k]
    figures = np.take_along_axis(outputs, chosen, axis=1)
    order = np.argsort(-figures, axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=1)
    named, positions = np.unique(chosen, return_inverse=True)
    message.classes.extend(classes[position] for position in named)
    message.top.k = k
    message.top.classes.extend(positions.ravel().tolist())
    message.top.probabilities.extend(np.take_along_axis(outputs, chosen, axis=1).ravel().tolist())


def _unknown_from(message: heads_pb2.Unknown) -> UnknownPolicy:
    if message.distance_of_card and message.HasField("max_distance"):
        raise InvalidArgument("max_distance and distance_of_card contradict each other; give one of them")
    distance = message.max_distance if message.HasField("max_distance") else None
    return UnknownPolicy(
        min_probability=message.min_probability if message.HasField("min_probability") else None,
        max_distance="card" if message.distance_of_card else distance,
    )
