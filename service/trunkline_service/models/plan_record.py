"""What was measured once is not measured again: plans in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trunkline_service.models.choosing import Choice
from trunkline_service.models.plan import ExecutionPlan

_SCHEMA = 1
_FOLDER = "plans"
_CPU_INFO = Path("/proc/cpuinfo")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlanKey:
    """What a measurement depends on; with any of it changed, it is made anew.

    Attributes:
        artifact_id: The exported file.
        cpu: The processor's own name.
        cores: How many this machine has.
        threads: How many may be used.
        max_batch: The most images in one run.
        onnxruntime: Its version.
    """

    artifact_id: str
    cpu: str
    cores: int
    threads: int
    max_batch: int
    onnxruntime: str


def key_of(artifact_id: str, threads: int, max_batch: int) -> PlanKey:
    """The key on this machine."""
    import onnxruntime as ort

    return PlanKey(artifact_id, cpu_name(), os.cpu_count() or 1, threads, max_batch, ort.__version__)


def cpu_name(info: Path = _CPU_INFO) -> str:
    """What the processor calls itself, e.g. ``AMD EPYC 7763 64-Core Processor``."""
    with contextlib.suppress(OSError):
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


class PlanRecords:
    """The plans that were measured on this machine, a file each.

    Args:
        cache: Trunkline's folder in the user's cache; None keeps nothing.
    """

    def __init__(self, cache: Path | None) -> None:
        self._root = None if cache is None else cache / _FOLDER

    def get(self, key: PlanKey) -> ExecutionPlan | None:
        """The recorded plan; None where there is none, or none that can be read."""
        if self._root is None:
            return None
        path = self._root / _file_name(key)
        try:
            return _plan_in(json.loads(path.read_text(encoding="utf-8")), key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as exc:
            _log.warning("the recorded plan %s can't be used and is measured anew: %s", path.name, exc)
            return None

    def put(self, key: PlanKey, choice: Choice) -> None:
        """Records a choice; where the cache can't be written, that is logged and the next start measures."""
        if self._root is None:
            return
        document = {
            "schema": _SCHEMA,
            "key": asdict(key),
            "plan": asdict(choice.plan),
            "images_per_second": [{**asdict(plan), "rate": rate} for plan, rate in choice.rates.items()],
        }
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with _draft(self._root / _file_name(key)) as draft:
                draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        except OSError as exc:
            _log.warning("the plan is not recorded, so that the next start measures again: %s", exc.strerror)


def _file_name(key: PlanKey) -> str:
    digest = hashlib.sha256(json.dumps(asdict(key), sort_keys=True).encode()).hexdigest()
    return f"{key.artifact_id}-{digest[:16]}.json"


def _plan_in(document: dict[str, Any], key: PlanKey) -> ExecutionPlan:
    if document["schema"] != _SCHEMA or document["key"] != asdict(key):
        raise ValueError("it was recorded for something else")
    plan = document["plan"]
    if not isinstance(plan, dict) or any(type(value) is not int for value in plan.values()):
        raise ValueError("its plan is none")
    return ExecutionPlan(**plan)


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place: another start reads the old one or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".draft")
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
