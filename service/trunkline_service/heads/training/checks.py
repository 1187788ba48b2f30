"""What a training set refuses: arrays and labels that can't be learned from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.task import Task
from trunkline_service.heads.training.notes import some

# Looked at together, so that a matrix of gigabytes needs no second one of booleans.
_CHUNK_ROWS = 4096
# Heads answer in float32, and larger values come near its end; for weights, of which squares are summed.
_LARGEST_VALUE = 1e30
# Of the largest weight to the smallest: beyond it the light rows vanish among float64's rounding errors.
_WEIGHT_RATIO = 1e12


def check_task(task: str) -> None:
    """Refuses what is no task.

    Raises:
        InvalidArgument: Naming it.
    """
    if task not in get_args(Task):
        raise InvalidArgument(f"task is {task!r}; it can be {', '.join(get_args(Task))}")


def check_arrays(embeddings: Any, labels: Any) -> None:
    """Refuses embeddings that are no float32 (N, dim), or not as many labels.

    Raises:
        InvalidArgument: Saying what they are.
    """
    if not isinstance(embeddings, np.ndarray) or embeddings.dtype != np.float32:
        got = getattr(embeddings, "dtype", type(embeddings).__name__)
        raise InvalidArgument(f"embeddings must be a float32 array, and are {got}")
    if embeddings.ndim != 2 or embeddings.shape[1] == 0:
        raise InvalidArgument(f"embeddings must be (N, dim), and are of shape {embeddings.shape}")
    if len(labels) != len(embeddings):
        raise InvalidArgument(f"{len(embeddings)} embeddings came with {len(labels)} labels; give one each")


def check_text(distinct: Iterable[Any], row_of: Callable[[Any], int]) -> None:
    """Refuses labels that are no text; None may be among them.

    Args:
        distinct: Each label once.
        row_of: Gives the first row of a label.

    Raises:
        InvalidArgument: Naming the first row of one that is not.
    """
    for label in distinct:
        if label is None:
            continue
        if not isinstance(label, str):
            raise InvalidArgument(
                f"the label of row {row_of(label)} is {label!r}, of type {type(label).__name__}; labels are text"
            )
        try:
            label.encode()
        except UnicodeEncodeError as exc:
            raise InvalidArgument(
                f"the label of row {row_of(label)}, {label!r}, is not valid Unicode; relabel it"
            ) from exc


def check_finite(rows: NDArray[np.float32], kept: NDArray[np.bool_], ids: Sequence[str]) -> None:
    """Refuses rows with NaN or infinity.

    Args:
        rows: (n, dim), those that were kept.
        kept: (N,) which of the rows that came in they are.
        ids: N of them, or none.

    Raises:
        InvalidArgument: Naming the rows by their position among those that came in, or by their ids.
    """
    found = [
        start + np.flatnonzero(~np.isfinite(chunk).all(axis=1))
        for start in range(0, len(rows), _CHUNK_ROWS)
        if not np.isfinite(chunk := rows[start : start + _CHUNK_ROWS]).all()
    ]
    if found:
        bad = np.concatenate(found)
        places = np.flatnonzero(kept)[bad].tolist()
        raise InvalidArgument(
            f"{len(bad)} of {len(rows)} labelled rows hold NaN or infinity (rows "
            f"{some(ids[place] if ids else str(place) for place in places)}); leave failed rows out, or "
            "embed them again"
        )


def check_lengths(rows: int, **parts: Sequence[Any] | NDArray[Any] | None) -> None:
    """Refuses what comes with rows and not one for each; None is passed by.

    Raises:
        InvalidArgument: Naming the part.
    """
    for name, part in parts.items():
        if part is not None and len(part) != rows:
            raise InvalidArgument(f"{rows} embeddings came with {len(part)} {name}; give one each, or none")


def checked_weights(weights: Any) -> NDArray[np.float64]:
    """Weights as float64 (N,).

    Raises:
        InvalidArgument: One that is no positive, finite number, naming its row; weights too far apart.
    """
    values = _numbers("weights", weights)
    if values.ndim != 1:
        raise InvalidArgument(f"weights must be (N,), and are of shape {values.shape}")
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        raise InvalidArgument(
            f"the weight of row {bad[0]} is {values[bad[0]]:g}; weights are positive and finite. "
            "Leave the row out instead of giving it no weight"
        )
    bad = np.flatnonzero((values > _LARGEST_VALUE) | (values < 1 / _LARGEST_VALUE))
    if len(bad):
        raise InvalidArgument(
            f"the weight of row {bad[0]} is {values[bad[0]]:g}; weights lie from {1 / _LARGEST_VALUE:g} to "
            f"{_LARGEST_VALUE:g}. Divide all of them by the same number"
        )
    if len(values) and values.max() / _WEIGHT_RATIO > values.min():
        raise InvalidArgument(
            f"the weights of rows {values.argmin()} and {values.argmax()} are {values.min():g} and "
            f"{values.max():g}; they may be {_WEIGHT_RATIO:g} times apart. Leave out the lightest rows"
        )
    return values


def checked_values(labels: Any) -> NDArray[np.float64]:
    """Values to be regressed on, as float64 (N, M); NaN where there is none.

    Raises:
        InvalidArgument: They are no numbers, of another shape, infinite, or beyond 1e30.
    """
    values = _numbers("values", labels)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] == 0:
        raise InvalidArgument(f"values must be (N,) or (N, M), and are of shape {values.shape}")
    bad = np.flatnonzero(np.isinf(values).any(axis=1))
    if len(bad):
        raise InvalidArgument(f"the value of row {bad[0]} is infinite; correct it, or leave it out for null")
    bad = np.flatnonzero((np.abs(values) > _LARGEST_VALUE).any(axis=1))
    if len(bad):
        worst = values[bad[0]][np.nanargmax(np.abs(values[bad[0]]))]
        raise InvalidArgument(
            f"the value of row {bad[0]} is {worst:g}, and heads answer in float32: give values up to "
            f"{_LARGEST_VALUE:g}, in another unit"
        )
    return values


def checked_mask(name: str, mask: Any) -> NDArray[np.bool_]:
    """A bool (N,) array itself.

    Raises:
        InvalidArgument: It is something else.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 1:
        got = getattr(mask, "dtype", type(mask).__name__)
        raise InvalidArgument(f"{name} must be a bool array (N,), and is {got}")
    return mask


def _numbers(name: str, values: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise InvalidArgument(f"{name} must be numbers: {exc}") from exc
