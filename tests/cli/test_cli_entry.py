"""The console script: what is interrupted before there is anything to interrupt, and what is logged."""

from __future__ import annotations

import builtins
import logging

import click.testing
import pytest

from trunkline_service.cli import entry
from trunkline_service.cli.app import trunkline_command


def test_an_interrupt_while_it_starts_ends_it_quietly(monkeypatch, capfd):
    imported = builtins.__import__

    def interrupted(name, *rest):
        if name == "trunkline_service.cli.app":
            raise KeyboardInterrupt
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    assert entry.main() == 130
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("words", "told"), [(["-v"], ["mine INFO"]), ([], [])])
def test_talkative_libraries_are_heard_only_when_they_warn(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    # As pylance does it, whatever was set before.
    monkeypatch.setattr(logging.getLogger("pylance"), "level", logging.INFO)
    click.testing.CliRunner().invoke(trunkline_command, [*words, "collections", "list"])
    (handler,) = root.handlers
    heard = []
    monkeypatch.setattr(handler, "emit", lambda record: heard.append(f"{record.name} {record.levelname}"))
    for name in ("faiss.loader", "pylance", "mine"):
        for level in (logging.INFO, logging.WARNING):
            record = logging.LogRecord(name, level, "", 0, "", (), None)
            if level >= handler.level:
                handler.handle(record)
    assert heard == ["faiss.loader WARNING", "pylance WARNING", *told, "mine WARNING"]
