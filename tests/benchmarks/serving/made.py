"""JPEGs like photographs, models with random weights, and requests as finished bytes."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COUNT, BYTES = 64, 100_000
LARGE_COUNT = 12
FREE_DIM = 512
SOURCES = {"mobilenetv2": "torchvision:mobilenet_v2", "resnet50": "torchvision:resnet50"}


def jpegs(folder: Path) -> Path:
    """64 JPEGs of about 640 x 427 and 100 KB: pieces of two photographs with a little noise."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0)
    for number in range(COUNT):
        width = int(chance.integers(600, 681))
        picture = _piece(number, (width, round(width * 427 / 640)), chance)
        tries = (_encoded(picture, quality) for quality in range(70, 100, 2))
        (folder / f"{number:02d}.jpg").write_bytes(min(tries, key=lambda data: abs(len(data) - BYTES)))
    return folder


def photographs(folder: Path) -> Path:
    """12 JPEGs with sides of 2,000-4,000 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(1)
    for number in range(LARGE_COUNT):
        width = int(chance.integers(3000, 4001))
        picture = _piece(number, (width, width * 2 // 3), chance)
        (folder / f"{number:02d}.jpg").write_bytes(_encoded(picture, 88))
    return folder


def _piece(number: int, size: tuple[int, int], chance: np.random.Generator) -> Any:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    whole = Image.fromarray(load_sample_images().images[number % 2])
    share = chance.uniform(0.6, 1.0)
    width, height = int(whole.width * share), int(whole.height * share)
    left, top = (int(chance.integers(0, room + 1)) for room in (whole.width - width, whole.height - height))
    piece = whole.crop((left, top, left + width, top + height)).resize(size, Image.Resampling.BICUBIC)
    noise = chance.normal(0, 4, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(piece) + noise, 0, 255).astype(np.uint8))


def _encoded(picture: Any, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def models(home: Path, networks: Iterable[str]) -> Path:
    """A repository with these networks: ``free`` costs next to nothing, the others have random weights."""
    import trunkline_export
    from trunkline_service.models.repository import ModelRepository

    repository = ModelRepository(home)
    for network in networks:
        if (home / network).exists():
            continue
        if network == "free":
            _publish_free(repository, home.parent / "free.onnx")
        elif network in SOURCES:
            trunkline_export.export(SOURCES[network], repository=repository, name=network, pretrained=False)
        else:
            raise SystemExit(f"--networks: {network} is none of free, {', '.join(SOURCES)}, nor in --models")
    return home


def _publish_free(repository: Any, file: Path) -> None:
    from trunkline_service.images.preprocess import Preprocess
    from trunkline_service.models.card import Artifact, BatchRecord, ModelCard, ParityRecord
    from trunkline_service.models.identity import OutputSpec, artifact_id, file_sha256, space_id

    weights = _write_free(file)
    digest, output = file_sha256(file), OutputSpec("mean", "avg")
    rule = Preprocess("shorter", (256, 256), "bilinear", (224, 224), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def card(version: int) -> ModelCard:
        return ModelCard(
            name="free",
            version=version,
            source="benchmark",
            architecture="free",
            pretrained=False,
            weights="",
            license="",
            parameters=weights.size,
            dim=FREE_DIM,
            output=output,
            preprocess=rule,
            conventions={},
            space_id=space_id({"weights": weights}, "free", rule, output),
            artifact=Artifact(artifact_id(digest, "fp32"), "fp32", digest, file.stat().st_size, 18),
            parity=ParityRecord("unverified", "none", 0, None, None, 0, None, None, None, None, None, None),
            batch=BatchRecord((1,), 1e-5, 0.0),
            created_at="2026-01-01T00:00:00+00:00",
            tools={},
        )

    repository.publish(file, card)


def _write_free(file: Path) -> Any:
    """Every 8th pixel, averaged, times a matrix: what is left of serving is decoding and the server."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).normal(size=(3, FREE_DIM)).astype(np.float32)

    def constant(name: str, values: Sequence[int]) -> Any:
        return numpy_helper.from_array(np.array(values, np.int64), name)

    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["image", "starts", "ends", "axes", "steps"], ["few"]),
            helper.make_node("Cast", ["few"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["embedding"]),
        ],
        "free",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 224, 224, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", FREE_DIM])],
        [
            constant("starts", [0, 0]),
            constant("ends", [224, 224]),
            constant("axes", [1, 2]),
            constant("steps", [8, 8]),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(file))
    return weights


def files(folder: Path) -> list[bytes]:
    """The JPEGs of a folder, by name."""
    found = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    if not found:
        raise SystemExit(f"{folder} holds no .jpg file")
    return found


def groups(images: Sequence[bytes], count: int) -> list[list[bytes]]:
    """As many groups as images, of ``count`` each; every image stands in as many."""
    return [[images[(first + k) % len(images)] for k in range(count)] for first in range(len(images))]


def requests(
    protocol: str, network: str, images: Sequence[bytes], count: int = 1, lane: str = "interactive"
) -> list[bytes]:
    """Calls with ``count`` images each, as bytes."""
    build = {"trunkline": _embed, "open-inference": _infer}[protocol]
    return [build(network, group, lane) for group in groups(images, count)]


def _embed(network: str, group: Sequence[bytes], lane: str) -> bytes:
    from trunkline_protos.v1 import common_pb2, embedding_pb2

    request = embedding_pb2.EmbedRequest(
        model=network, images=[common_pb2.Image(encoded=data) for data in group]
    )
    request.lane = common_pb2.Lane.Value(f"LANE_{lane.upper()}")
    return request.SerializeToString()


def _infer(network: str, group: Sequence[bytes], lane: str) -> bytes:
    from trunkline_protos.open_inference import inference_pb2

    request = inference_pb2.ModelInferRequest(model_name=network)
    request.parameters["lane"].string_param = lane
    request.inputs.add(name="image", datatype="BYTES", shape=[len(group)])
    request.raw_input_contents.append(b"".join(struct.pack("<I", len(data)) + data for data in group))
    return request.SerializeToString()


def written(requests: Iterable[bytes], file: Path) -> Path:
    """For the load generator: the length before each."""
    file.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in requests))
    return file
