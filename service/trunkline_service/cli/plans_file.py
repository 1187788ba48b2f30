"""Execution plans written into trunkline.toml, whose other lines stay as they are."""

from __future__ import annotations

import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from trunkline_service.errors import SettingsError
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.settings import plan_header

_HEADER = re.compile(
    r"""\s*\[\s*plans\s*\.\s*(?P<quote>["']?)(?P<name>[A-Za-z0-9._-]+)(?P=quote)\s*\]\s*(#.*)?"""
)
_ANY_HEADER = re.compile(r"\s*\[")
_ENTRY = re.compile(r"(?P<before>\s*(?P<key>threads|runs|batch)\s*=\s*)[^#\s]+(?P<after>.*)", re.DOTALL)


def write_plans(path: Path, plans: Mapping[str, ExecutionPlan]) -> None:
    """Puts plans into a settings file, which is made where it is not there; all of it or nothing.

    Args:
        path: The file.
        plans: By the model's name.

    Raises:
        SettingsError: The file holds plans in another form than ``[plans.NAME]`` tables.
        OSError: It can't be read or written.
    """
    # A link stays a link.
    target = path.resolve()
    text = target.read_bytes().decode("utf-8") if target.exists() else ""
    changed = with_plans(text, plans, path.name)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{path.name}-", delete=False) as draft:
        try:
            draft.write(changed.encode("utf-8"))
            draft.close()
            if target.exists():
                shutil.copymode(target, draft.name)
            else:
                Path(draft.name).chmod(0o644)
            Path(draft.name).replace(target)
        finally:
            Path(draft.name).unlink(missing_ok=True)


def with_plans(text: str, plans: Mapping[str, ExecutionPlan], name: str = "trunkline.toml") -> str:
    """The text of a settings file with these plans in it; every other line, comments too, as it was.

    Args:
        text: Valid TOML.
        plans: By the model's name.
        name: Of the file, for the message.

    Raises:
        SettingsError: Plans stand there in another form than ``[plans.NAME]`` tables.
    """
    changed = text
    for model, plan in plans.items():
        changed = _with_plan(changed, model, plan)
    wanted = tomllib.loads(text)
    tables = wanted.setdefault("plans", {})
    if not plans:
        return text
    # What is written must read as what was meant, whatever form the file has.
    try:
        if isinstance(tables, dict):
            tables.update({model: asdict(plan) for model, plan in plans.items()})
            if tomllib.loads(changed) == wanted:
                return changed
    except tomllib.TOMLDecodeError:
        pass
    raise SettingsError(
        f"{name} holds plans in a form that is not understood; write each as a table [plans.NAME] "
        "with threads, runs and batch, or remove them, and run it again"
    )


def _with_plan(text: str, model: str, plan: ExecutionPlan) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    start = next((number for number, line in enumerate(lines) if _names(line, model)), None)
    if start is None:
        return text + _apart(text, newline) + newline.join(_table(model, plan)) + newline
    end = next((at for at in range(start + 1, len(lines)) if _ANY_HEADER.match(lines[at])), len(lines))
    missing = asdict(plan)
    for number in range(start + 1, end):
        entry = _ENTRY.fullmatch(lines[number])
        if entry and entry["key"] in missing:
            lines[number] = f"{entry['before']}{missing.pop(entry['key'])}{entry['after']}"
    if not lines[start].endswith("\n"):
        lines[start] += newline
    lines[start + 1 : start + 1] = [f"{key} = {value}{newline}" for key, value in missing.items()]
    return "".join(lines)


def _names(line: str, model: str) -> bool:
    header = _HEADER.fullmatch(line.rstrip("\r\n"))
    if header is None:
        return False
    # Without quotes a dot makes a table inside a table.
    return header["name"] == model and (bool(header["quote"]) or "." not in model)


def _table(model: str, plan: ExecutionPlan) -> list[str]:
    return [plan_header(model), *(f"{name} = {value}" for name, value in asdict(plan).items())]


def _apart(text: str, newline: str) -> str:
    """What must stand between the text and a new table."""
    if not text.strip():
        return ""
    return newline if text.endswith("\n") else 2 * newline
