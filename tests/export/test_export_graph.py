"""The exported file: self-contained, silent about this machine, free of run-time shape arithmetic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import ExportError

torch = pytest.importorskip("torch", reason="needs the export extra")
onnx = pytest.importorskip("onnx", reason="needs the export extra")

from trunkline_export.gate.candidate import Candidate  # noqa: E402
from trunkline_export.sources import load  # noqa: E402
from trunkline_export.tracing.graph import OPSET, machine_paths, opset_of, write_onnx  # noqa: E402
from trunkline_export.weights import WeightsChoice  # noqa: E402

# What ONNX Runtime would compute on the CPU, between nodes on the device.
SHAPE_ARITHMETIC = {"Shape", "Size", "Range", "ConstantOfShape", "Expand", "NonZero", "Loop", "If"}


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A transformer of two blocks: class token, position embedding, attention."""
    backbone = load("timm:test_vit", WeightsChoice(None, pretrained=False))
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    assert write_onnx(backbone, path) == 64
    return backbone, path


def test_input_and_output_are_as_triton_is_told(vit: tuple[Any, Path]) -> None:
    graph = onnx.load(vit[1]).graph
    (image,), (embedding,) = graph.input, graph.output
    assert (image.name, embedding.name) == ("image", "embedding")
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert embedding.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["batch", 160, 160, 3]
    assert [d.dim_param or d.dim_value for d in embedding.type.tensor_type.shape.dim] == ["batch", 64]
    assert opset_of(vit[1]) == OPSET


def test_it_computes_what_the_network_does(vit: tuple[Any, Path]) -> None:
    backbone, path = vit
    pixels = np.random.default_rng(0).integers(0, 256, (5, 160, 160, 3), dtype=np.uint8)
    mean, std = (
        torch.tensor(v).reshape(1, 3, 1, 1) for v in (backbone.preprocess.mean, backbone.preprocess.std)
    )
    with torch.no_grad():
        wanted = backbone.module((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    np.testing.assert_allclose(Candidate(path).run(pixels), wanted, atol=1e-5)


@pytest.mark.parametrize("source", ["timm:test_vit", "timm:test_resnet", "timm:test_efficientnet"])
def test_no_shape_is_computed_at_run_time(source: str, tmp_path: Path) -> None:
    write_onnx(load(source, WeightsChoice(None, pretrained=False)), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert not SHAPE_ARITHMETIC & {node.op_type for node in graph.node}
    constants = {tensor.name for tensor in graph.initializer}
    assert all(node.input[1] in constants for node in graph.node if node.op_type == "Reshape")


def test_nothing_unused_is_left(vit: tuple[Any, Path]) -> None:
    graph = onnx.load(vit[1]).graph
    used = {name for node in graph.node for name in node.input} | {graph.output[0].name}
    assert {tensor.name for tensor in graph.initializer} <= used
    assert all(used.intersection(node.output) for node in graph.node)


def test_weights_are_inside_the_file(vit: tuple[Any, Path]) -> None:
    model = onnx.load(vit[1], load_external_data=False)
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    assert list(vit[1].parent.iterdir()) == [vit[1]]


def test_the_file_says_nothing_about_this_machine(vit: tuple[Any, Path]) -> None:
    model = onnx.load(vit[1])
    held = vit[1].read_bytes()
    assert not any(
        str(path).encode() in held for path in (Path.cwd(), sys.prefix, vit[1].parent, "site-packages")
    )
    assert machine_paths(model) == []
    assert b"stack_trace" not in held
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert model.producer_name == "trunkline"


def test_a_path_in_the_graph_is_found(vit: tuple[Any, Path]) -> None:
    model = onnx.load(vit[1])
    model.graph.node[0].doc_string = f'File "{sys.prefix}/lib/x.py", line 1'
    assert sys.prefix in machine_paths(model)
    assert machine_paths(model, also=("line 1",))[-1] == "line 1"


def test_two_exports_give_the_same_bytes(vit: tuple[Any, Path], tmp_path: Path) -> None:
    write_onnx(vit[0], tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == vit[1].read_bytes()


def test_a_network_without_one_vector_an_image_is_refused(make_backbone: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"gives torch.float32 \[2, 3, 64, 64\].*float32 \[N, dim\]"):
        write_onnx(make_backbone(module=torch.nn.Identity()), tmp_path / "model.onnx")


def test_a_network_that_cannot_be_traced_is_refused(make_backbone: Any, tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, pixels: Any) -> Any:
            flat = pixels.mean((2, 3))
            return flat if float(flat.sum()) > 0 else -flat

    with pytest.raises(
        ExportError,
        match="tests:small can't be traced for ONNX: its control flow depends on what is in the image",
    ):
        write_onnx(make_backbone(module=Branching()), tmp_path / "model.onnx")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match="ONNX Runtime can't load the exported graph"):
        Candidate(tmp_path / "model.onnx")
