"""From a file of ONNX to a served model: with vectors of the user's own pipeline, and without."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import trunkline
from trunkline_service.cli.app import trunkline_command
from trunkline_service.errors import ExportError, InvalidArgument, ParityError
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.models.session import Device, ModelSession

pytest.importorskip("torch", reason="needs the export extra")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import trunkline_export
from trunkline_export.gate import images as gate_images
from trunkline_export.publish import publish_backbone
from trunkline_export.sources.onnx import OnnxRequest, load_onnx

SIZE = 32
# As Keras's networks in "caffe" mode: BGR, last axis, less a mean, in 0..255.
TRANSFORM = {
    "resize": "squash",
    "resize_size": [SIZE, SIZE],
    "interpolation": "bilinear",
    "crop_size": [SIZE, SIZE],
    "mean": [123.68 / 255, 116.779 / 255, 103.939 / 255],
    "std": [1 / 255, 1 / 255, 1 / 255],
    "channels": "BGR",
}
IMAGES = [image for number, image in enumerate(gate_images.made(10)) if number not in (7, 9)]


def network(size: int = SIZE) -> onnx.ModelProto:
    """image [n, size, size, 3] -> map [n, size / 4, size / 4, 12] -> embedding [n, 12]; every second filter
    sees edges alone."""
    random = np.random.default_rng(0)
    first = random.normal(size=(16, 3, 3, 3)) / 100
    first[::2] -= first[::2].mean(axis=(2, 3), keepdims=True)
    weights = {
        "first": first,
        "bias": random.normal(size=16) / 2,
        "second": random.normal(size=(12, 16, 3, 3)),
    }
    same = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "first", "bias"], ["conv1"], **same),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("Conv", ["relu1", "second"], ["conv2"], **same),
        helper.make_node("Relu", ["conv2"], ["relu2"]),
        helper.make_node("Transpose", ["relu2"], ["map"], perm=[0, 2, 3, 1]),
        helper.make_node("GlobalAveragePool", ["relu2"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "keras",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", size, size, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 12])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx.save_model(network(), path)
    return path


def own(path: Path, size: int = SIZE) -> Any:
    """The user's pipeline: Pillow, NumPy, ONNX Runtime."""
    arrays = []
    for image in IMAGES:
        with Image.open(io.BytesIO(image.data)) as opened:
            resized = opened.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        arrays.append(np.asarray(resized, np.float32)[..., ::-1] - np.float32([103.939, 116.779, 123.68]))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["embedding"], {"image": np.stack(arrays)})[0]


@pytest.fixture
def reference(path: Path, tmp_path: Path) -> Path:
    """Images and vectors.npy, with a folder and a hidden file beside them."""
    return write_reference(tmp_path / "reference", own(path))


def write_reference(folder: Path, vectors: Any) -> Path:
    folder.mkdir()
    for number, image in enumerate(IMAGES):
        (folder / f"{number:02}.{'png' if image.lossless else 'jpg'}").write_bytes(image.data)
    np.save(folder / "vectors.npy", vectors)
    (folder / "more").mkdir()
    (folder / ".hidden").write_text("not an image")
    return folder


@pytest.fixture
def publish(path: Path, tmp_path: Path, repository: ModelRepository) -> Callable[..., ModelFolder]:
    """Publishes the network, cut at its embedding."""

    def run(fields: dict[str, Any] | None = None, output: str = "embedding", **request: Any) -> ModelFolder:
        transform = tmp_path / "transform.json"
        transform.write_text(json.dumps(TRANSFORM | (fields or {})))
        loaded = load_onnx(request.pop("file", path), OnnxRequest(output, transform, **request))
        return publish_backbone(loaded, repository)

    return run


def test_without_a_reference_the_card_says_unverified(publish: Any) -> None:
    card = publish().card
    assert (card.parity.status, card.parity.reference, card.parity.images) == (
        "unverified",
        "none was given",
        0,
    )
    assert card.parity.cosine_min is card.parity.separation_share is card.parity.pixels_jpeg_max is None
    assert (card.dim, card.source, card.name) == (12, "onnx:net.onnx", "net")
    assert card.architecture.endswith("/NHWC/BGR/0")
    assert card.batch.sizes == (1, 2, 7, 16, 64)
    assert card.artifact.opset == 17


def test_with_a_reference_it_is_verified(publish: Any, reference: Path) -> None:
    parity = publish(reference=reference).card.parity
    assert (parity.status, parity.images) == ("verified", len(IMAGES))
    assert parity.reference == f"vectors of {len(IMAGES)} images given by the user"
    assert parity.pixels_lossless_max is None
    assert parity.cosine_min > 1 - 1e-9
    assert parity.separation_share < 1e-6


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"mean": [103.939 / 255, 116.779 / 255, 123.68 / 255]},
        {"mean": [0.0, 0.0, 0.0]},
        {"std": [1 / 127.5] * 3},
        {"channels": "RGB"},
        {"interpolation": "bicubic"},
        {"interpolation": "hamming"},
        {"interpolation": "nearest"},
        {"resize": "shorter"},
        {"resize_size": [33, 33]},
    ],
    ids=str,
)
def test_a_wrong_transform_fails_the_gate(publish: Any, reference: Path, repository: Any, wrong: Any) -> None:
    with pytest.raises(ParityError, match=r"net.onnx: parity failed.*Worst: \d\d\.(png|jpg)\. Nothing"):
        publish(wrong, reference=reference)
    assert not repository.root.exists()


def test_a_wrong_layout_fails_the_gate(publish: Any, tmp_path: Path) -> None:
    """Where the network's input can't tell: three rows of three pixels of three channels."""
    small = network(size=3)
    small.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "c"
    file = tmp_path / "small.onnx"
    onnx.save_model(small, file)
    folder = write_reference(tmp_path / "small", own(file, 3))
    fields = {"resize_size": [3, 3], "crop_size": [3, 3]}
    right = publish(fields | {"layout": "NHWC"}, file=file, reference=folder)
    assert right.card.parity.status == "verified"
    with pytest.raises(ParityError, match="parity failed"):
        publish(fields | {"layout": "NCHW"}, file=file, reference=folder)


def test_vectors_in_another_order_fail_the_gate(publish: Any, reference: Path) -> None:
    np.save(reference / "vectors.npy", np.load(reference / "vectors.npy")[::-1])
    with pytest.raises(ParityError, match="parity failed"):
        publish(reference=reference)


def test_vectors_of_another_length_fail_the_gate(publish: Any, reference: Path) -> None:
    with pytest.raises(ParityError, match=r"gives vectors \[8, 768\], the reference \[8, 12\]"):
        publish(output="map", pool="flatten", reference=reference)


def _without(folder: Path) -> None:
    (folder / "vectors.npy").unlink()


def _pickled(folder: Path) -> None:
    np.save(folder / "vectors.npy", np.array([{}], object), allow_pickle=True)


def _archive(folder: Path) -> None:
    np.savez(folder / "archive.npz", np.zeros((8, 12), np.float32))
    (folder / "archive.npz").rename(folder / "vectors.npy")


def _other(values: Any) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "vectors.npy", values)


def _note(folder: Path) -> None:
    np.save(
        folder / "vectors.npy", np.vstack([np.load(folder / "vectors.npy"), np.ones((1, 12), np.float32)])
    )
    (folder / "notes.txt").write_text("these are my images")


def _holed(value: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        vectors = np.load(folder / "vectors.npy")
        vectors[3] = value
        np.save(folder / "vectors.npy", vectors)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_without, "vectors.npy.*it must hold images and vectors.npy"),
        (lambda folder: (folder / "vectors.npy").write_bytes(b""), "it must hold images and vectors.npy"),
        (_pickled, "it must hold images and vectors.npy"),
        (_archive, "it must hold images and vectors.npy"),
        (_other(np.zeros((7, 12), np.float32)), r"float32 \[7, 12\] for 8 images.*a row for each image"),
        (_other(np.zeros(8, np.float32)), r"float32 \[8\] for 8 images"),
        (_other(np.ones((8, 12), np.int64)), r"int64 \[8, 12\]"),
        (_holed(np.nan), r"row 3 of vectors.npy, of 03.jpg, is not finite or all zeros"),
        (_holed(0.0), r"row 3 of vectors.npy, of 03.jpg, is not finite or all zeros"),
        (_note, r"notes.txt can't be used: this looks like text"),
    ],
)
def test_a_reference_that_cannot_be_used(publish: Any, reference: Path, change: Any, says: str) -> None:
    change(reference)
    with pytest.raises(InvalidArgument, match=f"--reference.*{says}"):
        publish(reference=reference)


def test_a_few_images_are_too_few(publish: Any, reference: Path) -> None:
    for file in sorted(reference.glob("*.*g"))[3:]:
        file.unlink()
    np.save(reference / "vectors.npy", np.load(reference / "vectors.npy")[:3])
    with pytest.raises(ExportError, match="at least 4 images; it was given 3"):
        publish(reference=reference)


def _always(model: onnx.ModelProto, factor: float) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.float32([factor]), "factor"))
    model.graph.node.append(helper.make_node("Mul", ["embedding", "factor"], ["always"]))


@pytest.mark.parametrize(
    ("factor", "says"),
    [(0.0, "4 different images give the same vector at 'always'"), (np.inf, "NaN or infinity")],
)
def test_vectors_that_mean_nothing_are_refused(
    publish: Any, tmp_path: Path, factor: float, says: str
) -> None:
    model = network()
    _always(model, factor)
    onnx.save_model(model, tmp_path / "net.onnx")
    with pytest.raises(ExportError, match=says):
        publish(output="always", file=tmp_path / "net.onnx")


def test_what_was_published_serves(publish: Any, path: Path, repository: ModelRepository) -> None:
    """The tensors are called ``image`` and ``embedding``, as the published ones are."""
    folder = publish()
    assert {entry.name for entry in folder.path.iterdir()} == {"model.onnx", "card.json"}
    folder.verify()
    config = (repository.root / "net" / "config.pbtxt").read_text()
    assert "dims: [ 32, 32, 3 ]" in config
    assert "dims: [ 12 ]" in config
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    assert ModelSession(folder, Device("cpu"), ExecutionPlan(1, 1, 16)).run(pixels).shape == (3, 12)

    data = repository.root.parent / "data"
    with trunkline.open(models=str(repository.root), data=str(data), default_model="net") as client:
        result = client.embed([image.data for image in IMAGES])
    assert result.space_id == folder.card.space_id
    np.testing.assert_allclose(result.vectors, own(path), rtol=1e-4, atol=1e-4)


def test_the_map_pools_to_the_networks_own_mean(publish: Any, reference: Path) -> None:
    card = publish(output="map", reference=reference).card
    assert (card.output.pool, card.parity.status, card.dim) == ("avg", "verified", 12)
    assert card.architecture.endswith("/NHWC/BGR/0-last")


def test_unit_length(publish: Any, reference: Path) -> None:
    folder = publish(normalize="l2", reference=reference)
    assert folder.card.output.normalize == "l2"
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    vectors = ModelSession(folder, Device("cpu"), ExecutionPlan(1, 1, 16)).run(pixels)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_the_whole_line(path: Path, reference: Path, repository: ModelRepository, tmp_path: Path) -> None:
    (tmp_path / "transform.json").write_text(json.dumps(TRANSFORM))
    said: list[str] = []
    folder = trunkline_export.export(
        f"onnx:{path}",
        repository=repository,
        output="map",
        pool="max",
        normalize="l2",
        preprocess=tmp_path / "transform.json",
        progress=said.append,
    )
    assert folder.card.reference == "net-max-l2@1"
    assert "no reference to compare with" in said


def test_the_command(path: Path, reference: Path, tmp_path: Path) -> None:
    (tmp_path / "transform.json").write_text(json.dumps(TRANSFORM))
    options = [
        *("--output", "embedding", "--preprocess", str(tmp_path / "transform.json")),
        *("--models", str(tmp_path / "models"), "--name", "mine"),
    ]
    done = CliRunner().invoke(trunkline_command, ["export", f"onnx:{path}", *options])
    assert done.exit_code == 0, done.output
    assert "published mine@1" in done.output
    assert "parity: unverified, since there was nothing to compare with (--reference DIR)" in done.output
    done = CliRunner().invoke(
        trunkline_command, ["export", f"onnx:{path}", *options, "--reference", str(reference), "--json"]
    )
    card = json.loads(done.stdout)
    assert (card["name"], card["version"], card["parity"]["status"]) == ("mine", 2, "verified")
    assert str(tmp_path) not in done.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": "64"}, "--size can't be used with onnx:PATH"),
        ({"pretrained": False}, "--no-pretrained can't be used with onnx:PATH"),
        ({"layers": ["-1"]}, "--layer can't be used with onnx:PATH"),
        ({"pool": "mean"}, "pool is 'mean'"),
        ({"normalize": "l1"}, "normalize is 'l1'"),
    ],
)
def test_options_of_other_sources_are_refused(options: Any, says: str, repository: ModelRepository) -> None:
    with pytest.raises(InvalidArgument, match=says):
        trunkline_export.export("onnx:net.onnx", repository=repository, **options)
