"""What the processes load: fronts start together, and each has memory of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "trunkline_service.collections",
    "trunkline_service.explore",
    "trunkline_service.heads",
    "trunkline_service.index",
    "trunkline_service.workspace.facade",
    "faiss",
    "lance",
    "onnx",
    "pyarrow",
    "sklearn",
    "torch",
)


def heavy_in(module):
    """Which of the heavy modules are loaded once ``module`` is."""
    code = f"import sys, {module}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return sorted(set(HEAVY) & set(told.stdout.split()))


@pytest.mark.parametrize("role", ["front", "device", "supervisor"])
def test_who_only_embeds_loads_nothing_of_collections_heads_and_searches(role):
    assert heavy_in(f"trunkline_service.server.processes.{role}") == []


def test_the_process_of_the_data_loads_them():
    """So that the names above are those of modules that there are."""
    assert "trunkline_service.workspace.facade" in heavy_in("trunkline_service.server.processes.data")
