"""A head as an ONNX file: what it computes, how it is written, what is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import os

import numpy as np
import onnxruntime
import pytest

from trunkline_service.errors import (
    InvalidArgument,
    ModelFileError,
    ModelNotFound,
    SpaceMismatch,
    StorageError,
)
from trunkline_service.heads.network import Linear, Network
from trunkline_service.images.inputs import EncodedImage, prepare
from trunkline_service.workspace.exporting import Tensor


@pytest.fixture
def head(workspace, store_rows):
    store_rows("shades")
    return workspace.fit_head("shades", "h", report=False)


@pytest.fixture
def photographs(png):
    """Not of the network's size, so that they are resized."""
    generator = np.random.default_rng(0)
    return [EncodedImage(png(generator.integers(0, 256, (90, 70 + i, 3), np.uint8))) for i in range(3)]


def opened(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def decoded(workspace, model, images):
    spec = workspace.repository.resolve(model).card.preprocess
    limits = workspace.settings.image
    return np.stack([prepare(image, spec, "exact", limits) for image in images])


def test_a_head_alone_takes_embeddings(workspace, head, tmp_path):
    path = tmp_path / "h.onnx"
    done = workspace.export_head("h", path)
    assert (done.card, done.model, done.path, done.bytes) == (head, None, path, path.stat().st_size)
    assert done.inputs == (Tensor("embedding", "float32", ("batch", 48)),)
    assert done.outputs[0] == Tensor("probabilities", "float32", ("batch", 2))
    rows = np.random.default_rng(0).normal(size=(4, 48)).astype(np.float32)
    expected = workspace.predict_vectors("h", rows, head.space_id)
    found = opened(path).run(["probabilities", "distance"], {"embedding": rows})
    np.testing.assert_allclose(found[0], expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(found[1], expected.predictions[0].distance, rtol=1e-5)
    metadata = opened(path).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["trunkline.classes"]) == ["dark", "light"]


@pytest.mark.parametrize("model", ["tiny", "trunkline-small"])
def test_a_fused_head_takes_images_and_says_what_the_service_says(
    workspace, photographs, tmp_path, constant, model
):
    card = workspace.repository.resolve(model).card
    generator = np.random.default_rng(0)
    weights = (generator.normal(size=(2, card.dim)) / (100 if model == "tiny" else 1)).astype(np.float32)
    changes = {"network": Network(Linear(weights, np.zeros(2, np.float32)), "softmax")}
    workspace.heads.save(constant(model=model, **changes), "h")
    path = tmp_path / "fused.onnx"
    done = workspace.export_head("h", path, fused=True)
    height, width = card.preprocess.input_size
    assert done.model == card
    assert done.inputs == (Tensor("image", "uint8", ("batch", height, width, 3)),)
    assert [tensor.name for tensor in done.outputs] == ["probabilities", "embedding"]
    expected = workspace.predict("h", photographs)
    inputs = {"image": decoded(workspace, model, photographs)}
    probabilities, embeddings = opened(path).run(["probabilities", "embedding"], inputs)
    assert np.ptp(expected.probabilities) > 0.1
    np.testing.assert_allclose(probabilities, expected.probabilities, rtol=0, atol=1e-5)
    np.testing.assert_allclose(embeddings, expected.vectors, rtol=1e-4, atol=1e-4)


def test_a_file_that_is_there_is_replaced_only_when_told(workspace, head, tmp_path):
    path = tmp_path / "h.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(InvalidArgument, match=r"is there already; .*--force"):
        workspace.export_head("h", path)
    assert path.read_bytes() == b"mine"
    workspace.export_head("h", path, replace=True)
    assert opened(path)
    for wrong in (tmp_path, tmp_path / "absent" / "h.onnx"):
        with pytest.raises(InvalidArgument, match="folder"):
            workspace.export_head("h", wrong, replace=True)


def test_a_full_disk_leaves_what_was_there(workspace, head, tmp_path, monkeypatch):
    path = tmp_path / "out" / "h.onnx"
    path.parent.mkdir()
    path.write_bytes(b"mine")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"h@1 can't be written .*No space left on device"):
        workspace.export_head("h", path, replace=True)
    assert [entry.name for entry in path.parent.iterdir()] == ["h.onnx"]
    assert path.read_bytes() == b"mine"


def test_a_head_that_cannot_be_fused_says_why(workspace, head, constant, tmp_path):
    path = tmp_path / "fused.onnx"
    for name, changes, error, words in (
        ("elsewhere", {"model": "gone@1"}, ModelNotFound, "no model 'gone'"),
        ("nobody", {"model": ""}, InvalidArgument, "no model of the repository made"),
        ("mixed", {"model": "double@1"}, SpaceMismatch, "fuse the head with the model"),
    ):
        workspace.heads.save(dataclasses.replace(constant(), **changes), name)
        with pytest.raises(error, match=words):
            workspace.export_head(name, path, fused=True)
    assert not path.exists()


def test_a_damaged_head_is_not_exported(workspace, head, tmp_path):
    (tmp_path / "data" / "heads" / "h" / "1" / "head.onnx").write_bytes(b"none")
    with pytest.raises(ModelFileError, match="its card says"):
        workspace.export_head("h", tmp_path / "h.onnx")
    assert not (tmp_path / "h.onnx").exists()
