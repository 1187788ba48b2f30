"""What a comparison will do, and every reason not to begin it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trunkline_service.collections.collection import Collection
from trunkline_service.errors import (
    DecodeModeMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotEnoughData,
    SpaceMismatch,
)
from trunkline_service.heads.training.folds import usable_folds
from trunkline_service.jobs.comparison.names import collection_name, free_prefix
from trunkline_service.jobs.sources import SourceItem
from trunkline_service.models.card import ModelCard
from trunkline_service.names import check_name
from trunkline_service.workspace import Workspace

_SHOWN = 5
# Ids to look up before a collection is taken for this folder's.
_LOOKED_AT = 64


@dataclass(frozen=True)
class Contender:
    """A model that will be compared.

    Attributes:
        asked: As the caller named it.
        card: What that means now; a version published meanwhile belongs to the next comparison.
        collection: Where its vectors go.
    """

    asked: str
    card: ModelCard
    collection: str


def line_up(
    workspace: Workspace, items: Sequence[SourceItem], models: Sequence[str], into: str, folds: int
) -> list[Contender]:
    """The models, looked up, with their collections. Nothing is written or loaded.

    Raises:
        InvalidArgument: No model, one named twice, ``into`` or ``folds`` that can't be used.
        ModelNotFound: Names what is near.
        NotEnoughData: Fewer than two labels with two images each.
        SpaceMismatch, DecodeModeMismatch, FailedPrecondition: A collection of that name holds other vectors.
    """
    check_name(into, "collection")
    _check_models(models)
    check_labels(items, folds, "this folder (put the images of each label into a folder of its own)")
    contenders = [
        Contender(name, workspace.repository.resolve(name).card, collection_name(into, name))
        for name in models
    ]
    _check_apart(contenders)
    taken = workspace.collections.names()
    free = free_prefix(into, models, taken)
    for contender in contenders:
        if contender.collection in taken:
            _check_kept(workspace, contender, free)
            _check_folder(workspace.collections.open(contender.collection), items, free)
    return contenders


def has_label(item: SourceItem) -> bool:
    """Whether the folder gives this image a label."""
    return isinstance(item.label, str) and item.label.strip() != ""


def check_labels(items: Sequence[SourceItem], folds: int, where: str) -> None:
    """Refuses images that no head can be fitted to and evaluated on.

    Args:
        items: The images.
        folds: Of the cross-validation.
        where: What the images are, for the message.

    Raises:
        NotEnoughData: Fewer than two labels with two images each.
        InvalidArgument: ``folds`` is no integer from 2 on.
    """
    counts = Counter(item.label for item in items if has_label(item))
    usable = [count for count in counts.values() if count > 1]
    if len(usable) < 2:
        found = ", ".join(f"{label!r} ({count})" for label, count in counts.most_common(_SHOWN)) or "none"
        raise NotEnoughData(
            f"models are compared on at least 2 labels of at least 2 images each; labels of {where}: {found}"
        )
    usable_folds(np.repeat(np.arange(len(usable)), usable), folds)


def same_files(contenders: Sequence[Contender]) -> list[str]:
    """Sentences about references that lead to one file."""
    groups: dict[str, list[str]] = {}
    for contender in contenders:
        groups.setdefault(contender.card.artifact.artifact_id, []).append(contender.asked)
    return [
        f"{' and '.join(names)} are the same file; one of them is enough"
        for names in groups.values()
        if len(names) > 1
    ]


def _check_models(models: Sequence[str]) -> None:
    if not models:
        raise InvalidArgument("no model is given; name the models to compare, e.g. trunkline-small,resnet18")
    twice = [name for name, count in Counter(models).items() if count > 1]
    if twice:
        raise InvalidArgument(f"model {twice[0]!r} is given twice; name each model once")


def _check_apart(contenders: Sequence[Contender]) -> None:
    first: dict[str, str] = {}
    for contender in contenders:
        other = first.setdefault(contender.collection, contender.asked)
        if other != contender.asked:
            raise InvalidArgument(
                f"models {other!r} and {contender.asked!r} would share the collection "
                f"{contender.collection!r}; name the version of both or of neither"
            )


def _check_folder(kept: Collection, items: Sequence[SourceItem], free: str) -> None:
    """Refuses a collection that another folder's images are in under the same ids: they would be replaced.

    Told by a few rows whose file lay elsewhere and had another size.
    """
    known = kept.find([item.id for item in items[:_LOOKED_AT]])
    for item in items[:_LOOKED_AT]:
        row = known.get(item.id)
        if row is not None and row.source != item.source and row.size not in (None, item.size):
            raise FailedPrecondition(
                f"collection {kept.name!r} holds {item.id!r} from {row.source}, and here it is another file, "
                f"{item.source}: its vectors would be replaced. --into {free} starts afresh"
            )


def _check_kept(workspace: Workspace, contender: Contender, free: str) -> None:
    """Refuses a collection whose vectors are not those that this model would make."""
    kept = workspace.collections.open(contender.collection)
    remedy = f"--into {free} starts afresh"
    try:
        kept.check_space(contender.card.space_id)
        kept.check_decode(workspace.settings.decode)
    except (SpaceMismatch, DecodeModeMismatch) as exc:
        raise type(exc)(f"{exc.message}: {remedy}") from exc
    spec = kept.spec
    if spec.artifact_id != contender.card.artifact.artifact_id:
        raise FailedPrecondition(
            f"collection {contender.collection!r} was made by {spec.model}, artifact {spec.artifact_id}; "
            f"{contender.asked!r} is now {contender.card.reference}, artifact "
            f"{contender.card.artifact.artifact_id}: {remedy}"
        )
