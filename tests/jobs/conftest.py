"""A workspace with the tiny model, photographs in folders, and a job over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.jobs.local import LocalTarget
from trunkline_service.jobs.options import JobOptions, JobResult
from trunkline_service.jobs.run import run
from trunkline_service.jobs.sources import Source, resolve
from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace


def solid(value: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((32, 32, 3), value, np.uint8)


@pytest.fixture
def photos(tmp_path: Path, png: Callable[..., bytes]) -> Path:
    root = tmp_path / "photos"
    for split, label, values in (("train", "ants", (1, 2)), ("train", "bees", (3, 4)), ("val", "ants", (5,))):
        folder = root / split / label
        folder.mkdir(parents=True)
        for value in values:
            (folder / f"{value}.png").write_bytes(png(solid(value)))
    (root / "README.txt").write_text("not an image")
    return root


@pytest.fixture
def solid_image(png: Callable[..., bytes]) -> Callable[[int], bytes]:
    """A PNG of one grey."""
    return lambda value: png(solid(value))


@pytest.fixture
def workspace(tmp_path: Path, publish_tiny: Callable[..., Any]) -> Iterator[Workspace]:
    publish_tiny(tmp_path / "models")
    settings = Settings(
        models=str(tmp_path / "models"), data=str(tmp_path / "data"), default_model="tiny", threads=2
    )
    with Workspace(settings) as opened:
        yield opened


@pytest.fixture
def job(workspace: Workspace) -> Callable[..., JobResult]:
    """``job(source, into="c", model="", **options)``; a path is resolved."""

    def start(source: Source | Path, into: str = "c", model: str = "", **options: Any) -> JobResult:
        rim = {name: options.pop(name) for name in ("progress", "stop") if name in options}
        found = resolve(str(source)) if isinstance(source, Path) else source
        target = LocalTarget(workspace, into, model, in_flight=4)
        return run(target, found, JobOptions(**options), **rim)

    return start
