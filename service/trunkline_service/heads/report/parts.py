"""Parts of a report that are nowhere else: baselines, reliability, pairs of values, scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trunkline_service.heads.evaluation.documents import read_interval
from trunkline_service.heads.strict_json import Kind, check_fields, check_list


@dataclass(frozen=True)
class Baseline:
    """What a simple rule reaches on the same rows and folds.

    Attributes:
        name: Of the rule, in words.
        figure: What the value is: ``accuracy``, ``macro-F1``, ``R2`` or ``AUROC``.
        value: The figure.
        interval: Its 95% interval; None where none is computed.
        p_value: Of McNemar's exact test against the head; None for tasks without right and wrong.
    """

    name: str
    figure: str
    value: float
    interval: tuple[float, float] | None = None
    p_value: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        return vars(self) | {"interval": None if self.interval is None else list(self.interval)}

    @classmethod
    def from_json(cls, document: Any, where: str) -> Baseline:
        """The baseline in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        check_fields(document, _BASELINE_KINDS, where)
        pair = document["interval"]
        read = None if pair is None else read_interval(pair, f"{where}: interval")
        return cls(**(document | {"interval": read}))


@dataclass(frozen=True)
class Reliability:
    """How often answers of a confidence were right, over bins of equal width.

    Attributes:
        count: Answers in each bin.
        confidence: Their mean confidence; 0 in an empty bin.
        right: The share of them that were right; 0 in an empty bin.
    """

    count: tuple[float, ...]
    confidence: tuple[float, ...]
    right: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        return {name: list(values) for name, values in vars(self).items()}

    @classmethod
    def from_json(cls, document: Any, where: str) -> Reliability:
        """The bins in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        return cls(**_number_lists(document, ("count", "confidence", "right"), where))


@dataclass(frozen=True)
class Pairs:
    """True and predicted values of one target, of a sample of rows.

    Attributes:
        target: Its name.
        true: The values.
        predicted: What the head said of the same rows while it had not seen them.
    """

    target: str
    true: tuple[float, ...]
    predicted: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        return {"target": self.target, "true": list(self.true), "predicted": list(self.predicted)}

    @classmethod
    def from_json(cls, document: Any, where: str) -> Pairs:
        """The pairs in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        check_fields(document, {"target": str, "true": list, "predicted": list}, where)
        values = {name: document[name] for name in ("true", "predicted")}
        return cls(document["target"], **_number_lists(values, ("true", "predicted"), where))


@dataclass(frozen=True)
class Scores:
    """Anomaly scores, counted in bins.

    Attributes:
        edges: B + 1 ends of the bins, rising.
        normal: B counts of normal rows.
        others: B counts of rows that are not.
    """

    edges: tuple[float, ...]
    normal: tuple[float, ...]
    others: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        return {name: list(values) for name, values in vars(self).items()}

    @classmethod
    def from_json(cls, document: Any, where: str) -> Scores:
        """The counts in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        return cls(**_number_lists(document, ("edges", "normal", "others"), where))


_BASELINE_KINDS: dict[str, Kind] = {
    "name": str,
    "figure": str,
    "value": float,
    "interval": (list, type(None)),
    "p_value": (float, type(None)),
}


def _number_lists(document: Any, names: tuple[str, ...], where: str) -> dict[str, tuple[float, ...]]:
    check_fields(document, dict.fromkeys(names, list), where)
    for name in names:
        check_list(document[name], float, f"{where}: {name}")
    return {name: tuple(document[name]) for name in names}
