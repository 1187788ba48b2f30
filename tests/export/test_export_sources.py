"""Sources: names, transforms as data, downloads that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trunkline_service.errors import ExportError, InvalidArgument, UnknownBackbone, WeightsError
from trunkline_service.images.preprocess import Preprocess

pytest.importorskip("torch", reason="needs the export extra")

from trunkline_export.sources import load, timm_network, torchvision
from trunkline_export.variant import Variant, parse_size
from trunkline_export.weights import WeightsChoice

RANDOM = WeightsChoice(None, pretrained=False)
DOWNLOADED = WeightsChoice(None)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("resnet18", "no source.*timm:NAME, torchvision:NAME, hf-hub:NAME and onnx:PATH"),
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
    assert timm_network.preprocess_of(_DEIT | changes) == wanted


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
        timm_network.preprocess_of(_DEIT | changes)


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
    assert (backbone.output.node, backbone.name) == (node, name.lower().replace("@", "."))
    assert backbone.preprocess.resize_size == (resize, resize)
    with torch.no_grad():
        assert backbone.module(torch.zeros(2, 3, 64, 64)).shape == (2, dim)


@pytest.mark.parametrize("name", ["squeezenet1_0"])
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
    import dataclasses

    import timm as library

    config = dataclasses.replace(library.get_pretrained_cfg("test_resnet"), hf_hub_id=None, url="")
    monkeypatch.setattr(library, "get_pretrained_cfg", lambda _: config)
    with pytest.raises(WeightsError, match="offers no pretrained weights of 'test_resnet'"):
        load("timm:test_resnet", DOWNLOADED)


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


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_normalise_inside_do_so_for_a_files_weights_too(name: str, tmp_path: Path) -> None:
    """torchvision's constructors leave that out where they download nothing; the file's vectors need it."""
    import torch
    import torchvision as library
    from safetensors.torch import save_file

    torch.manual_seed(0)
    whole = library.models.get_model(
        name, weights=None, aux_logits=True, init_weights=False, transform_input=True
    )
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    backbone = load(f"torchvision:{name}", WeightsChoice(tmp_path / "whole.safetensors"))
    assert not any(key.lower().startswith("aux") for key in backbone.tensors())
    whole.fc = torch.nn.Identity()
    pixels = torch.rand(2, 3, 96, 96) if name == "googlenet" else torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(backbone.module(pixels), whole.eval()(pixels))


def test_a_name_that_timm_gave_up_finds_its_network() -> None:
    assert load("timm:xception", RANDOM).architecture == "timm/legacy_xception"


@pytest.mark.parametrize("library", ["timm:test_resnet", "torchvision:resnet18"])
def test_a_fine_tuned_checkpoint_with_another_class_count_loads(library: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = load(library, RANDOM).network.state_dict()
    dim = 96 if library.startswith("timm") else 512
    tuned = {**tensors, "fc.weight": torch.ones(7, dim), "fc.bias": torch.zeros(7)}
    save_file(tuned, tmp_path / "tuned.safetensors")
    choice = WeightsChoice(tmp_path / "tuned.safetensors")
    assert load(library, choice).tensors().keys() == tensors.keys()
    classifier = load(library, choice, Variant(keep_classifier=True)).classifier
    assert classifier is not None
    assert classifier.classes == tuple(f"class {number}" for number in range(7))
    assert (classifier.weight == 1).all()


def test_the_authors_own_names_of_tensors_are_understood(tmp_path: Path) -> None:
    """DINOv2's checkpoints hold a mask token, and DeiT's were saved under "model": timm knows both."""
    import torch
    from safetensors.torch import save_file

    wanted = load("timm:vit_small_patch14_dinov2", RANDOM, Variant(size=(56, 56)))
    native = load("timm:vit_small_patch14_dinov2", RANDOM)
    theirs = {**native.network.state_dict(), "mask_token": torch.zeros(1, 384)}
    save_file(theirs, tmp_path / "dinov2.safetensors")
    loaded = load(
        "timm:vit_small_patch14_dinov2", WeightsChoice(tmp_path / "dinov2.safetensors"), Variant((56, 56))
    )
    assert loaded.tensors().keys() == wanted.tensors().keys()
    save_file({**theirs, "stranger": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="not part of it: mask_token, stranger"):
        load("timm:vit_small_patch14_dinov2", WeightsChoice(tmp_path / "other.safetensors"))


@pytest.mark.parametrize(
    ("source", "size", "input_size", "resize"),
    [
        ("timm:test_resnet", (96, 96), (96, 96), 101),
        ("timm:test_vit", (96, 96), (96, 96), 101),
        ("torchvision:resnet18", (96, 96), (96, 96), 110),
    ],
)
def test_another_input_size(source: str, size: Any, input_size: Any, resize: int) -> None:
    import torch

    backbone = load(source, RANDOM, Variant(size))
    assert backbone.preprocess.input_size == input_size
    assert backbone.preprocess.resize_size == (resize, resize)
    from PIL import Image

    tensor = backbone.transform(Image.new("RGB", (200, 150)))
    assert tuple(tensor.shape) == (3, *input_size)
    with torch.no_grad():
        assert backbone.module(tensor[None]).dim() == 2


@pytest.mark.parametrize(
    ("source", "size", "says"),
    [
        ("timm:test_vit", (97, 97), "timm:test_vit can't take an input of 97 x 97"),
        ("timm:test_resnet", (96, 64), "square inputs"),
        ("torchvision:vit_b_16", (96, 96), "can't take an input of 96 x 96"),
        ("torchvision:resnet18", (96, 64), "crop squares"),
    ],
)
def test_a_size_that_the_network_does_not_take_is_refused(source: str, size: Any, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        load(source, RANDOM, Variant(size))


@pytest.mark.parametrize("text", ["", "0", "12x", "x12", "1.5", "9000", "-3", "224 x 224"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="size is"):
        parse_size(text)
    assert parse_size("384x256") == (384, 256)
    assert parse_size("224") == (224, 224)


def test_a_download_that_lacks_tensors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm forgives missing tensors where a network is made without its classifier: they would stay random."""
    import dataclasses

    import timm as library
    from safetensors.torch import save_file

    whole = library.create_model("test_resnet").state_dict()
    holed = {name: tensor for name, tensor in whole.items() if not name.startswith("layer4")}
    save_file(holed, tmp_path / "holed.safetensors")
    config = dataclasses.replace(
        library.get_pretrained_cfg("test_resnet"),
        hf_hub_id=None,
        url="",
        file=str(tmp_path / "holed.safetensors"),
    )
    monkeypatch.setattr(library, "get_pretrained_cfg", lambda _: config)
    with pytest.raises(WeightsError, match=r"does not fit the network: Missing key.*layer4"):
        load("timm:test_resnet", DOWNLOADED)
    save_file(whole, tmp_path / "holed.safetensors")
    assert load("timm:test_resnet", DOWNLOADED).pretrained
