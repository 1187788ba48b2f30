"""A network's own classifier as a head: the same first choice, saved, served, told apart from fitted heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import ExportError, InvalidArgument, ParityError
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.models.repository import ModelRepository

torch = pytest.importorskip("torch", reason="needs the export extra")

import trunkline_export  # noqa: E402
from trunkline_export.classifier import Classifier, distinct, kept  # noqa: E402
from trunkline_export.gate import images as gate_images  # noqa: E402
from trunkline_export.gate import parity  # noqa: E402
from trunkline_export.gate.classifier import check_classifier  # noqa: E402
from trunkline_export.gate.reference import by_pytorch, logits_of  # noqa: E402
from trunkline_export.sources import load  # noqa: E402
from trunkline_export.variant import Variant  # noqa: E402
from trunkline_export.weights import WeightsChoice  # noqa: E402

RANDOM = WeightsChoice(None, pretrained=False)
KEEP = Variant(keep_classifier=True)


def test_an_export_saves_the_classifier_as_a_head_of_the_models_space(
    repository: ModelRepository, tmp_path: Path
) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "whole.safetensors")
    heads = HeadRegistry(tmp_path / "data")
    folder = trunkline_export.export(
        "timm:test_resnet",
        repository=repository,
        weights=tmp_path / "whole.safetensors",
        keep_classifier=heads,
    )
    card = heads.card("imagenet1k")
    assert (card.kind, card.model, card.space_id) == ("pretrained", "test_resnet@1", folder.card.space_id)
    assert (card.metrics, card.rows, len(card.classes)) == (None, 0, 1000)
    # There are two cranes, a bird and a machine.
    assert card.classes[0] == "tench"
    assert {"crane (134)", "crane (517)"} <= set(card.classes)
    # A file says nothing about its classes but how many they are.
    assert any("--class-names" in note for note in card.notes)
    choice = WeightsChoice(tmp_path / "whole.safetensors")
    backbone = load("timm:test_resnet", choice, KEEP)
    assert backbone.classifier is not None
    images = gate_images.made(4)
    vectors = by_pytorch(backbone, images).vectors
    probabilities = heads.load("imagenet1k").probabilities(vectors, folder.card.space_id)
    logits = logits_of(backbone.classifier.whole, backbone, images)
    exact = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(probabilities, exact / exact.sum(1, keepdims=True), rtol=1e-4)


def test_a_classifier_of_random_weights_has_a_name_of_its_own() -> None:
    classifier = load("timm:test_resnet", RANDOM, KEEP).classifier
    assert classifier is not None
    assert classifier.name == "test_resnet-classifier"


@pytest.mark.parametrize("source", ["timm:test_resnet", "timm:test_vit", "torchvision:mobilenet_v3_small"])
def test_keeping_the_classifier_changes_nothing_about_the_backbone(source: str) -> None:
    plain, with_classifier = load(source, RANDOM), load(source, RANDOM, KEEP)
    assert plain.tensors().keys() == with_classifier.tensors().keys()
    for name, tensor in plain.tensors().items():
        assert np.array_equal(tensor, with_classifier.tensors()[name]), name
    assert plain.output == with_classifier.output
    classifier = with_classifier.classifier
    assert classifier is not None
    images = gate_images.made(4)
    vectors = by_pytorch(with_classifier, images).vectors
    check_classifier(with_classifier, classifier, vectors, images)


def test_a_layer_between_feature_and_classifier_fails_parity(make_backbone: Any) -> None:
    backbone = make_backbone()
    layer = torch.nn.Linear(192, 5)
    whole = torch.nn.Sequential(backbone.module, torch.nn.LayerNorm(192), torch.nn.Tanh(), layer).eval()
    classifier = kept("c", layer, whole, [], "tests:small")
    images = gate_images.made(8)
    vectors = by_pytorch(backbone, images).vectors
    with pytest.raises(ParityError, match=r"the kept classifier names 'class .*the whole network 'class"):
        check_classifier(replace(backbone, classifier=classifier), classifier, vectors, images)
    right = Classifier(
        "c",
        classifier.weight,
        classifier.bias,
        classifier.classes,
        torch.nn.Sequential(backbone.module, layer).eval(),
    )
    check_classifier(backbone, right, vectors, images)


@pytest.mark.parametrize("change", ["scaled", "two classes swapped", "another bias"])
def test_a_classifier_that_is_not_the_networks_fails_parity(change: str, make_backbone: Any) -> None:
    """Also where the first choice stays the same, as it does when classes are swapped that never win."""
    backbone = make_backbone()
    layer = torch.nn.Linear(192, 50)
    right = kept("c", layer, torch.nn.Sequential(backbone.module, layer).eval(), [], "tests:small")
    images = gate_images.made(4)
    vectors = by_pytorch(backbone, images).vectors
    check_classifier(backbone, right, vectors, images)
    never = [k for k in range(50) if k not in (vectors @ right.weight.T + right.bias).argmax(1)][:2]
    weight, bias = right.weight.copy(), right.bias.copy()
    if change == "scaled":
        weight, bias = weight * 1.02, bias * 1.02
    elif change == "two classes swapped":
        weight[never], bias[never] = weight[never[::-1]], bias[never[::-1]]
    else:
        bias[never[0]] -= 0.1
    with pytest.raises(ParityError, match="logits differ"):
        check_classifier(backbone, replace(right, weight=weight, bias=bias), vectors, images)


def test_not_a_number_fails_parity(make_backbone: Any) -> None:
    backbone = make_backbone()
    layer = torch.nn.Linear(192, 5)
    classifier = kept("c", layer, torch.nn.Sequential(backbone.module, layer).eval(), [], "tests:small")
    images = gate_images.made(4)
    pixels = parity.prepared(backbone.preprocess, images)
    with pytest.raises(ParityError):
        check_classifier(backbone, classifier, np.full((len(pixels), 192), np.nan, np.float32), images)


@pytest.mark.parametrize(
    ("source", "variant", "error", "says"),
    [
        ("timm:vit_small_patch14_dinov2", KEEP, ExportError, "comes without a classifier"),
        ("timm:deit_tiny_distilled_patch16_224", KEEP, ExportError, "does not end in one linear layer"),
        ("timm:test_resnet", Variant(None, True, ("a", "b")), InvalidArgument, "gives 2 names.*1000 outputs"),
    ],
)
def test_classifiers_that_cannot_be_kept_say_why(source: str, variant: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        load(source, RANDOM, variant)


def test_names_that_come_twice_are_told_apart() -> None:
    assert distinct(["crane", "b", "crane"]) == ("crane (0)", "b", "crane (2)")
    assert len(set(distinct(["a", "a", "a (0)"]))) == 3


def test_a_single_output_is_no_head(make_backbone: Any) -> None:
    with pytest.raises(ExportError, match="single output"):
        kept("c", torch.nn.Linear(4, 1), torch.nn.Identity(), [], "tests:small")
    with pytest.raises(ExportError, match="come without a classifier"):
        kept("c", torch.nn.Identity(), torch.nn.Identity(), [], "tests:small")
