"""``hf-hub:`` without a network: repositories as the hub's client caches them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trunkline_service.errors import ExportError, UnknownBackbone, WeightsError
from trunkline_service.models.identity import space_id
from trunkline_service.models.repository import ModelRepository

torch = pytest.importorskip("torch", reason="needs the export extra")

import timm  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import trunkline_export  # noqa: E402
from trunkline_export.backbone import Backbone  # noqa: E402
from trunkline_export.sources import load  # noqa: E402
from trunkline_export.variant import Variant  # noqa: E402
from trunkline_export.weights import WeightsChoice  # noqa: E402
from trunkline_service.heads.storage.registry import HeadRegistry  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCE = "hf-hub:someone/tiny"
NAMES = ["ant", "bee", "wasp"]
THEIRS = WeightsChoice(None)
Cache = Callable[..., None]


def network(name: str = "test_resnet", classes: int = len(NAMES)) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return timm.create_model(name, num_classes=classes).eval()


def config(name: str = "test_resnet", **changes: Any) -> dict[str, Any]:
    """As timm writes it."""
    own = timm.get_pretrained_cfg(name).to_dict()
    kept = (
        "input_size",
        "interpolation",
        "crop_pct",
        "crop_mode",
        "mean",
        "std",
        "first_conv",
        "classifier",
        "license",
        "fixed_input_size",
    )
    found = {
        "architecture": name,
        "num_classes": len(NAMES),
        "num_features": 96,
        "label_names": NAMES,
        "pretrained_cfg": {key: own[key] for key in kept} | {"num_classes": len(NAMES)},
    }
    return {key: value for key, value in (found | changes).items() if value is not None}


@pytest.fixture
def cache(tmp_path: Path, no_network: list[str]) -> Cache:
    """Lays a repository out as if it had been downloaded; the hub itself can't be reached."""

    def save(described: Any, weights: Any = None, repository: str = "someone/tiny") -> None:
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        snapshot = folder / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(COMMIT)
        text = described if isinstance(described, str) else json.dumps(described)
        (snapshot / "config.json").write_text(text)
        if weights is not None:
            save_file(weights.state_dict(), snapshot / "model.safetensors")

    return save


def space(backbone: Backbone) -> str:
    return space_id(backbone.tensors(), backbone.architecture, backbone.preprocess, backbone.output)


def test_configuration_and_weights_come_from_the_hub(cache: Cache, no_network: list[str]) -> None:
    cache(config(), network())
    backbone = load(SOURCE, THEIRS)
    assert (backbone.source, backbone.name, backbone.weights) == (SOURCE, "tiny", "hf-hub someone/tiny")
    assert (backbone.pretrained, backbone.license) == (True, "apache-2.0")
    assert backbone.preprocess.crop_size == (160, 160)
    tensors, wanted = backbone.tensors(), network().state_dict()
    assert "fc.weight" not in tensors
    assert all((tensors[name] == wanted[name].numpy()).all() for name in tensors)
    # What is there is used; the hub is asked once a file whether there is something newer.
    assert len(no_network) <= 4


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("test_resnet", None),
        # As newer versions of timm write them: all, whether they differ from the usual or not.
        ("test_resnet", {"num_classes": 3, "in_chans": 3, "global_pool": "avg"}),
        ("test_vit", {"num_classes": 3, "in_chans": 3, "global_pool": "token", "img_size": [160, 160]}),
    ],
)
def test_the_space_is_that_of_timm(cache: Cache, tmp_path: Path, name: str, arguments: Any) -> None:
    cache(config(name, model_args=arguments), network(name))
    save_file(network(name).state_dict(), tmp_path / "tiny.safetensors")
    theirs = load(f"timm:{name}", WeightsChoice(tmp_path / "tiny.safetensors"))
    assert space(load(SOURCE, THEIRS)) == space(theirs)


def test_arguments_that_make_another_network_make_another_space(cache: Cache) -> None:
    net = network("test_vit")
    cache(config("test_vit"), net, "someone/first")
    cache(config("test_vit", model_args={"global_pool": "avg", "fc_norm": False}), net, "someone/mean")
    first, mean = (load(f"hf-hub:someone/{name}", THEIRS) for name in ("first", "mean"))
    assert "global_pool" in mean.architecture
    assert space(first) != space(mean)
    image = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(first.module(image), mean.module(image))


@pytest.mark.parametrize(
    ("labels", "descriptions", "classes"),
    [
        (NAMES, None, tuple(NAMES)),
        ({"1": "bee", "0": "ant", "2": "wasp"}, None, tuple(NAMES)),
        (NAMES, {"bee": "honey bee"}, ("ant", "honey bee", "wasp")),
        ({"0": "ant", "7": "bee", "9": "wasp"}, None, ("class 0", "class 1", "class 2")),
        (None, None, ("class 0", "class 1", "class 2")),
    ],
)
def test_the_classifier_has_the_hubs_names(
    cache: Cache, labels: Any, descriptions: Any, classes: tuple[str, ...]
) -> None:
    cache(config(label_names=labels, label_descriptions=descriptions), network())
    backbone = load(SOURCE, THEIRS, Variant(keep_classifier=True))
    assert backbone.classifier is not None
    assert (backbone.classifier.name, backbone.classifier.classes) == ("tiny-classifier", classes)
    assert (backbone.classifier.weight == network().state_dict()["fc.weight"].numpy()).all()


def test_the_whole_line_with_a_kept_classifier(
    cache: Cache, repository: ModelRepository, tmp_path: Path
) -> None:
    cache(config(), network())
    heads = HeadRegistry(tmp_path / "data")
    folder = trunkline_export.export(SOURCE, repository=repository, keep_classifier=heads)
    assert (folder.card.reference, folder.card.parity.status) == ("tiny@1", "verified")
    head = heads.list()[0].card
    assert (head.name, head.space_id, tuple(head.classes)) == (
        "tiny-classifier",
        folder.card.space_id,
        tuple(NAMES),
    )


def test_the_configuration_alone_is_enough_for_a_file_and_for_random_weights(
    cache: Cache, tmp_path: Path
) -> None:
    cache(config())
    random = load(SOURCE, WeightsChoice(None, pretrained=False))
    assert (random.pretrained, random.weights, random.license) == (False, "random, seed 0", "")
    save_file(network().state_dict(), tmp_path / "mine.safetensors")
    mine = load(SOURCE, WeightsChoice(tmp_path / "mine.safetensors"))
    assert mine.weights.startswith("mine.safetensors (sha256 ")
    assert space(mine) != space(random)
    with pytest.raises(
        WeightsError, match=r"the weights of hf-hub:someone/tiny could not be downloaded.*--weights FILE"
    ):
        load(SOURCE, THEIRS)


def test_a_hub_that_cannot_be_reached_fails_at_once(no_network: list[str]) -> None:
    with pytest.raises(
        WeightsError,
        match=r"the configuration of hf-hub:someone/tiny could not be downloaded \(.*timm:NAME with --weights FILE",
    ):
        load(SOURCE, WeightsChoice(None, pretrained=False))
    # Left to itself the hub's client tries again for most of a minute.
    assert len(no_network) == 1


@pytest.mark.parametrize(
    ("described", "says"),
    [
        (
            {"architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": 224},
            r"config.json names no network of timm \('architecture' is missing\).*give onnx:FILE",
        ),
        ({"pretrained_cfg": {"input_size": [3, 9, 9]}}, "names no network of timm"),
        ("{", "its config.json can't be read"),
        ([1], "its config.json can't be read"),
        (
            config(model_args={"no_such_argument": 1}),
            "can't build 'test_resnet' as its config.json says.*no_such_arg",
        ),
        (config(model_args={"checkpoint_path": "/etc/passwd"}), "sets checkpoint_path, which no network has"),
        (config(model_args={"pretrained": True}), "sets pretrained, which no network has"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(cache: Cache, described: Any, says: str) -> None:
    cache(described, network())
    with pytest.raises(ExportError, match=f"hf-hub:someone/tiny.*{says}"):
        load(SOURCE, THEIRS)


def test_a_network_that_this_timm_lacks(cache: Cache) -> None:
    cache(config() | {"architecture": "resnet_of_tomorrow"}, network())
    with pytest.raises(
        UnknownBackbone, match=r"'resnet_of_tomorrow', which timm \d.* does not have; a newer"
    ):
        load(SOURCE, THEIRS)


@pytest.mark.parametrize(
    "name", ["tiny", "a/b/c", "/tiny", "someone/", "some one/tiny", "someone/..", "someone/-x"]
)
def test_a_malformed_name_asks_nobody(name: str, no_network: list[str]) -> None:
    with pytest.raises(UnknownBackbone, match="names no repository; write hf-hub:ORGANISATION/NAME"):
        load(f"hf-hub:{name}", THEIRS)
    assert no_network == []


def test_a_revision_cannot_be_chosen(no_network: list[str]) -> None:
    with pytest.raises(UnknownBackbone, match="a revision can't be chosen, the main branch is read"):
        load("hf-hub:someone/tiny@v2", THEIRS)
