"""Dataclasses as JSON and back, without a word about each of them. Pure."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def to_json(value: Any) -> Any:
    """A dataclass, a mapping, a sequence or a plain value as what ``json`` can write.

    Raises:
        TypeError: A value of another type.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: to_json(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def from_json(kind: Any, value: Any) -> Any:
    """The value that `to_json` was given, by its type.

    Args:
        kind: A dataclass, or any type that may be written at a field of one.
        value: What ``json`` read.

    Raises:
        KeyError, TypeError: It is not of that type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (kind,) = [argument for argument in arguments if argument is not types.NoneType]
        return from_json(kind, value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return typing.cast(Any, kind)(
            **{
                entry.name: from_json(hints[entry.name], value[entry.name])
                for entry in dataclasses.fields(kind)
            }
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {name: from_json(arguments[1], item) for name, item in value.items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        items = [from_json(arguments[0], item) for item in value]
        return tuple(items) if origin is tuple else items
    return Path(value) if kind is Path else value
