"""Printing: tables and sentences for people, JSON for programs."""

from __future__ import annotations

import json
import shlex
import sys
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import numpy as np
from click.core import ParameterSource
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

import trunkline
from trunkline_service.models.card import ModelCard

BUNDLED_MODEL = "trunkline-small"
_PIPE_WIDTH = 400
_GAP = "  "
# Control characters, the ends of a line or a paragraph, and halves of characters that UTF-8 can't hold.
_UNSEEN = frozenset({"Cc", "Zl", "Zp", "Cs"})
# What turns the direction of the text behind it: categories of them, and the three marks.
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_MARKS = frozenset("\u200e\u200f\u061c")
# Beyond so many decimals a recall is as good as 1, and still is none.
_DECIMALS = 6


def console() -> Console:
    """Standard output; plain when it is not a terminal."""
    return _console(stderr=False)


def notices() -> Console:
    """Standard error: progress, hints, warnings."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # A pipe has no width: nothing is folded there.
    width = None if terminal else _PIPE_WIDTH
    return Console(stderr=stderr, highlight=False, soft_wrap=not terminal, width=width)


def counted(count: int, thing: str, things: str | None = None) -> str:
    """``"1 image"``, ``"2,000 images"``; with ``things`` for a plural of another form."""
    return f"{count:,} {thing if count == 1 else things or f'{thing}s'}"


def recall_figure(value: float, decimals: int = 3) -> str:
    """A recall, 0 to 1, with so many decimals; more where it would be rounded to a 1 that it is not."""
    for count in range(decimals, _DECIMALS + 1):
        text = f"{value:.{count}f}"
        if value >= 1 or float(text) < 1:
            return text
    return f"> {'0.'.ljust(_DECIMALS + 2, '9')}"


def moment(when: datetime | str) -> str:
    """``"2026-11-22 05:14:26 UTC"``, of a time or of one in ISO 8601."""
    time = datetime.fromisoformat(when) if isinstance(when, str) else when
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def visible(text: str) -> str:
    """The text in one line, with what would break or turn it written as escapes: ``\\n``, ``\\t``, ``\\u202e``."""
    if text.isprintable() and not _turns(text):
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii") if _hides(character) else character
        for character in text
    )


def _hides(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN or _turns(character)


def _turns(text: str) -> bool:
    return any(character in _MARKS or unicodedata.bidirectional(character) in _TURNING for character in text)


def same_command(*more: str, without: Collection[str] = ()) -> str:
    """The command line that click is running, such that it can be pasted into a shell.

    Args:
        more: Options to add.
        without: Options to leave out, e.g. ``"--limit"``.
    """
    context = click.get_current_context()
    words = ["trunkline", *context.command_path.split()[1:]]
    options: list[str] = []
    arguments: list[str] = []
    for parameter in context.command.get_params(context):
        if context.get_parameter_source(parameter.name or "") is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[parameter.name or ""]
        if not isinstance(parameter, click.Option):
            arguments += map(str, value if parameter.nargs == -1 else [value])
        elif not set(parameter.opts) & set(without):
            options += _given(parameter, value)
    # Of an argument that begins with a hyphen, click would make options.
    end = ["--"] if any(word.startswith("-") for word in arguments) else []
    words += [*options, *more, *end, *arguments] if end else [*arguments, *options, *more]
    return shlex.join(words)


def _given(option: click.Option, value: Any) -> list[str]:
    """An option as it is written: a flag alone, or once for each value."""
    if option.is_flag:
        return [(option.opts if value else option.secondary_opts)[0]]
    return [word for one in (value if option.multiple else [value]) for word in (option.opts[0], str(one))]


def say(text: str) -> None:
    """A line for people."""
    console().print(Text(text))


def hint(text: str) -> None:
    """A line on standard error, so that it never gets into a program's input."""
    notices().print(Text(text, style="dim"))


def warn(text: str) -> None:
    """A warning on standard error."""
    notices().print(Text(f"warning: {text}", style="yellow"))


def note(text: str) -> None:
    """What deserves a look, on standard error."""
    notices().print(Text(f"note: {text}"))


def pairs(rows: Iterable[tuple[str, Any]]) -> None:
    """Prints names with their values, a line each; those without a value are left out. See `visible`."""
    shown = [(name, visible(str(value))) for name, value in rows if value not in (None, "")]
    if not console().is_terminal:
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            say(f"{name:<{width}}  {value}")
        return
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column()
    grid.add_column(overflow="fold")
    for name, value in shown:
        grid.add_row(Text(name), Text(value))
    console().print(grid)


def single(value: Any) -> Any:
    """The same document with its floats as single precision means them: 0.97, not 0.9700000286102295."""
    match value:
        case float():
            return float(str(np.float32(value)))
        case dict():
            return {key: single(entry) for key, entry in value.items()}
        case list() | tuple():
            return [single(entry) for entry in value]
        case _:
            return value


def print_json(value: Any) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[str] = ()) -> None:
    """Prints a table.

    Args:
        columns: Headings.
        rows: Cells, shown as text: no markup is read from them, and none breaks its row; see `visible`.
        numbers: Headings of the columns that are aligned to the right.
    """
    cells = [["" if cell is None else visible(str(cell)) for cell in row] for row in rows]
    if not console().is_terminal:
        _plain_table(columns, cells, numbers)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in cells:
        grid.add_row(*map(Text, row))
    console().print(grid)


def _plain_table(columns: Sequence[str], cells: list[list[str]], numbers: Sequence[str]) -> None:
    """For a pipe or a file: nothing is folded, and no line ends in blanks."""
    lines = [list(columns), *cells]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (
            " " * (width - cell_len(cell)) + cell
            if name in numbers
            else cell + " " * (width - cell_len(cell))
            for name, cell, width in zip(columns, line, widths, strict=True)
        )
        sys.stdout.write(_GAP.join(padded).rstrip(" ") + "\n")


def say_about_model(name: str, pretrained: bool) -> None:
    """What a user should know about the model that embeds their images; at most one line each."""
    if name.partition("@")[0] == BUNDLED_MODEL:
        hint(
            f"using the bundled model {BUNDLED_MODEL}, for first steps; better ones are one export away: "
            "trunkline export timm:vit_small_patch14_dinov2.lvd142m"
        )
    warn_of_model(name, pretrained)


def warn_of_model(name: str, pretrained: bool) -> None:
    """What a user should know about vectors that a model made earlier."""
    if not pretrained:
        warn(f"model {name} has random weights (--no-pretrained); its vectors mean nothing")


def say_about(client: trunkline.Client, reference: str) -> None:
    """As `say_about_model`, of a model that the client knows by its reference."""
    try:
        pretrained = client.model(reference).pretrained
    except (trunkline.NotFound, trunkline.FailedPrecondition):
        # A head or a collection can outlive its model; the vectors are what they were.
        return
    say_about_model(reference, pretrained)


def parity_words(card: ModelCard) -> str:
    """How the model's vectors were proved, in a line."""
    parity = card.parity
    if parity.cosine_min is None:
        return "parity: unverified, since there was nothing to compare with (--reference DIR)"
    return (
        f"parity with {parity.reference.partition(' and ')[0]}: cosine at least {parity.cosine_min:.6f} "
        + (f"(mean {parity.cosine_mean:.6f}) over {parity.images} images")
    )


def say_about_card(card: ModelCard) -> None:
    """The same, from a card."""
    say_about_model(card.reference, card.pretrained)
