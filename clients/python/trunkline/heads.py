"""What a client knows of heads: what there is, when to abstain, and how a move to another space went."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from trunkline.values import HeadRef

_SHOWN = 10


@dataclass(frozen=True)
class HeadInfo:
    """A head that the server can predict with.

    Attributes:
        name: Name of the head.
        version: A positive integer.
        kind: ``"logistic"``, ...
        space_id: The space of its inputs.
        model: What made the training embeddings, ``"name@version"``.
        classes: Names of the outputs, in order: classes, or the targets of a regression.
        accuracy: Cross-validated, 0 to 1; None for a network's own classifier and for other tasks.
        collection: What it was fitted on.
        collection_version: At which version.
        card: The whole card.
        task: ``"single-label"``, ``"multi-label"``, ``"regression"`` or ``"anomaly"``.
        metric: The figure that it is judged by, e.g. ``"accuracy"`` or ``"R2"``; empty where there is none.
        score: Its value out of fold, or None.
        versions: All versions of the name, ascending.
        serving: The version that the bare name stands for; None while there are candidates only.
        aliases: Versions by alias.
        shadow: The candidate that runs beside the serving version, or None.
    """

    name: str
    version: int
    kind: str
    space_id: str
    model: str
    classes: tuple[str, ...]
    accuracy: float | None
    collection: str
    collection_version: int
    card: dict[str, Any] = field(repr=False, hash=False)
    task: str = "single-label"
    metric: str = ""
    score: float | None = None
    versions: tuple[int, ...] = ()
    serving: int | None = None
    aliases: dict[str, int] = field(default_factory=dict, hash=False)
    shadow: int | None = None

    def __repr__(self) -> str:
        shown = ((entry.name, getattr(self, entry.name)) for entry in fields(self) if entry.repr)
        return f"HeadInfo({', '.join(f'{name}={_short(value)}' for name, value in shown)})"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def _short(value: Any) -> str:
    """Thousands of classes tell nobody anything."""
    if isinstance(value, tuple) and len(value) > _SHOWN:
        return f"({', '.join(map(repr, value[:_SHOWN]))}, ... {len(value) - _SHOWN} more)"
    return repr(value)


@dataclass(frozen=True)
class Unknown:
    """When a head should rather say nothing: where one of the bounds is broken.

    Attributes:
        min_probability: The most probable class must have at least this.
        max_distance: How far from the training rows an item may be, in the head's own measure;
            ``"card"`` for as far as 99% of the training rows that were held out.
    """

    min_probability: float | None = None
    max_distance: float | Literal["card"] | None = None


@dataclass(frozen=True)
class Migration:
    """A head before and after it was fitted anew on another collection.

    Attributes:
        before: The version that was there.
        after: The new version.
        shared_rows: Rows whose ids both collections hold.
        agreement: The share of these on which both say the same; None where there are none.
        missing_rows: Rows that it could learn from before, and that the other collection lacks.
    """

    before: HeadInfo
    after: HeadInfo
    shared_rows: int
    agreement: float | None
    missing_rows: int = 0


@dataclass(frozen=True)
class Suggestion:
    """A row that is worth a label.

    Attributes:
        id: Of the row.
        source: Where its image comes from; empty where unknown.
        margin: How sure the head is of its answer, from 0, undecided, to 1, certain.
        reason: The same in words.
        likeliest: The two most probable labels with their probabilities, the more probable one first.
    """

    id: str
    source: str
    margin: float
    reason: str
    likeliest: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Suggestions:
    """What to label next.

    Attributes:
        head: Which version was asked.
        collection: Name of the collection.
        collection_version: Its version then.
        unlabelled: Rows that have an embedding and no label.
        asked: How many of them the head was asked about: all, or a sample where those are too many.
        rows: What adds most comes first.
    """

    head: HeadRef
    collection: str
    collection_version: int
    unlabelled: int
    asked: int
    rows: tuple[Suggestion, ...]
