"""Photographs of two labels, and models that are worth the same or nothing."""

from __future__ import annotations

import numpy as np
import pytest

from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace


@pytest.fixture
def photos(tmp_path, png):
    """Forty images in two labels, of which brightness tells most."""
    root = tmp_path / "photos"
    rng = np.random.default_rng(7)
    for label, brightness in (("day", 150), ("night", 100)):
        (root / label).mkdir(parents=True)
        for number in range(20):
            value = int(np.clip(rng.normal(brightness, 20), 0, 255))
            pixels = rng.integers(max(0, value - 5), min(255, value + 5) + 1, (32, 32, 3), np.uint8)
            (root / label / f"{number}.png").write_bytes(png(pixels))
    return root


@pytest.fixture
def workspace(tmp_path, publish_tiny):
    """Models ``tiny`` and ``double``, which are worth the same, and ``blind``, which sees nothing."""
    for name, scale in (("tiny", 1.0), ("double", 2.0), ("blind", 0.0)):
        publish_tiny(tmp_path / "models", name=name, scale=scale)
    settings = Settings(
        models=str(tmp_path / "models"), data=str(tmp_path / "data"), default_model="tiny", threads=2
    )
    with Workspace(settings) as opened:
        yield opened


def card(workspace, name):
    return workspace.repository.resolve(name).card
