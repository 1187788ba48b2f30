"""Tests guard documentation: every command has help and an example, and the README names commands that exist."""

from __future__ import annotations

import re
import shlex

import click
import click.testing
import pytest

from trunkline_service.cli.app import trunkline_command


def commands(group: click.Group = trunkline_command, path: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_a_line_of_help_and_an_example_that_parses(path, monkeypatch):
    command = COMMANDS[path]
    assert command.short_help
    example = re.search(r"Example: trunkline (.+)", command.help or "")
    assert example, f"{' '.join(path)} has no example"
    words = shlex.split(example.group(1))
    assert tuple(words[: len(path)]) == path
    for option in command.params:
        # Parsing alone: paths in an example need not exist here.
        if isinstance(option.type, click.Path):
            monkeypatch.setattr(option.type, "exists", False)
    command.make_context(" ".join(path), words[len(path) :])


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_has_help(path):
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.metavar, parameter.name


def test_the_readme_names_commands_and_options_that_exist(repository):
    text = (repository / "README.md").read_text()
    lines = re.findall(r"^ {4}trunkline (.+)$", text, re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        words = shlex.split(line, comments=True)
        path = next(path for path in COMMANDS if tuple(words[: len(path)]) == path)
        known = {name for parameter in COMMANDS[path].params for name in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line


def test_the_first_page_shows_the_first_day():
    page = click.testing.CliRunner().invoke(trunkline_command, ["--help"]).output
    first, rest = page.split("Then:")
    for name in ("demo", "export", "embed", "heads", "serve"):
        assert re.search(rf"^  {name} ", first, re.MULTILINE)
    assert "search" in rest
