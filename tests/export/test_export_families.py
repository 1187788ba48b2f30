"""Every family that people name passes the gate with random weights; here the small ones, `-m families` for all."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the export extra")

import onnx

import trunkline_export
from trunkline_export.families import FAMILIES
from trunkline_export.gate.parity import LIMITS
from trunkline_service.models.repository import ModelRepository

SMALL = [member for member in FAMILIES if member.small]
LARGE = [member for member in FAMILIES if not member.small]


def _name(member: Any) -> str:
    return str(member.source)


def _passes(source: str, repository: ModelRepository) -> None:
    folder = trunkline_export.export(source, repository=repository, pretrained=False)
    parity = folder.card.parity
    assert parity.status == "verified"
    assert parity.pixels_lossless_max == parity.pixels_jpeg_max == 0
    assert parity.cosine_min is not None
    assert parity.cosine_min >= LIMITS["fp32"].cosine
    # A CUDA session without a CPU fallback refuses arithmetic on shapes at run time.
    graph = onnx.load(folder.onnx).graph
    assert {node.op_type for node in graph.node}.isdisjoint({"Shape", "Range", "ConstantOfShape"})


@pytest.mark.slow
@pytest.mark.parametrize("member", SMALL, ids=_name)
def test_small_members_export(member: Any, repository: ModelRepository) -> None:
    _passes(member.source, repository)


@pytest.mark.families
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("member", LARGE, ids=_name)
def test_large_members_export(member: Any, repository: ModelRepository) -> None:
    _passes(member.source, repository)
