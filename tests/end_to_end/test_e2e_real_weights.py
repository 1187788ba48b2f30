"""Real weights, real photographs, a real server: vectors equal the libraries' own, and a head learns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import trunkline
from trunkline_service.images.prepare import prepare_encoded
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.settings import ImageLimits

HYMENOPTERA = "images/hymenoptera"


def photographs(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def opened(path):
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def reference(module, transform, paths):
    """The library's own pipeline: Pillow, its transform, its network."""
    import torch

    vectors = []
    with torch.inference_mode():
        for start in range(0, len(paths), 16):
            batch = torch.stack([transform(opened(path)) for path in paths[start : start + 16]])
            vectors.append(module(batch).numpy())
    return np.concatenate(vectors)


def deit_tiny(weights):
    import timm
    from safetensors.torch import load_file

    network = timm.create_model("deit_tiny_patch16_224")
    network.load_state_dict(load_file(weights), strict=True)
    network.reset_classifier(0)
    config = timm.data.resolve_data_config(network.pretrained_cfg)
    return network.eval(), timm.data.create_transform(**config, is_training=False)


def resnet18(weights):
    import torch
    import torchvision
    from safetensors.torch import load_file

    network = torchvision.models.resnet18()
    network.load_state_dict(
        {name: tensor.float() for name, tensor in load_file(weights).items()}, strict=False
    )
    network.fc = torch.nn.Identity()
    return network.eval(), torchvision.models.ResNet18_Weights.DEFAULT.transforms()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "file", "build", "least_accuracy"),
    [
        ("timm:deit_tiny_patch16_224", "deit_tiny_patch16_224.safetensors", deit_tiny, 0.94),
        ("torchvision:resnet18", "resnet18_torchvision_keys_fp16.safetensors", resnet18, 0.90),
    ],
)
def test_served_vectors_are_the_librarys_own_and_a_head_learns(
    tmp_path, assets, cli, start_server, source, file, build, least_accuracy, record_property
):
    weights = assets / "weights" / file
    done = cli("export", source, "--weights", str(weights), "--name", "backbone", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["parity"]["status"] == "verified"
    assert card["parity"]["cosine_min"] >= 0.999
    train, val = (photographs(assets / HYMENOPTERA / split) for split in ("train", "val"))
    assert (len(train), len(val)) == (245, 153)
    with (
        start_server(tmp_path, "--default-model", "backbone") as server,
        trunkline.Client(server.address) as client,
    ):
        served = client.embed([*train, *val])
        assert served.ok.all()
        ours = served.vectors
        least = cosines(ours, reference(*build(weights), [*train, *val])).min()
        record_property("minimum cosine", float(least))
        assert least >= 0.999
        done = cli(
            "embed",
            str(assets / HYMENOPTERA / "train"),
            "--into",
            "insects",
            "--model",
            "backbone",
            "--json",
            cwd=tmp_path,
        )
        assert json.loads(done.stdout)["embedded"] == 245, done.stderr
        done = cli("heads", "fit", "insects", "--name", "insect", "--json", cwd=tmp_path)
        assert json.loads(done.stdout)["rows"] == 245, done.stderr
        predicted = client.predict(val, head="insect")
        accuracy = np.mean(
            [label == path.parent.name for label, path in zip(predicted.labels, val, strict=True)]
        )
        record_property("accuracy on val", float(accuracy))
        assert accuracy >= least_accuracy
        bound = card["batch"]["bound"] * np.linalg.norm(ours[245])
        assert np.linalg.norm(client.embed([val[0]]).vectors[0] - ours[245]) <= bound
        for count in (7, 64):
            assert np.linalg.norm(client.embed(val[:count]).vectors[0] - ours[245]) <= bound
    # How calls meet in batches is the server's affair; here the batch sizes are what they say.
    session = ModelSession(
        ModelRepository(tmp_path / "models").resolve("backbone"), Device("cpu"), ExecutionPlan(2, 1, 16)
    )
    spec = session.card.preprocess
    pixels = np.stack([prepare_encoded(path.read_bytes(), spec, "exact", ImageLimits()) for path in val[:64]])
    for size in (1, 7, 64):
        moved = session.run(pixels[:size]) - ours[245 : 245 + size]
        relative = np.linalg.norm(moved, axis=1) / np.linalg.norm(ours[245 : 245 + size], axis=1)
        assert relative.max() <= card["batch"]["bound"]
