"""NVIDIA's own client against a live server, in a process of its own, as its users run it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import trunkline

RNG = np.random.default_rng(11)

_CALLS = """
import json, sys, threading
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

address, folder = sys.argv[1:]
client = triton.InferenceServerClient(address)
images = [open(f"{folder}/{number}.png", "rb").read() for number in range(3)]
pixels = np.load(f"{folder}/pixels.npy")
said = {}

def of(array, datatype):
    tensor = triton.InferInput("image", list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return [tensor]

def vectors(result):
    reply = result.get_response()
    matrix = result.as_numpy("embedding")
    assert matrix.shape == (3, 48), matrix.shape
    return {
        "vectors": matrix.astype(float).tolist(), "dtype": matrix.dtype.name, "id": reply.id,
        "model": f"{reply.model_name}@{reply.model_version}",
        "space_id": reply.parameters["space_id"].string_param,
    }

blobs = np.array(images, dtype=np.object_)
said["live"] = [client.is_server_live(), client.is_server_ready(), client.is_model_ready("tiny"),
                client.is_model_ready("tiny", "1"), client.is_model_ready("tiny", "9")]
said["server"] = client.get_server_metadata(as_json=True)
said["metadata"] = client.get_model_metadata("tiny", as_json=True)
said["config"] = client.get_model_config("tiny", as_json=True)["config"]
said["index"] = client.get_model_repository_index(as_json=True)["models"]
said["bytes"] = vectors(client.infer("tiny", of(blobs, "BYTES"), request_id="one"))
said["column"] = vectors(client.infer("tiny", of(blobs.reshape(3, 1), "BYTES"), model_version="1"))
said["pixels"] = vectors(client.infer("tiny", of(pixels, "UINT8"), client_timeout=60, timeout=60_000_000))
said["half"] = vectors(client.infer(
    "tiny", of(pixels, "UINT8"), outputs=[triton.InferRequestedOutput("embedding")],
    parameters={"output_datatype": "FP16", "lane": "bulk"},
))
said["other"] = vectors(client.infer("double", of(blobs, "BYTES")))

done, answers = threading.Semaphore(0), {}
def finished(number, result, error):
    answers[number] = error or result
    done.release()
for number in range(8):
    callback = lambda result, error, number=number: finished(number, result, error)
    client.async_infer("tiny", of(blobs, "BYTES"), callback, request_id=str(number))
for _ in range(8):
    done.acquire()
said["async"] = [vectors(answers[number]) for number in range(8)]

def refused(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
bad = np.array([images[0], b"a letter"], dtype=np.object_)
said["bad"] = refused(lambda: client.infer("tiny", of(bad, "BYTES")))
said["unknown"] = refused(lambda: client.infer("tinyy", of(blobs, "BYTES")))
said["unserved"] = refused(lambda: client.get_inference_statistics("tiny"))
client.close()
json.dump(said, sys.stdout)
"""


@pytest.fixture(scope="module")
def pixels():
    return RNG.integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def said(tiny_server, tmp_path_factory, png, pixels):
    """What tritonclient answered to each of its calls."""
    folder = tmp_path_factory.mktemp("images")
    np.save(folder / "pixels.npy", pixels)
    for number, image in enumerate(pixels):
        (folder / f"{number}.png").write_bytes(png(image))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CALLS, tiny_server.address, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_the_server_says_of_itself(said):
    assert said["live"] == [True, True, True, True, False]
    assert said["server"]["name"] == "trunkline"
    metadata, config = said["metadata"], said["config"]
    assert (metadata["name"], metadata["versions"]) == ("tiny", ["1"])
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": ["-1", "32", "32", "3"]}]
    assert metadata["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": ["-1", "48"]}]
    assert config["input"][0]["data_type"] == "TYPE_UINT8"
    assert config["max_batch_size"] >= 16
    assert config["parameters"]["space_id"]["string_value"] == said["bytes"]["space_id"]
    index = {(model["name"], model["version"]): model["state"] for model in said["index"]}
    assert index.items() >= {(("tiny", "1"), "READY"), (("double", "1"), "READY")}


def test_its_vectors_are_those_of_our_own_client(said, tiny_server, pixels):
    with trunkline.Client(tiny_server.address) as client:
        ours = client.embed(list(pixels))
    for call in ("bytes", "column", "pixels"):
        # Batches differ, so equal within the bound and not to the bit.
        np.testing.assert_allclose(said[call]["vectors"], ours.vectors, rtol=1e-5)
        assert (said[call]["dtype"], said[call]["model"]) == ("float32", "tiny@1")
        assert said[call]["space_id"] == ours.space_id
    assert said["bytes"]["id"] == "one"
    np.testing.assert_allclose(said["half"]["vectors"], ours.vectors, rtol=2e-3)
    assert said["half"]["dtype"] == "float16"
    np.testing.assert_allclose(said["other"]["vectors"], 2 * ours.vectors, rtol=1e-5)
    assert said["other"]["space_id"] != ours.space_id


def test_calls_beside_each_other_come_back_to_their_callers(said):
    assert [answer["id"] for answer in said["async"]] == [str(number) for number in range(8)]
    for answer in said["async"]:
        np.testing.assert_allclose(answer["vectors"], said["bytes"]["vectors"], rtol=1e-5)


def test_what_fails_says_why(said):
    status, message = said["bad"]
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert "1 of 2 images" in message
    assert "image 1: " in message
    status, message = said["unknown"]
    assert status == "StatusCode.NOT_FOUND"
    assert "did you mean 'tiny'" in message
    assert said["unserved"][0] == "StatusCode.UNIMPLEMENTED"


def test_reflection_shows_the_service(tiny_server):
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
    ]
    with grpc.insecure_channel(tiny_server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listing, described = stub.ServerReflectionInfo(iter(asked))
    names = {service.name for service in listing.list_services_response.service}
    assert "inference.GRPCInferenceService" in names
    assert b"ModelInfer" in described.file_descriptor_response.file_descriptor_proto[0]


def test_the_example_of_the_page_runs(repository, tiny_server, tmp_path, png, pixels):
    page = (repository / "service" / "OPEN_INFERENCE.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for word, ours in (("localhost:50051", tiny_server.address), ('"deit"', '"tiny"')):
        assert word in example
        example = example.replace(word, ours)
    (tmp_path / "rose.jpg").write_bytes(png(pixels[0], "JPEG"))
    example += "print(vectors.dtype, vectors.shape, space_id)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", example],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert re.fullmatch(r"float16 \(1, 48\) sp1-\w+\n", done.stdout), done.stderr
