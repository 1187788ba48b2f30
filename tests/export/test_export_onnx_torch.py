"""Networks that PyTorch wrote as plain ONNX: other exporters, operator sets, and batches fixed to one."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import ExportError

torch = pytest.importorskip("torch", reason="needs the export extra")

import onnx  # noqa: E402

from trunkline_export.gate.candidate import Candidate  # noqa: E402
from trunkline_export.sources.onnx import OnnxRequest, load_onnx  # noqa: E402

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
OPERATORS_OF_SHAPES = {"Shape", "Expand", "ConstantOfShape", "Where"}


def written(
    network: Any, path: Path, size: int, *, dynamo: bool, fixed: int | None, opset: int, nhwc: bool
) -> None:
    """A file as people write them."""
    count = fixed or 2
    example = torch.randn(count, size, size, 3) if nhwc else torch.randn(count, 3, size, size)
    options: dict[str, Any] = {}
    if fixed is None and dynamo:
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch", min=1)},)
    elif fixed is None:
        options["dynamic_axes"] = {"image": {0: "batch"}}
    with warnings.catch_warnings():
        # Exporters warn about themselves.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (example,), path, dynamo=dynamo, input_names=["image"], output_names=["embedding"],
            opset_version=opset, verbose=False, **options,
        )  # fmt: skip


def built(name: str) -> Any:
    library, _, name = name.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if library == "timm":
            import timm

            return timm.create_model(name, num_classes=10).eval()
        from torchvision.models import get_model

        return get_model(name, weights=None).eval()


class Last(torch.nn.Module):
    """A network whose input lies [N, H, W, 3]."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Any) -> Any:
        return self.network(image.permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("timm:test_resnet", 64, {"opset": 13, "fixed": 1}),
        ("timm:test_resnet", 64, {"opset": 20, "dynamo": True}),
        ("timm:test_resnet", 64, {"nhwc": True, "fixed": 1}),
        ("timm:test_resnet", 64, {"fixed": 4}),
        ("torchvision:shufflenet_v2_x0_5", 64, {"fixed": 1}),
        ("timm:test_vit", 160, {"opset": 14}),
        ("timm:test_vit", 160, {"fixed": 1}),
        ("timm:test_vit", 160, {"opset": 20, "fixed": 1, "dynamo": True}),
        ("timm:test_convnext", 64, {"opset": 20, "dynamo": True}),
    ],
)
def test_the_network_is_the_one_that_was_written(
    name: str, size: int, options: dict[str, Any], tmp_path: Path
) -> None:
    network = built(name)
    whole = Last(network).eval() if options.get("nhwc") else network
    path = tmp_path / "net.onnx"
    written(whole, path, size, **({"dynamo": False, "fixed": None, "opset": 17, "nhwc": False} | options))
    loaded = load_onnx(path, OnnxRequest("embedding", _transform(tmp_path, size)))
    dim = loaded.write(tmp_path / "model.onnx")

    pixels = np.random.default_rng(0).integers(0, 256, (5, size, size, 3), dtype=np.uint8)
    with torch.no_grad():
        values = (torch.from_numpy(pixels) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        wanted = network(values.permute(0, 3, 1, 2)).numpy()
    found = Candidate(tmp_path / "model.onnx").run(pixels)
    assert found.shape == (5, dim) == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    assert b"site-packages" not in (tmp_path / "model.onnx").read_bytes()


@pytest.mark.parametrize("fixed", [None, 1])
def test_nothing_is_left_that_would_run_beside_a_gpu(fixed: int | None, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    written(built("timm:test_vit"), path, 160, dynamo=False, fixed=fixed, opset=17, nhwc=False)
    before = {node.op_type for node in onnx.load_model(path).graph.node}
    load_onnx(path, OnnxRequest("embedding", _transform(tmp_path, 160))).write(tmp_path / "model.onnx")
    after = {node.op_type for node in onnx.load_model(tmp_path / "model.onnx").graph.node}
    assert "Shape" in before
    assert not after & OPERATORS_OF_SHAPES


def test_a_batch_that_cannot_be_freed_says_so(tmp_path: Path) -> None:
    class Attention(torch.nn.Module):
        """Keeps its batch on the second axis, as torch.nn.MultiheadAttention does."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.MultiheadAttention(12, 3)

        def forward(self, image: Any) -> Any:
            tokens = image.reshape(image.shape[0], 12, -1).permute(2, 0, 1)
            attended, _ = self.inner(tokens, tokens, tokens)
            return attended.mean(0)

    path = tmp_path / "net.onnx"
    network = Attention().eval()
    written(network, path, 8, dynamo=False, fixed=1, opset=17, nhwc=False)
    request = OnnxRequest("embedding", _transform(tmp_path, 8))
    with pytest.raises(
        ExportError, match=r"can't run a batch of 2; it was written for batches of 1. Export it again"
    ):
        load_onnx(path, request).write(tmp_path / "model.onnx")
    written(network, path, 8, dynamo=False, fixed=None, opset=17, nhwc=False)
    assert load_onnx(path, request).write(tmp_path / "model.onnx") == 12


def _transform(folder: Path, size: int) -> Path:
    path = folder / "transform.json"
    fields = {"resize": "squash", "resize_size": [size, size], "interpolation": "bilinear"}
    path.write_text(json.dumps({**fields, "crop_size": [size, size], "mean": MEAN, "std": STD}))
    return path
