"""Fixtures that every package's tests share."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.card import Artifact, BatchRecord, ModelCard, ParityRecord
from trunkline_service.models.identity import OutputSpec, artifact_id, file_sha256, space_id
from trunkline_service.models.repository import ModelFolder, ModelRepository

REPOSITORY = Path(__file__).resolve().parent.parent
TINY_SIZE = 32
TINY_CELLS = 4


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of this run, for its processes too: plans measured here stay here."""
    folder = tmp_path_factory.mktemp("user-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real weights and photographs; tests that need it skip where it is absent."""
    root = Path(os.environ.get("TRUNKLINE_ASSETS", REPOSITORY.parent / "shared" / "assets"))
    if not root.is_dir():
        pytest.skip("real weights and photographs are absent; set TRUNKLINE_ASSETS to their folder")
    return root


def tiny_preprocess() -> Preprocess:
    return Preprocess(
        resize="squash",
        resize_size=(TINY_SIZE, TINY_SIZE),
        interpolation="bilinear",
        crop_size=(TINY_SIZE, TINY_SIZE),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def tiny_onnx(path: Path, scale: float = 1.0, size: int = TINY_SIZE) -> Path:
    """A model whose vector says what the image was: the mean colours of 4 x 4 cells, times ``scale``."""
    import onnx
    from onnx import TensorProto, helper

    cell = size // TINY_CELLS
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["nchw"], ["cells"], kernel_shape=[cell, cell], strides=[cell, cell]),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3 * TINY_CELLS**2])],
        [helper.make_tensor("scale", TensorProto.FLOAT, [1], [scale])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def tiny_vector(pixels: np.ndarray[Any, np.dtype[np.uint8]], scale: float = 1.0) -> np.ndarray[Any, Any]:
    """What the tiny model gives for uint8 pixels of its size, [32, 32, 3] -> [48]."""
    cell = TINY_SIZE // TINY_CELLS
    cells = pixels.astype(np.float32).reshape(TINY_CELLS, cell, TINY_CELLS, cell, 3).mean(axis=(1, 3))
    return cells.transpose(2, 0, 1).reshape(-1) * np.float32(scale)


@pytest.fixture(scope="session")
def tiny_vector_of() -> Callable[..., np.ndarray[Any, Any]]:
    return tiny_vector


@pytest.fixture(scope="session")
def publish_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelFolder]:
    """Publishes the tiny model: ``publish_tiny(root, name="tiny", scale=1.0, **card_changes)``."""

    def publish(root: Path, name: str = "tiny", scale: float = 1.0, **changes: Any) -> ModelFolder:
        onnx = tiny_onnx(tmp_path_factory.mktemp("onnx") / "model.onnx", scale)
        digest = file_sha256(onnx)
        output = OutputSpec("cells", "avg")
        weights = {"scale": np.array([scale], np.float32)}

        def card(version: int) -> ModelCard:
            import dataclasses

            made = ModelCard(
                name=name,
                version=version,
                source="test:tiny",
                architecture="test/tiny",
                pretrained=True,
                weights="made by the test",
                license="Apache-2.0",
                parameters=1,
                dim=3 * TINY_CELLS**2,
                output=output,
                preprocess=tiny_preprocess(),
                conventions={},
                space_id=space_id(weights, "test/tiny", tiny_preprocess(), output),
                artifact=Artifact(artifact_id(digest, "fp32"), "fp32", digest, onnx.stat().st_size, 17),
                parity=ParityRecord("unverified", "none", 0, 0, 0, 0, 1.0, 1.0, 0.999, 1.0, 0.0, 0.01),
                batch=BatchRecord((1,), 1e-5, 0.0),
                created_at="2026-01-01T00:00:00+00:00",
                tools={},
            )
            return dataclasses.replace(made, **changes)

        return ModelRepository(root).publish(onnx, card)

    return publish


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """PNG bytes of uint8 pixels."""

    def encode(pixels: np.ndarray[Any, np.dtype[np.uint8]], form: str = "PNG") -> bytes:
        import io

        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, form, **({"lossless": True} if form == "WEBP" else {}))
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key, and a self-signed certificate of the name ``trunkline.test`` and of 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("making a certificate takes the openssl program")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = "subjectAltName=DNS:trunkline.test,IP:127.0.0.1"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=trunkline.test", "-addext", names),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3 in a process of its own, on loopback: its URL."""
    program = shutil.which(
        "moto_server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if program is None:
        pytest.skip("speaking S3 takes moto: pip install 'moto[server]'")
    process = subprocess.Popen(
        [program, "--host", "127.0.0.1", "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stderr)))
        # What it logs from now on is nobody's business, and must not fill the pipe.
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        yield found.group()
        process.kill()
        rest.join()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def s3_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Speaks S3 to moto, here and in processes that are started with this environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.fixture
def s3_bucket(s3_environment: dict[str, str]) -> str:
    """A new bucket of its own: ``s3://bucket-...``."""
    from pyarrow import fs

    name = f"bucket-{uuid.uuid4().hex[:12]}"
    store, _ = fs.FileSystem.from_uri(f"s3://{name}?allow_bucket_creation=true")
    store.create_dir(name)
    return f"s3://{name}"
