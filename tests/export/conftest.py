"""Backbones, and files of ONNX, that are small enough to export in a second or two."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from tests.export.onnx_networks import TRANSFORM, Change, network

from trunkline_service.models.repository import ModelRepository

if TYPE_CHECKING:
    from trunkline_export.backbone import Backbone
    from trunkline_export.joining.network import OnnxNetwork

MakeBackbone = Callable[..., "Backbone"]


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models", bundled=tmp_path / "none")


@pytest.fixture(scope="session")
def make_backbone() -> MakeBackbone:
    """Builds a convolutional network with random weights and torchvision's transforms; fields can be replaced."""
    torch = pytest.importorskip("torch", reason="needs the export extra")

    def make(seed: int = 0, module: Any = None, **changes: Any) -> Backbone:
        from torchvision.transforms import v2

        from trunkline_export.backbone import Backbone
        from trunkline_service.images.preprocess import Preprocess
        from trunkline_service.models.identity import OutputSpec

        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            first = torch.nn.Conv2d(3, 24, 5, stride=2, padding=2)
            # Half of the filters see edges alone, as in trained networks; the others see colour.
            with torch.no_grad():
                first.weight[::2] -= first.weight[::2].mean(dim=(2, 3), keepdim=True)
                first.weight[::2] *= 3
            network = module or torch.nn.Sequential(
                first,
                torch.nn.ReLU(),
                torch.nn.Conv2d(24, 48, 3, stride=2, padding=1),
                torch.nn.ReLU(),
                torch.nn.AdaptiveAvgPool2d(2),
                torch.nn.Flatten(),
            )
        fields = {
            "source": "tests:small",
            "name": "small",
            "architecture": "tests/small",
            "module": network.eval(),
            "transform": v2.Compose(
                [
                    v2.Resize(72, interpolation=v2.InterpolationMode.BICUBIC),
                    v2.CenterCrop(64),
                    v2.PILToTensor(),
                    v2.ToDtype(torch.float32, scale=True),
                    v2.Normalize(mean, std),
                ]
            ),
            "preprocess": Preprocess("shorter", (72, 72), "bicubic", (64, 64), mean, std),
            "output": OutputSpec("flatten", "avg"),
            "pretrained": False,
            "weights": f"random, seed {seed}",
        }
        return Backbone(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def small_onnx(make_backbone: MakeBackbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported graph of ``make_backbone()``; tracing takes a second or two, so it is done once."""
    from trunkline_export.tracing.graph import write_onnx

    path = tmp_path_factory.mktemp("small") / "model.onnx"
    write_onnx(make_backbone(), path)
    return path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """No host can be resolved, and nothing was downloaded before; gives the hosts that were asked for."""
    import socket

    from huggingface_hub import constants

    asked: list[str] = []

    def unresolved(host: str, *_: Any, **__: Any) -> None:
        asked.append(str(host))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return asked


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Saves the small network of ONNX, changed if wanted."""

    def save(change: Change | None = None, name: str = "net.onnx", **options: Any) -> Path:
        model = network(**options)
        if change is not None:
            change(model)
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        onnx.save_model(model, path)
        return path

    return save


@pytest.fixture
def transform(tmp_path: Path) -> Callable[..., Path]:
    """Writes the --preprocess file; fields that are None are left out."""

    def save(**fields: Any) -> Path:
        path = tmp_path / "transform.json"
        found = {key: value for key, value in (TRANSFORM | fields).items() if value is not None}
        path.write_text(json.dumps(found))
        return path

    return save


@pytest.fixture
def load(write: Any, transform: Any) -> Callable[..., OnnxNetwork]:
    """Loads the small network of ONNX, cut at its vector."""
    pytest.importorskip("torch", reason="needs the export extra")

    from trunkline_export.sources.onnx import OnnxRequest, load_onnx

    def read(
        path: Path | None = None,
        output: str | None = "vector",
        fields: dict[str, Any] | None = None,
        **request: Any,
    ) -> OnnxNetwork:
        return load_onnx(path or write(), OnnxRequest(output, transform(**(fields or {})), **request))

    return read
