"""The group of commands, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

import trunkline
from trunkline_service.cli import output
from trunkline_service.heads.report.text import TextTable


@click.group(short_help="Fit, list, show and promote heads: small models over a collection's embeddings.")
def heads() -> None:
    """Heads learn a task from stored embeddings; the backbone stays as it is."""


@contextmanager
def stages(quiet: bool) -> Iterator[Callable[[str, float], None] | None]:
    """A bar on standard error for work in stages; nothing where that is no terminal.

    Args:
        quiet: Whether to show none at all.
    """
    if quiet or not output.notices().is_terminal:
        yield None
        return
    with Bar(TextColumn("{task.description}"), BarColumn(), console=output.notices(), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, share: bar.update(task, description=stage, completed=share)


def described(head: trunkline.HeadInfo) -> dict[str, Any]:
    """A head as JSON: its card, and what the registry knows around it."""
    return {
        **head.card,
        "metric": head.metric,
        "score": head.score,
        "accuracy": head.accuracy,
        "versions": list(head.versions),
        "serving": head.serving,
        "aliases": head.aliases,
        "shadow": head.shadow,
    }


def print_tables(tables: Iterable[TextTable | None]) -> None:
    """Prints the tables of a report, each under its title; those without rows are left out."""
    for table in tables:
        if table is not None and table.rows:
            output.say(f"\n{table.title}")
            output.table(table.header, table.rows, table.numbers)


def figure(head: trunkline.HeadInfo) -> str:
    """``"accuracy 0.931"``; empty where a head was not evaluated."""
    return "" if head.score is None else f"{head.metric} {head.score:.3f}"


def named_version(client: trunkline.Client, reference: str) -> trunkline.HeadInfo:
    """The head of ``flowers@3`` or ``flowers@prod``.

    Raises:
        click.UsageError: A name alone.
    """
    if "@" not in reference:
        raise click.UsageError(f"{reference}: name the version too, e.g. {reference}@3")
    return client.head(reference)
