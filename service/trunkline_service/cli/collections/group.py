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


def condition_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --where and --param."""
    where = click.option(
        "--where", metavar="SQL", help='A condition over the columns, e.g. "label = ? AND split IS NULL".'
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
        raise click.UsageError(f"give exactly one of {options}; {len(named) or 'none'} of them was given")
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
