"""Publishing: complete, repeatable, or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import (
    ExportError,
    InvalidArgument,
    MissingExtra,
    ParityError,
    StorageError,
    WeightsError,
)
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.models.session import Device, ModelSession

pytest.importorskip("torch", reason="needs the export extra")

import trunkline_export
from trunkline_export import publish
from trunkline_export.gate import images as gate_images
from trunkline_export.gate import parity
from trunkline_export.publish import publish_backbone

NOON = datetime(2024, 5, 17, 12, tzinfo=UTC)
SOURCE = "timm:test_resnet"


def _versions(repository: ModelRepository) -> list[str]:
    return [card.reference for card in repository.cards()[0]]


@pytest.fixture
def traced(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares tests of what comes after tracing the time of it; right for the weights of seed 0 alone."""

    def write(_: Any, path: Path) -> int:
        path.write_bytes(small_onnx.read_bytes())
        return 192

    monkeypatch.setattr(publish, "write_onnx", write)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelRepository, ModelFolder, list[str]]:
    root = tmp_path_factory.mktemp("publish")
    repository = ModelRepository(root, bundled=root / "none")
    said: list[str] = []
    folder = trunkline_export.export(SOURCE, repository=repository, pretrained=False, progress=said.append)
    return repository, folder, said


def test_the_folder_is_complete(exported: Any) -> None:
    repository, folder, _ = exported
    home = repository.root / "test_resnet"
    assert folder.path == home / "1"
    assert {path.name for path in folder.path.iterdir()} == {"model.onnx", "card.json"}
    assert (home / "config.pbtxt").is_file()
    folder.verify()
    reread = ModelRepository(repository.root).resolve("test_resnet@1").card
    assert reread == folder.card


def test_the_card_tells_the_truth(exported: Any) -> None:
    card = exported[1].card
    assert (card.source, card.architecture, card.name) == (SOURCE, "timm/test_resnet", "test_resnet")
    assert (card.pretrained, card.weights, card.license) == (False, "random, seed 0", "")
    assert card.parity.status == "verified"
    assert card.parity.separation_share < 1e-3
    assert card.batch.sizes == (1, 2, 7, 16, 64)
    assert set(card.tools) == {"timm", "torch", "onnx", "onnxruntime", "trunkline"}
    assert card.artifact.bytes == exported[1].onnx.stat().st_size


def test_progress_is_told(exported: Any) -> None:
    said = exported[2]
    assert said[0] == f"loading {SOURCE}"
    assert said[-1] == "publishing"


def test_the_service_loads_what_was_published(exported: Any) -> None:
    session = ModelSession(exported[1], Device("cpu"), ExecutionPlan(1, 1, 16))
    vectors = session.run(np.zeros((3, *session.input_size, 3), np.uint8))
    assert vectors.shape == (3, exported[1].card.dim)
    assert vectors.dtype == np.float32


def test_a_second_export_is_a_second_version_of_the_same_space(exported: Any) -> None:
    repository, first, _ = exported
    second = trunkline_export.export(SOURCE, repository=repository, pretrained=False)
    assert second.card.reference == "test_resnet@2"
    assert second.card.space_id == first.card.space_id
    assert second.card.artifact.artifact_id == first.card.artifact.artifact_id


def test_spaces_follow_weights_and_preprocessing(make_backbone: Any, repository: ModelRepository) -> None:
    from torchvision.transforms import InterpolationMode, v2

    images = [image.data for image in gate_images.made(6)]

    def space(backbone: Any) -> str:
        return publish_backbone(backbone, repository, images=images).card.space_id

    base = make_backbone()

    steps = list(base.transform.transforms)
    bilinear = v2.Compose([v2.Resize(72, interpolation=InterpolationMode.BILINEAR), *steps[1:]])
    changed = replace(base, transform=bilinear, preprocess=replace(base.preprocess, interpolation="bilinear"))
    assert len({space(base), space(make_backbone(seed=1)), space(changed)}) == 3
    assert _versions(repository) == ["small@1", "small@2", "small@3"]


@pytest.mark.usefixtures("traced")
def test_the_card_is_dated_by_the_clock_it_is_given(make_backbone: Any, repository: ModelRepository) -> None:
    folder = publish_backbone(
        make_backbone(description="For tests."), repository, name="mine", now=lambda: NOON
    )
    assert folder.card.created_at == "2024-05-17T12:00:00+00:00"
    assert (folder.card.reference, folder.card.description) == ("mine@1", "For tests.")


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("step", ["judge", "check_batches"])
def test_a_failed_check_publishes_nothing(
    step: str, make_backbone: Any, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ParityError("on purpose")

    monkeypatch.setattr(parity, step, fail)
    with pytest.raises(ParityError, match="on purpose"):
        publish_backbone(make_backbone(), repository)
    assert _versions(repository) == []
    assert not repository.root.exists()


@pytest.mark.usefixtures("traced")
def test_a_backbone_whose_card_lies_is_not_published(make_backbone: Any, repository: ModelRepository) -> None:
    backbone = make_backbone()
    lying = replace(backbone, preprocess=replace(backbone.preprocess, interpolation="bilinear"))
    with pytest.raises(ParityError, match="Nothing was published"):
        publish_backbone(lying, repository)
    assert _versions(repository) == []


@pytest.mark.usefixtures("traced")
def test_a_full_disk_publishes_nothing(
    make_backbone: Any, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StorageError, match=r"No space left on device; nothing was published"):
        publish_backbone(make_backbone(), repository)
    assert _versions(repository) == []
    assert not list(repository.root.rglob("model.onnx"))


def test_a_name_that_cannot_be_one_is_refused_before_any_work(repository: ModelRepository) -> None:
    with pytest.raises(InvalidArgument, match=r"'\.\./up'"):
        trunkline_export.export("timm:no_such_network", repository=repository, name="../up")


def test_another_shape_under_the_same_name_is_refused(
    make_backbone: Any, repository: ModelRepository
) -> None:
    import torch

    publish_backbone(make_backbone(), repository)
    wider = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(6), torch.nn.Flatten())
    with pytest.raises(Exception, match="under another --name"):
        publish_backbone(make_backbone(module=wider), repository)
    assert _versions(repository) == ["small@1"]


_READ_CONFIG = """
import sys
from google.protobuf import text_format
try:
    from tritonclient.grpc import model_config_pb2
except Exception as exc:
    print(f"skip: {type(exc).__name__}: {exc}".splitlines()[0])
    sys.exit(0)
with open(sys.argv[1]) as handle:
    config = text_format.Parse(handle.read(), model_config_pb2.ModelConfig())
print(config.name, config.platform, config.max_batch_size)
print(config.input[0].name, model_config_pb2.DataType.Name(config.input[0].data_type), list(config.input[0].dims))
print(config.output[0].name, model_config_pb2.DataType.Name(config.output[0].data_type), list(config.output[0].dims))
"""


def test_triton_reads_the_configuration(exported: Any) -> None:
    """In a process of its own: tritonclient's generated code and ours may ask for different protobufs."""
    repository, folder, _ = exported
    path = repository.root / "test_resnet" / "config.pbtxt"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _READ_CONFIG, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    if done.stdout.startswith("skip: "):
        pytest.skip(f"Triton's definitions can't be imported here ({done.stdout[6:].strip()})")
    assert done.stdout.splitlines() == [
        "test_resnet onnxruntime_onnx 64",
        "image TYPE_UINT8 [160, 160, 3]",
        f"embedding TYPE_FP32 [{folder.card.dim}]",
    ]


def test_importing_the_package_loads_no_pytorch() -> None:
    code = "import sys, trunkline_export; print(sorted({'torch', 'timm', 'onnx', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_extra_says_how_to_get_it(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"needs timm.*pip install 'trunkline\[export\]'"):
        trunkline_export.export(SOURCE, repository=repository)


def test_errors_of_export_are_one_family() -> None:
    assert issubclass(ParityError, ExportError)
    assert issubclass(WeightsError, ExportError)


def test_a_name_that_nobody_gave_does_not_bring_another_space(
    repository: ModelRepository, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    from trunkline_export.sources import load
    from trunkline_export.weights import WeightsChoice

    first = trunkline_export.export(SOURCE, repository=repository, pretrained=False)
    tensors = {
        name: tensor + 1e-3
        for name, tensor in load(SOURCE, WeightsChoice(None, False)).network.state_dict().items()
    }
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(
        InvalidArgument, match=rf"model test_resnet@1 is of space {first.card.space_id}.*Give --name"
    ):
        trunkline_export.export(SOURCE, repository=repository, weights=tmp_path / "other.safetensors")
    assert _versions(repository) == ["test_resnet@1"]


def test_folders_of_killed_exports_are_cleared_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    from trunkline_export.working_folder import working_folder

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    abandoned = tmp_path / "trunkline-export-killed"
    abandoned.mkdir()
    (abandoned / "owner.lock").touch()
    (abandoned / "model.onnx").write_bytes(b"half")
    fresh = tmp_path / "trunkline-export-just-made"
    fresh.mkdir()
    with working_folder() as first, working_folder() as second:
        assert not abandoned.exists()
        assert fresh.exists()
        assert first.exists()
        assert second.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trunkline-export-just-made"]
