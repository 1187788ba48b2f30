"""A backbone and a head as one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import tiny_onnx

from trunkline_service.errors import ExportError, ModelFileError, ParityError, SpaceMismatch
from trunkline_service.heads.network import Network
from trunkline_service.heads.serving import fused as fused_module
from trunkline_service.heads.serving import onnx_head
from trunkline_service.heads.serving.fused import fuse
from trunkline_service.models.repository import BUNDLED

MakeNetwork = Callable[..., Network]
DIM = 48
SIZE = 32
IMAGES = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_onnx(tmp_path_factory.mktemp("fused") / "model.onnx", scale=0.01)


def head_of(network: Network, task: Any = "single-label") -> bytes:
    classes = [] if task == "anomaly" else [str(k) for k in range(network.outputs)]
    return onnx_head.build(network, classes, "sp1-x", task)


def run(model: bytes | Path, images: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    import onnxruntime as ort

    data = model if isinstance(model, bytes) else str(model)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


@pytest.mark.parametrize(
    ("body", "more", "task", "outputs"),
    [
        ("linear", {"rank": 2}, "single-label", ["probabilities", "embedding", "distance"]),
        ("mlp", {"activation": "sigmoid"}, "multi-label", ["probabilities", "embedding"]),
        (
            "neighbours",
            {"normalised": True, "rank": 0},
            "single-label",
            ["probabilities", "embedding", "distance"],
        ),
        ("linear", {"activation": "none"}, "regression", ["values", "embedding"]),
        ("distance", {"activation": "none"}, "anomaly", ["score", "embedding"]),
    ],
)
def test_it_computes_what_the_two_do_in_turn(
    backbone: Path, make_network: MakeNetwork, body: str, more: dict[str, Any], task: Any, outputs: list[str]
) -> None:
    network = make_network(body, dim=DIM, **more)
    found = run(fuse(backbone, head_of(network, task), "sp1-x"), IMAGES)
    assert list(found) == outputs
    embedding = run(backbone, IMAGES)["embedding"]
    np.testing.assert_allclose(found["embedding"], embedding, rtol=1e-6)
    np.testing.assert_allclose(found[outputs[0]], network(embedding), rtol=1e-3, atol=1e-5)
    if network.distance is not None:
        np.testing.assert_allclose(found["distance"], network.distance(embedding)[:, 0], rtol=1e-3)


def test_the_bundled_model_takes_a_head(make_network: MakeNetwork) -> None:
    model = BUNDLED / "trunkline-small" / "1" / "model.onnx"
    network = make_network("neighbours", dim=192, rank=2)
    images = np.random.default_rng(2).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    found = run(fuse(model, head_of(network), "sp1-x"), images)
    np.testing.assert_allclose(found["probabilities"], network(found["embedding"]), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["embedding"], run(model, images)["embedding"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_operator_sets_are_brought_together(
    backbone: Path, tmp_path: Path, make_network: MakeNetwork, opset: int
) -> None:
    import onnx

    other = onnx.load(backbone)
    other.opset_import[0].version = opset
    path = tmp_path / "model.onnx"
    onnx.save(other, path)
    network = make_network("neighbours", dim=DIM, rank=1)
    data = fuse(path, head_of(network), "sp1-x")
    assert [(o.domain, o.version) for o in onnx.load_from_string(data).opset_import] == [("", max(opset, 17))]
    found = run(data, IMAGES)
    np.testing.assert_allclose(found["probabilities"], network(found["embedding"]), rtol=1e-3, atol=1e-5)


def test_names_inside_do_not_meet(backbone: Path, tmp_path: Path, make_network: MakeNetwork) -> None:
    import onnx

    other = onnx.load(backbone)
    # The backbone calls an edge and a weight of its own as the head does.
    for node in other.graph.node:
        for names in (node.input, node.output):
            names[:] = ["logits" if name == "flat" else "W" if name == "scale" else name for name in names]
    other.graph.initializer[0].name = "W"
    path = tmp_path / "model.onnx"
    onnx.save(other, path)
    network = make_network(dim=DIM)
    found = run(fuse(path, head_of(network), "sp1-x"), IMAGES)
    np.testing.assert_allclose(found["probabilities"], network(found["embedding"]), rtol=1e-3, atol=1e-5)


def test_it_says_what_both_are(backbone: Path, tmp_path: Path, make_network: MakeNetwork) -> None:
    import onnx

    other = onnx.load(backbone)
    onnx.helper.set_model_props(other, {"made.by": "hand"})
    path = tmp_path / "model.onnx"
    onnx.save(other, path)
    network = make_network(dim=DIM)
    data = fuse(path, head_of(network), "sp1-x")
    assert data == fuse(path, head_of(network), "sp1-x")
    model = onnx.load_from_string(data)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "made.by": "hand",
        "trunkline.space_id": "sp1-x",
        "trunkline.classes": '["0", "1", "2"]',
        "trunkline.task": "single-label",
    }
    shapes = [output.type.tensor_type.shape.dim for output in model.graph.output]
    assert [shape[0].dim_param for shape in shapes] == ["batch", "batch"]
    assert model.producer_name == "trunkline"


def test_a_head_of_another_space_is_refused(backbone: Path, make_network: MakeNetwork) -> None:
    with pytest.raises(
        SpaceMismatch, match=r"takes embeddings of space sp1-x, and model\.onnx gives those of sp1-y"
    ):
        fuse(backbone, head_of(make_network(dim=DIM)), "sp1-y")


def test_a_graph_that_computes_something_else_is_not_given_away(
    backbone: Path, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = fused_module._merge

    def wrong(model: Any, head: Any) -> Any:
        bias = next(entry for entry in head.graph.initializer if entry.name == "b")
        bias.raw_data = np.array([9, 0, 0], np.float32).tobytes()
        return right(model, head)

    monkeypatch.setattr(fused_module, "_merge", wrong)
    with pytest.raises(ParityError, match="the fused model gives another probabilities"):
        fuse(backbone, head_of(make_network(dim=DIM)), "sp1-x")


def test_weights_in_other_files(backbone: Path, tmp_path: Path, make_network: MakeNetwork) -> None:
    import onnx

    path = tmp_path / "model.onnx"
    whole = onnx.load(backbone)
    weights = onnx.numpy_helper.to_array(whole.graph.initializer[0])
    whole.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "scale"))
    onnx.save(whole, path, save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(ExportError, match="keeps its weights in files beside it"):
        fuse(path, head_of(make_network(dim=DIM)), "sp1-x")


def test_more_than_one_file_holds(
    backbone: Path, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_module, "_MAX_BYTES", 1000)
    with pytest.raises(ExportError, match="an ONNX file holds 2 GB; serve them apart"):
        fuse(backbone, head_of(make_network(dim=DIM)), "sp1-x")


def test_files_that_are_no_models(backbone: Path, tmp_path: Path, make_network: MakeNetwork) -> None:
    head = head_of(make_network(dim=DIM))
    with pytest.raises(ModelFileError, match=r"model.onnx can't be read: No such file"):
        fuse(tmp_path / "absent.onnx", head, "sp1-x")
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match=r"model.onnx is no ONNX file"):
        fuse(broken, head, "sp1-x")
    with pytest.raises(ModelFileError, match=r"head.onnx is no ONNX file"):
        fuse(backbone, b"", "sp1-x")
    other = tmp_path / "head.onnx"
    other.write_bytes(head)
    with pytest.raises(ModelFileError, match=r"model.onnx has inputs \['embedding'\]"):
        fuse(other, head, "sp1-x")
