"""The space's identity: what may change without changing it, and what may not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.identity import OutputSpec, space_id
from trunkline_service.models.repository import ModelRepository

pytest.importorskip("torch", reason="needs the export extra")

import trunkline_export
from trunkline_export.backbone import Backbone
from trunkline_export.cutting.cut import CutChoice, cut
from trunkline_export.sources import load
from trunkline_export.variant import Variant
from trunkline_export.weights import WeightsChoice

# Of DeiT-Tiny's published weights. Recorded with torch 2.15.0 and timm 1.0.31; any other version that gives
# something else has changed the meaning of stored vectors, or this project has.
DEIT_TINY = "sp1-f6469a96db67024672d8d00a91653c74"


def _id(backbone: Backbone) -> str:
    return space_id(backbone.tensors(), backbone.architecture, backbone.preprocess, backbone.output)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that no generator of PyTorch made, so that they are the same in every version of it."""
    import torch
    from safetensors.torch import save_file

    network = load("timm:test_vit", WeightsChoice(None, pretrained=False)).network
    random = np.random.default_rng(0)
    tensors = {
        name: torch.from_numpy(random.standard_normal(tuple(tensor.shape)).astype(np.float32) * 0.02)
        for name, tensor in sorted(network.state_dict().items())
    }
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def vit(weights: Path) -> Backbone:
    return load("timm:test_vit", WeightsChoice(weights))


def test_it_is_what_it_was(vit: Backbone, assets: Path) -> None:
    assert _id(vit) == "sp1-ded992986e2b918849077644c6305d9a"
    deit = load(
        "timm:deit_tiny_patch16_224", WeightsChoice(assets / "weights" / "deit_tiny_patch16_224.safetensors")
    )
    assert _id(deit) == DEIT_TINY


@pytest.mark.slow
def test_two_installations_at_different_paths_agree(
    weights: Path, tmp_path: Path, repository: ModelRepository
) -> None:
    """Another process, home, folder of weights and working directory; the same vectors."""
    here = trunkline_export.export("timm:test_vit", repository=repository, weights=weights)
    elsewhere = tmp_path / "some where else"
    elsewhere.mkdir()
    shutil.copy(weights, elsewhere / "renamed.safetensors")
    command = [
        sys.executable, "-m", "trunkline_service.cli.entry", "export", "timm:test_vit", "--json",
        "--weights", "renamed.safetensors", "--models", "repository",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(elsewhere), "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True)
    card = json.loads(done.stdout)
    assert card["space_id"] == here.card.space_id
    assert card["artifact"]["artifact_id"] == here.card.artifact.artifact_id


def test_the_width_of_a_checkpoints_floats_does_not_matter(vit: Backbone, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    halves = {name: tensor.half() for name, tensor in vit.network.state_dict().items()}
    save_file(halves, tmp_path / "half.safetensors")
    save_file({name: tensor.float() for name, tensor in halves.items()}, tmp_path / "float.safetensors")
    ids = {
        _id(load("timm:test_vit", WeightsChoice(tmp_path / name)))
        for name in ("half.safetensors", "float.safetensors")
    }
    assert len(ids) == 1


def test_the_tag_that_weights_were_published_under_does_not_matter(vit: Backbone, weights: Path) -> None:
    assert _id(load("timm:test_vit.r160_in1k", WeightsChoice(weights))) == _id(vit)


def test_another_size_does_not_hash_what_was_resampled(vit: Backbone, weights: Path) -> None:
    """Resampling rounds as the machine at hand does, and two machines must agree on the space."""
    other = load("timm:test_vit", WeightsChoice(weights), Variant((96, 96)))
    assert other.network.state_dict()["pos_embed"].shape != vit.network.state_dict()["pos_embed"].shape
    assert np.array_equal(other.tensors()["pos_embed"], vit.tensors()["pos_embed"])
    assert _id(replace(other, preprocess=vit.preprocess)) == _id(vit)


def test_unit_length_hashes_the_networks_own_names(vit: Backbone) -> None:
    assert cut(vit, CutChoice((), None, "l2")).tensors().keys() == vit.tensors().keys()


def test_a_layer_may_be_named_or_counted(vit: Backbone) -> None:
    assert _id(cut(vit, CutChoice(("-2",)))) == _id(cut(vit, CutChoice(("blocks.5",))))


def _preprocess(**changes: Any) -> Any:
    return lambda vit: replace(vit, preprocess=replace(vit.preprocess, **changes))


def _weight(vit: Backbone) -> Backbone:
    import copy

    import torch

    network = copy.deepcopy(vit.module)
    with torch.no_grad():
        network.get_parameter("blocks.0.norm1.bias")[3] += 1e-4
    return replace(vit, module=network)


DIFFERENT = {
    "itself": lambda vit: vit,
    "interpolation": _preprocess(interpolation="bilinear"),
    "crop": _preprocess(resize_size=(180, 180)),
    "squash": _preprocess(resize="squash"),
    "mean": _preprocess(mean=(0.4, 0.5, 0.5)),
    "std": _preprocess(std=(0.5, 0.5, 0.4)),
    "one weight": _weight,
    "architecture": lambda vit: replace(vit, architecture="timm/another"),
    "layer": lambda vit: cut(vit, CutChoice(("blocks.4",))),
    "another layer": lambda vit: cut(vit, CutChoice(("blocks.3",))),
    "two layers": lambda vit: cut(vit, CutChoice(("blocks.3", "blocks.4"))),
    "two layers the other way round": lambda vit: cut(vit, CutChoice(("blocks.4", "blocks.3"))),
    "pool max": lambda vit: cut(vit, CutChoice(("blocks.4",), "max")),
    "pool gem": lambda vit: cut(vit, CutChoice(("blocks.4",), "gem")),
    "pool cls": lambda vit: cut(vit, CutChoice(("blocks.4",), "cls")),
    "pool flatten": lambda vit: cut(vit, CutChoice(("blocks.4",), "flatten")),
    "unit length": lambda vit: cut(vit, CutChoice((), None, "l2")),
    "unit length of a layer": lambda vit: cut(vit, CutChoice(("blocks.4",), None, "l2")),
}


def test_whatever_decides_a_vector_makes_another_space(vit: Backbone, weights: Path) -> None:
    ids = {name: _id(change(vit)) for name, change in DIFFERENT.items()}
    ids["size"] = _id(load("timm:test_vit", WeightsChoice(weights), Variant((96, 96))))
    ids["random weights"] = _id(load("timm:test_vit", WeightsChoice(None, pretrained=False)))
    same = {name for name in ids if list(ids.values()).count(ids[name]) > 1}
    assert same == set()


def test_shapes_of_the_same_bytes_are_told_apart() -> None:
    spec = Preprocess("squash", (8, 8), "bilinear", (8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    values = np.arange(6, dtype=np.float32)
    shapes = [(6,), (1, 6), (6, 1), (2, 3), (3, 2), (1, 2, 3)]
    ids = {space_id({"w": values.reshape(shape)}, "a", spec, OutputSpec("n", "avg")) for shape in shapes}
    assert len(ids) == len(shapes)
