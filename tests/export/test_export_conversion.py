"""Precisions of one backbone: artifacts of one space, each admitted by its own run of the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from trunkline_service.errors import InvalidArgument, ParityError
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession

torch = pytest.importorskip("torch", reason="needs the export extra")

from trunkline_export.conversion import PrecisionChoice  # noqa: E402
from trunkline_export.gate import images as gate_images  # noqa: E402
from trunkline_export.gate.parity import LIMITS  # noqa: E402
from trunkline_export.precision.files import shared  # noqa: E402
from trunkline_export.publish import publish_backbone  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty-four images in two folders, with things between them that are none."""
    root = tmp_path / "calibrate"
    for number, image in enumerate(gate_images.made(24)):
        home = root / ("a" if number % 2 else "b")
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{number:02}").write_bytes(image.data)
    (root / "notes.txt").write_text("no image")
    (root / "a" / "cut.jpg").write_bytes(gate_images.made(2)[1].data[:500])
    return root


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_precision_is_another_artifact_of_the_same_space(
    precision: str, make_backbone: Any, repository: ModelRepository
) -> None:
    backbone = make_backbone()
    wide = publish_backbone(backbone, repository)
    lower = publish_backbone(backbone, repository, name="lower", precision=PrecisionChoice(precision))
    assert lower.card.space_id == wide.card.space_id
    assert lower.card.artifact.artifact_id != wide.card.artifact.artifact_id
    assert lower.card.artifact.precision == precision
    assert "96 calibration images" in lower.card.artifact.conversion
    assert (wide.card.artifact.precision, wide.card.artifact.conversion) == ("fp32", "")
    assert lower.card.artifact.bytes < 0.7 * wide.card.artifact.bytes
    parity, limits = lower.card.parity, LIMITS[precision]
    assert (parity.status, parity.images) == ("verified", gate_images.COUNT)
    assert (parity.cosine_required, parity.separation_allowed) == (limits.cosine, limits.share)
    assert parity.separation_share is not None
    assert 0 < parity.separation_share <= limits.share
    assert lower.card.batch.bound == limits.batch
    assert lower.card.batch.measured <= limits.batch
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    found = [ModelSession(each, Device("cpu"), ExecutionPlan(1, 1, 16)).run(images) for each in (wide, lower)]
    cosines = (found[0] * found[1]).sum(1) / np.prod([np.linalg.norm(f, axis=1) for f in found], axis=0)
    assert cosines.min() > 0.99


def test_int8_is_int8_and_fp16_is_fp16(make_backbone: Any, repository: ModelRepository) -> None:
    kinds = {}
    for precision in ("int8", "fp16"):
        made = publish_backbone(
            make_backbone(), repository, name=precision, precision=PrecisionChoice(precision)
        )
        kinds[precision] = {tensor.data_type for tensor in onnx.load(made.onnx).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds["int8"]
    assert onnx.TensorProto.FLOAT16 in kinds["fp16"]


def test_a_calibration_folder_is_shared_out(folder: Path) -> None:
    files = shared(folder)
    assert len(files.calibrating) + len(files.judging) == 24
    assert 3 <= len(files.judging) <= 5
    judged = {image.data for image in files.judging}
    assert not judged.intersection(path.read_bytes() for path in files.calibrating)
    # Both of the folders are in both parts.
    assert {path.parent.name for path in files.calibrating} == {"a", "b"}
    assert shared(folder) == files


def test_a_users_images_calibrate_and_judge(
    folder: Path, make_backbone: Any, repository: ModelRepository
) -> None:
    choice = PrecisionChoice("int8", folder)
    card = publish_backbone(make_backbone(), repository, precision=choice).card
    files = shared(folder)
    assert card.parity.images == gate_images.COUNT + len(files.judging)
    assert f"{len(files.calibrating)} calibration images" in card.artifact.conversion
    assert "of the user's" in card.artifact.conversion


def test_too_few_images_to_calibrate_by_are_refused(tmp_path: Path, make_backbone: Any) -> None:
    (tmp_path / "one.jpg").write_bytes(gate_images.made(1)[0].data)
    (tmp_path / "two.txt").write_text("no image")
    with pytest.raises(
        InvalidArgument, match=r"1 of 2 files are images that can be used; give .* at least 16"
    ):
        shared(tmp_path)


def test_a_precision_that_loses_too_much_is_not_published(
    make_backbone: Any, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from trunkline_export.gate import parity

    strict = dataclasses.replace(LIMITS["fp16"], cosine=1.0)
    monkeypatch.setitem(parity.LIMITS, "fp16", strict)  # type: ignore[misc]
    with pytest.raises(ParityError, match="tests:small in fp16: parity failed in its cosine"):
        publish_backbone(make_backbone(), repository, precision=PrecisionChoice("fp16"))
    assert repository.cards()[0] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("bf16",), "precision is 'bf16'"), (("fp32", Path()), "--calibrate is for --precision int8 or fp16")],
)
def test_choices_that_are_none_are_refused(arguments: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        PrecisionChoice(*arguments)
