"""What the documents of all evaluations share: intervals, and figures that may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.strict_json import Kind, check_list, check_type

OPTIONAL_NUMBER: Kind = (float, int, type(None))

Intervals = Mapping[str, tuple[float, float]]


def read_interval(value: Any, where: str) -> tuple[float, float]:
    """A pair of numbers.

    Raises:
        ModelFileError: It is none.
    """
    check_list(value, float, where)
    if len(value) != 2:
        raise ModelFileError(f"{where} must be two numbers")
    return float(value[0]), float(value[1])


def read_intervals(value: Any, where: str) -> dict[str, tuple[float, float]]:
    """Pairs of numbers by name.

    Raises:
        ModelFileError: It is no object of such.
    """
    check_type(value, dict, where)
    return {name: read_interval(pair, f"{where}: {name}") for name, pair in value.items()}


def read_numbers(value: Any, where: str) -> dict[str, float]:
    """Numbers by name.

    Raises:
        ModelFileError: It is no object of such.
    """
    check_type(value, dict, where)
    for name, number in value.items():
        check_type(number, float, f"{where}: {name}")
    return {name: float(number) for name, number in value.items()}


def write_intervals(intervals: Intervals) -> dict[str, list[float]]:
    """What ``read_intervals`` reads."""
    return {name: list(pair) for name, pair in intervals.items()}
