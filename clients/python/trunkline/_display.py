"""How results show themselves: one line in a terminal, a small table in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from types import ModuleType

from trunkline.exceptions import MissingExtra
from trunkline.values import ItemFailure

SHOWN = 5


def line(kind: str, facts: Sequence[str], failures: Sequence[ItemFailure]) -> str:
    """``EmbedResult(3 items, dim 384, 1 failed: #2 truncated_image)``."""
    return f"{kind}({', '.join([*facts, *_failed(failures)])})"


def _failed(failures: Sequence[ItemFailure]) -> list[str]:
    if not failures:
        return []
    named = ", ".join(f"#{failure.index} {failure.reason}" for failure in failures[:SHOWN])
    return [f"{len(failures)} failed: {named}{', ...' if len(failures) > SHOWN else ''}"]


def table(title: str, facts: Mapping[str, object], failures: Sequence[ItemFailure]) -> str:
    """An HTML table of facts, then of the first failures; every text in it is escaped."""
    rows = [_row(name, str(value)) for name, value in facts.items()]
    rows += [_row(f"#{failure.index} {failure.source}", failure.message) for failure in failures[:SHOWN]]
    if len(failures) > SHOWN:
        rows.append(_row("", f"and {len(failures) - SHOWN} more failures in .errors"))
    return f"<table><caption>{escape(title)}</caption>{''.join(rows)}</table>"


def _row(name: str, value: str) -> str:
    return f'<tr><th style="text-align:left">{escape(name)}</th><td>{escape(value)}</td></tr>'


def count(number: int, noun: str) -> str:
    """``1 item``, ``2 items``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def pandas() -> ModuleType:
    """The pandas package, imported on first use.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return import_module("pandas")
    except ImportError as exc:
        raise MissingExtra("to_pandas() needs pandas: pip install pandas") from exc
