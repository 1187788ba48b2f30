"""Sources: names, transforms as data, downloads that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trunkline_service.errors import ExportError, UnknownBackbone, WeightsError
from trunkline_service.images.preprocess import Preprocess

pytest.importorskip("torch", reason="needs the export extra")

from trunkline_export.sources import load, timm, torchvision
from trunkline_export.weights import WeightsChoice

RANDOM = WeightsChoice(None, pretrained=False)
DOWNLOADED = WeightsChoice(None)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("resnet18", "no source.*timm:NAME and torchvision:NAME"),
        ("timm:", "no source"),
        ("tim:resnet18", "did you mean 'timm'"),
        ("timm:deit_tiny_patch16_225", "timm has no network.*did you mean 'deit_tiny_patch16_224'"),
        (
            "timm:resnet18.a4_in1k",
            "timm has no weights 'resnet18.a4_in1k'; did you mean .*'resnet18.a3_in1k'",
        ),
        ("torchvision:resnet19", "torchvision has no network.*did you mean 'resnet18'"),
        ("torchvision:resnet50@IMAGENET1K_V3", "no weights.*'IMAGENET1K_V[12]'"),
    ],
)
def test_an_unknown_name_says_what_is_near(source: str, says: str) -> None:
    with pytest.raises(UnknownBackbone, match=says):
        load(source, RANDOM)


def test_timm_backbone() -> None:
    backbone = load("timm:test_resnet.r160_in1k", RANDOM)
    assert (backbone.architecture, backbone.name) == ("timm/test_resnet", "test_resnet.r160_in1k")
    assert backbone.preprocess.crop_size == (160, 160)
    assert (backbone.pretrained, backbone.license, backbone.weights) == (False, "", "random, seed 0")
    assert not backbone.module.training
    assert backbone.parameters == sum(
        array.size
        for name, array in backbone.tensors().items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, Preprocess("shorter", (248, 248), "bicubic", (224, 224), MEAN, STD)),
        ({"crop_pct": 0.875}, Preprocess("shorter", (256, 256), "bicubic", (224, 224), MEAN, STD)),
        (
            {"crop_mode": "squash", "crop_pct": 1.0, "input_size": (3, 224, 160)},
            Preprocess("squash", (224, 160), "bicubic", (224, 160), MEAN, STD),
        ),
    ],
)
def test_timm_transforms_as_data(changes: dict[str, Any], wanted: Preprocess) -> None:
    assert timm.preprocess_of(_DEIT | changes) == wanted


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crop_mode": "border"}, "crop mode 'border'"),
        ({"input_size": (3, 224, 160)}, "an input of 224 x 160 has no equal"),
        ({"input_size": (1, 224, 224)}, "takes 1 channels"),
        ({"interpolation": "random"}, "interpolation 'random'"),
    ],
)
def test_timm_transforms_without_an_equal_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ExportError, match=says):
        timm.preprocess_of(_DEIT | changes)


_DEIT = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
    "mean": MEAN,
    "std": STD,
}


@pytest.mark.parametrize(
    ("name", "node", "dim", "resize"),
    [
        ("resnet18", "fc.input", 512, 256),
        ("mobilenet_v2@IMAGENET1K_V1", "classifier.1.input", 1280, 256),
        ("mobilenet_v2", "classifier.1.input", 1280, 232),
        ("mobilenet_v3_small", "classifier.3.input", 1024, 256),
        ("shufflenet_v2_x0_5", "fc.input", 1024, 256),
    ],
)
def test_torchvision_backbones_are_cut_before_their_last_layer(
    name: str, node: str, dim: int, resize: int
) -> None:
    import torch

    backbone = load(f"torchvision:{name}", RANDOM)
    assert (backbone.output.node, backbone.name) == (node, name.partition("@")[0])
    assert backbone.preprocess.resize_size == (resize, resize)
    with torch.no_grad():
        assert backbone.module(torch.zeros(2, 3, 64, 64)).shape == (2, dim)


@pytest.mark.parametrize("name", ["squeezenet1_0", "inception_v3", "googlenet"])
def test_torchvision_networks_that_cannot_be_cut_say_so(name: str) -> None:
    with pytest.raises(ExportError, match=rf"torchvision:{name} .*timm"):
        load(f"torchvision:{name}", RANDOM)


def test_another_kind_of_torchvision_transform_is_refused() -> None:
    from torchvision.transforms._presets import VideoClassification

    with pytest.raises(ExportError, match="VideoClassification"):
        torchvision.preprocess_of(VideoClassification(crop_size=(1, 1), resize_size=(1, 1)))


@pytest.mark.parametrize("source", ["timm:test_resnet", "torchvision:resnet18"])
def test_a_failed_download_says_what_else_to_do_and_asks_once(source: str, no_network: list[str]) -> None:
    with pytest.raises(WeightsError, match=r"could not be downloaded.*--weights FILE.*--no-pretrained"):
        load(source, DOWNLOADED)
    # Left to themselves the libraries ask a dozen times, and wait for most of a minute between.
    assert 1 <= len(no_network) <= 2


def test_a_network_without_published_weights_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Config:
        has_weights = False

    with pytest.raises(WeightsError, match="offers no pretrained weights of 'x'"):
        timm._downloaded("x", Config())


def test_a_file_of_another_architecture_names_tensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    other = load("timm:test_vit", RANDOM)
    save_file(dict(other.module.state_dict()), tmp_path / "vit.safetensors")
    with pytest.raises(
        WeightsError, match=r"vit.safetensors .*of timm/test_resnet .*missing: conv1.*not part of it: blocks"
    ):
        load("timm:test_resnet", WeightsChoice(tmp_path / "vit.safetensors"))


def test_a_file_of_the_architecture_loads(tmp_path: Path) -> None:
    import numpy as np
    import timm as library
    from safetensors.torch import save_file

    whole = library.create_model("test_resnet", num_classes=10)
    save_file(whole.state_dict(), tmp_path / "resnet.safetensors")
    backbone = load("timm:test_resnet", WeightsChoice(tmp_path / "resnet.safetensors"))
    assert backbone.pretrained
    tensors = backbone.tensors()
    assert "fc.weight" not in tensors
    assert all(np.array_equal(tensors[name], whole.state_dict()[name]) for name in tensors)
