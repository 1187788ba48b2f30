"""The group of commands, and the options that several of them share."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import click

from trunkline.rows import Scalar
from trunkline_service.errors import InvalidArgument

NO_END = math.inf
"""For calls that rewrite files: they take as long as the collection is large."""


@click.group(short_help="List, show, correct, version and exchange collections.")
def collections() -> None:
    """Stored embeddings."""


def _some(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """A condition that says something; a shell's empty variable would stand for all rows.

    Raises:
        click.BadParameter: It is empty.
    """
    if text is not None and not text.strip():
        raise click.BadParameter("it is empty; give a condition, or leave --where out")
    return text


def condition_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --where and --param."""
    where = click.option(
        "--where",
        metavar="SQL",
        callback=_some,
        help='A condition over the columns, e.g. "label = ? AND split IS NULL". A column of your own whose name '
        "is a word of SQL stands in backticks, inside single quotes of the shell: '`select` > 5'; a time is "
        "timestamp '2026-01-31 12:00:00'.",
    )
    parameters = click.option(
        "--param",
        "parameters",
        multiple=True,
        metavar="V",
        help="A value for each ? of it, in order: text; 7, 0.5, true and null as such; '\"7\"' for the text 7.",
    )
    return where(parameters(command))


def yes_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --yes."""
    option = click.option(
        "--yes", is_flag=True, help="Don't ask. Needed where no terminal is there to answer at."
    )
    return option(command)


def scalar(text: str) -> Scalar:
    """A value of --param: what JSON reads as a number, a truth value, null or a text; any other text as it is.

    Raises:
        InvalidArgument: A JSON list or object, or a number beyond what floats hold.
    """
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    if isinstance(value, (list, dict)) or (isinstance(value, float) and not math.isfinite(value)):
        raise InvalidArgument(f"--param {text}: give one value, and a --param for each ? of the condition")
    found: Scalar = value
    return found


def scalars(texts: tuple[str, ...]) -> list[Scalar]:
    """The values of --param."""
    return [scalar(text) for text in texts]


def one_of(**given: object) -> str:
    """The name of the option that is given.

    Raises:
        click.UsageError: None or several are.
    """
    named = [name for name, value in given.items() if value]
    if len(named) != 1:
        options = ", ".join(f"--{name}" for name in given)
        got = " and ".join(f"--{name}" for name in named)
        told = f"{got} were given" if named else "none of them was given"
        raise click.UsageError(f"give exactly one of {options}; {told}")
    return named[0]


def asks() -> bool:
    """Whether somebody can answer."""
    return sys.stdin.isatty()


def confirm(question: str, yes: bool) -> None:
    """Asks, unless --yes has answered.

    Raises:
        click.Abort: The answer was no.
        click.UsageError: Nobody can answer.
    """
    if yes:
        return
    if not asks():
        raise click.UsageError(f"{question} Nobody is there to answer; add --yes")
    click.confirm(question, abort=True, err=True)
