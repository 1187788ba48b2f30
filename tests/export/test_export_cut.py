"""Cutting: the same features as the libraries' own extractors give, and clear words where there is no such layer."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline_service.errors import ExportError, InvalidArgument

torch = pytest.importorskip("torch", reason="needs the export extra")

from trunkline_export.backbone import Backbone  # noqa: E402
from trunkline_export.cutting.cut import CutChoice, cut  # noqa: E402
from trunkline_export.cutting.layers import layers_of  # noqa: E402
from trunkline_export.cutting.layout import Tokens, layout_of  # noqa: E402
from trunkline_export.sources import load  # noqa: E402
from trunkline_export.variant import Variant  # noqa: E402
from trunkline_export.weights import WeightsChoice  # noqa: E402

RANDOM = WeightsChoice(None, pretrained=False)


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return load("timm:test_vit", RANDOM)


@pytest.fixture(scope="module")
def resnet() -> Backbone:
    return load("timm:test_resnet", RANDOM)


def _pixels(backbone: Backbone) -> Any:
    return torch.randn(3, 3, *backbone.preprocess.input_size, generator=torch.Generator().manual_seed(1))


def _run(backbone: Backbone, choice: CutChoice) -> Any:
    with torch.no_grad():
        return cut(backbone, choice).module(_pixels(backbone))


def test_the_penultimate_feature_is_left_as_it_is(vit: Backbone) -> None:
    assert cut(vit, CutChoice()) is vit


@pytest.mark.parametrize("block", [0, 3, 5])
def test_blocks_of_a_transformer_as_timm_gives_them(vit: Backbone, block: int) -> None:
    network: Any = vit.network
    with torch.no_grad():
        patches, prefix = network.forward_intermediates(
            _pixels(vit),
            indices=[block],
            return_prefix_tokens=True,
            output_fmt="NLC",
            intermediates_only=True,
        )[0]
    assert torch.equal(_run(vit, CutChoice((f"blocks.{block}",), "avg")), patches.mean(1))
    assert torch.equal(_run(vit, CutChoice((f"blocks.{block}",), "cls")), prefix[:, 0])


def test_maps_of_a_convolutional_network_as_torchvision_gives_them(resnet: Backbone) -> None:
    from torchvision.models.feature_extraction import create_feature_extractor

    names = ["layer1.0", "layer3"]
    with torch.no_grad():
        maps = create_feature_extractor(resnet.network, names)(_pixels(resnet))
    wanted = torch.cat([maps[name].amax((2, 3)) for name in names], dim=1)
    choice = CutChoice(tuple(names), "max")
    assert torch.equal(_run(resnet, choice), wanted)
    assert cut(resnet, choice).output.node == "layer1.0 + layer3"


def test_a_pool_alone_takes_the_last_map_before_the_networks_own_pooling(
    resnet: Backbone, vit: Backbone
) -> None:
    network: Any = resnet.network
    with torch.no_grad():
        wanted = network.forward_features(_pixels(resnet)).flatten(1)
    assert torch.equal(_run(resnet, CutChoice(pool="flatten")), wanted)
    with torch.no_grad():
        own = vit.module(_pixels(vit))
    assert torch.equal(_run(vit, CutChoice(pool="cls")), own)


def test_counting_from_the_end_names_the_layer(resnet: Backbone) -> None:
    listed = [layer.name for layer in layers_of(resnet.network, _pixels(resnet)) if layer.spatial]
    for back in (1, 2, len(listed)):
        assert cut(resnet, CutChoice((f"-{back}",))).output.node == listed[-back]
    assert "global_pool" not in listed


def test_unit_length_of_the_feature_and_of_a_layer(vit: Backbone) -> None:
    for layers in ((), ("blocks.1",)):
        vectors = _run(vit, CutChoice(layers, None, "l2"))
        assert torch.allclose(vectors.norm(dim=1), torch.ones(3))
        plain = _run(vit, CutChoice(layers)) if layers else vit.module(_pixels(vit)).detach()
        assert torch.allclose(vectors, plain / plain.norm(dim=1, keepdim=True), atol=1e-6)


def test_weights_behind_the_cut_are_no_part_of_it(vit: Backbone, resnet: Backbone) -> None:
    assert {
        name.split(".")[1] for name in cut(vit, CutChoice(("blocks.1",))).tensors() if name[0] == "b"
    } == {"0", "1"}
    left = cut(resnet, CutChoice(("layer2",)))
    assert not any(name.startswith(("layer3", "layer4")) for name in left.tensors())
    assert left.parameters < resnet.parameters
    # The whole network still has them.
    assert any(name.startswith("layer3") for name in resnet.tensors())


def test_weights_that_are_read_without_running_their_module_stay() -> None:
    """PyTorch's attention reads the weights of its output projection without calling it."""
    backbone = load("torchvision:vit_b_32", RANDOM)
    names = cut(backbone, CutChoice(("encoder.layers.encoder_layer_0",))).tensors()
    assert "encoder.layers.encoder_layer_0.self_attention.out_proj.weight" in names
    assert not any("encoder_layer_1." in name for name in names)


def test_a_layer_that_the_next_one_changes_in_place_is_taken_before(resnet: Backbone) -> None:
    network: Any = resnet.network
    vectors = _run(resnet, CutChoice(("bn1",)))
    with torch.no_grad():
        wanted = network.bn1(network.conv1(_pixels(resnet))).mean((2, 3))
    assert torch.allclose(vectors, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (
            ("layer9",),
            r"no layer 'layer9'; did you mean .*'layer\d'.*Layers, in the order.*layer1\.0 \[\d+, \d+, \d+\]",
        ),
        (("-99",), "no layer -99: [0-9]+ layers give a map or tokens. Layers"),
        (("-0",), "no layer -0"),
        (("layer1", "layer1"), "each layer can be given once"),
    ],
)
def test_a_layer_that_does_not_exist_is_refused(resnet: Backbone, layers: Any, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        cut(resnet, CutChoice(layers))


def test_a_layer_that_does_not_run_is_refused(make_backbone: Any) -> None:
    backbone = make_backbone()
    backbone.module.unused = torch.nn.Identity()
    backbone.module.forward = lambda pixels: pixels.mean((2, 3))
    with pytest.raises(ExportError, match="layer 'unused' does not run"):
        cut(backbone, CutChoice(("unused",)))


def test_a_layer_that_runs_twice_is_refused(make_backbone: Any) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, pixels: Any) -> Any:
            return self.conv(self.conv(pixels)).mean((2, 3))

    with pytest.raises(ExportError, match="layer 'conv' runs 2 times"):
        cut(make_backbone(module=Twice()), CutChoice(("conv",)))


def test_a_pool_that_does_not_fit_a_layer_is_refused(resnet: Backbone) -> None:
    with pytest.raises(ExportError, match="needs a class token"):
        cut(resnet, CutChoice(("layer2",), "cls"))


@pytest.mark.parametrize("wrong", [{"pool": "mean"}, {"normalize": "l1"}])
def test_unknown_choices_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="must be one of"):
        CutChoice(**wrong)


@pytest.mark.parametrize(
    ("source", "layer", "pool", "dim"),
    [
        # Channels last inside, first in the stem and at the end.
        ("timm:test_vit", "patch_embed", "avg", 64),
        ("timm:test_mambaout", "stem.conv1", "avg", 8),
        ("timm:test_mambaout", "stages.1.blocks.0", "max", 32),
        ("torchvision:swin_t", "features.0.0", "avg", 96),
        ("torchvision:swin_t", "features.1.1", "avg", 96),
    ],
)
def test_channels_are_found_wherever_they_lie(source: str, layer: str, pool: str, dim: int) -> None:
    assert _run(load(source, RANDOM), CutChoice((layer,), pool)).shape == (3, dim)


def test_tokens_before_the_class_token_are_all_patches() -> None:
    backbone = load("timm:vit_tiny_patch16_224", RANDOM)
    network: Any = backbone.network
    with torch.no_grad():
        patches = network.patch_embed(_pixels(backbone))
    assert torch.allclose(_run(backbone, CutChoice(("patch_embed",), "avg")), patches.mean(1), atol=1e-6)
    with pytest.raises(ExportError, match="layer 'patch_embed' has none among its 196 tokens"):
        cut(backbone, CutChoice(("patch_embed",), "cls"))


def test_register_tokens_are_no_class_token() -> None:
    backbone = load("timm:vit_small_patch16_dinov3", RANDOM, Variant((64, 64)))
    network: Any = backbone.network
    with torch.no_grad():
        tokens = network.forward_features(_pixels(backbone))
    assert tokens.shape[1] == 16 + 5
    assert torch.allclose(_run(backbone, CutChoice(pool="avg")), tokens[:, 5:].mean(1), atol=1e-6)
    assert torch.allclose(_run(backbone, CutChoice(pool="cls")), tokens[:, 0], atol=1e-6)
    registers_alone = load("timm:test_vit3", RANDOM)
    with pytest.raises(ExportError, match="pool 'cls' needs a class token"):
        cut(registers_alone, CutChoice(("blocks.1",), "cls"))
    assert _run(registers_alone, CutChoice(("blocks.1",), "avg")).shape == (3, 96)


def test_a_layer_that_works_on_windows_is_refused() -> None:
    with pytest.raises(ExportError, match=r"gives \d+ vectors for 2 images: it works on parts"):
        cut(
            load("timm:swin_tiny_patch4_window7_224", RANDOM),
            CutChoice(("layers.0.blocks.0.attn",), "flatten"),
        )


@pytest.mark.parametrize(
    ("shape", "input_size", "last"),
    [
        ((7, 7, 512), (224, 224), True),
        ((512, 7, 7), (224, 224), False),
        ((96, 112, 112), (448, 448), False),
        (
            (
                56,
                56,
                56,
            ),
            (224, 224),
            None,
        ),
        ((14, 7, 384), (224, 112), True),
        ((384, 14, 7), (224, 112), False),
        ((384, 1, 1), (224, 224), False),
    ],
)
def test_channels_are_told_by_the_ratio_of_the_sides(shape: Any, input_size: Any, last: bool | None) -> None:
    if last is None:
        with pytest.raises(ExportError, match="does not say where its channels are"):
            layout_of("x", shape, input_size, Tokens(), "avg")
    else:
        assert layout_of("x", shape, input_size, Tokens(), "avg").channels_last is last
