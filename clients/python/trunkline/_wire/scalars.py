"""Values of columns, and parameters of conditions, to and from their message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from trunkline.exceptions import InvalidRequest
from trunkline.rows import Label, Scalar
from trunkline_protos.v1 import collections_pb2, common_pb2

_INT64 = range(-(2**63), 2**63)


def value_to(value: Any, where: str) -> collections_pb2.Value:
    """A value; numbers of numpy are taken as Python's.

    Args:
        value: The caller's.
        where: What it is, for the message.

    Raises:
        InvalidRequest: No value that a column can hold.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidRequest(f"{where}: {value} has no time zone; give it one (UTC, say)")
    if isinstance(value, int) and not isinstance(value, bool) and value not in _INT64:
        raise InvalidRequest(f"{where}: {value} does not fit into 64 bits; send it as text")
    message = collections_pb2.Value()
    match value:
        case None:
            pass
        case bool():
            message.truth = value
        case int():
            message.integer = value
        case float():
            message.number = value
        case datetime():
            message.time.FromDatetime(value)
        case str():
            message.text = check_text(value, where)
        case _:
            kind = type(value).__name__
            raise InvalidRequest(f"{where} is a {kind}; it can be text, a number, true or false, or a time")
    return message


def value_from(message: collections_pb2.Value) -> Scalar:
    """A value; None where nothing is set."""
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "time":
        moment: datetime = message.time.ToDatetime(tzinfo=UTC)
        return moment
    value: Scalar = getattr(message, kind)
    return value


def values_to(values: Sequence[Scalar]) -> list[collections_pb2.Value]:
    """The parameters of a condition.

    Raises:
        InvalidRequest: No list, or no value that a column can hold.
    """
    if isinstance(values, str):
        raise InvalidRequest(f"parameters is the text {values!r}; pass a list of values: [{values!r}]")
    if not isinstance(values, Iterable):
        raise InvalidRequest(f"parameters is {values!r}; pass a list of values: [{values!r}]")
    return [value_to(value, f"parameters[{index}]") for index, value in enumerate(values)]


def condition_to(where: str | None) -> str:
    """A condition; empty for none.

    Raises:
        InvalidRequest: No text, or one that says nothing, which a server would take for no condition.
    """
    if where is None:
        return ""
    if not check_text(where, "where").strip():
        raise InvalidRequest("where is empty; give a condition, or None to take all rows")
    return where


def new_value_to(value: Label | Scalar, where: str) -> collections_pb2.NewValue:
    """What a column is set to: a value, or the labels of a row of a multi-label collection.

    Raises:
        InvalidRequest: No value that a column can hold.
    """
    if isinstance(value, (tuple, list)):
        return collections_pb2.NewValue(labels=labels_to(value, where))
    return collections_pb2.NewValue(value=value_to(value, where))


def labels_to(labels: Sequence[str], where: str) -> common_pb2.Labels:
    """The labels of a row of a multi-label collection.

    Raises:
        InvalidRequest: One that is no text.
    """
    return common_pb2.Labels(labels=[check_text(label, where) for label in labels])


def metadata_to(metadata: Mapping[str, Scalar], where: str) -> dict[str, collections_pb2.Value]:
    """A row's own columns.

    Raises:
        InvalidRequest: A value that no column can hold.
    """
    return {name: value_to(value, f"{where}, column {name!r}") for name, value in metadata.items()}


def check_text(text: Any, where: str) -> str:
    """``text`` itself.

    Raises:
        InvalidRequest: It is none, or none that can be sent.
    """
    if not isinstance(text, str):
        raise InvalidRequest(f"{where} is {text!r}; it must be text")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"{where}: {text!r} is no valid Unicode text; escape it") from exc
    return text
