"""A real server process: bad input, many callers, drain, health, reflection, metrics, TLS."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import urllib.request
import zlib

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import trunkline
from trunkline_protos.v1 import common_pb2, embedding_pb2, embedding_pb2_grpc

RNG = np.random.default_rng(7)


def solid(value, size=32):
    return np.full((size, size, 3), value, np.uint8)


@pytest.fixture(scope="module")
def client(tiny_server):
    with trunkline.Client(tiny_server.address) as opened:
        yield opened


def bomb():
    """A PNG header that claims 100,000 x 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def truncated_jpeg():
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (128, 128, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()[:-2000]


BAD_IMAGES = {
    "empty": (b"", "empty_image", "no bytes"),
    "text": (b"hello, this is a letter", "unsupported_image", "JPEG"),
    "truncated_jpeg": (truncated_jpeg(), "truncated_image", "end"),
    "png_bomb": (bomb(), "image_too_large", "100,?000"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported_image", "EPS|PostScript"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_image", "SVG"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_named_and_its_batch_mates_are_served(client, png, name):
    data, reason, words = BAD_IMAGES[name]
    result = client.embed([png(solid(10)), data, solid(20)])
    (failure,) = result.errors
    assert (failure.index, failure.reason) == (1, reason)
    assert re.search(words, failure.message), failure.message
    assert list(result.ok) == [True, False, True]
    assert [row[0] for row in result.vectors[[0, 2]]] == [10, 20]
    assert np.isnan(result.vectors[1]).all()


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("uint8", [0, 5, 3], 0),
        ("float32", [4, 4, 3], 192),
        ("uint8", [4, 4, 3], 47),
        ("uint8", [4, 4], 16),
        ("uint8", [1 << 40, 1 << 40, 3], 9),
        ("uint8", [-1, -1, 3], 3),
        ("object", [1], 8),
    ],
)
def test_a_bad_tensor_is_refused_by_the_server_itself(tiny_server, dtype, shape, size):
    """Over the bare protocol, since the client would notice first."""
    bad = common_pb2.Tensor(dtype=dtype, shape=shape, data=bytes(size))
    good = common_pb2.Tensor(dtype="uint8", shape=[32, 32, 3], data=solid(3).tobytes())
    with grpc.insecure_channel(tiny_server.address) as channel:
        reply = embedding_pb2_grpc.EmbeddingStub(channel).Embed(
            embedding_pb2.EmbedRequest(images=[common_pb2.Image(tensor=bad), common_pb2.Image(tensor=good)])
        )
    (error,) = reply.errors
    assert (error.index, error.code) == (0, grpc.StatusCode.INVALID_ARGUMENT.value[0])
    assert error.reason in {"invalid_tensor", "image_too_large"}
    vectors = np.frombuffer(reply.embeddings.data, "<f4").reshape(2, -1)
    assert np.isnan(vectors[0]).all()
    assert vectors[1, 0] == 3


def test_an_image_without_content_fails_alone(tiny_server):
    with grpc.insecure_channel(tiny_server.address) as channel:
        reply = embedding_pb2_grpc.EmbeddingStub(channel).Embed(
            embedding_pb2.EmbedRequest(images=[common_pb2.Image()])
        )
    assert reply.errors[0].reason == "empty_image"


def test_unknown_names(client):
    with pytest.raises(trunkline.NotFound, match="did you mean 'tiny'") as caught:
        client.embed([solid(1)], model="tinyy")
    assert caught.value.reason == "model_not_found"
    with pytest.raises(trunkline.NotFound, match="'nothing'"):
        client.search("nothing", images=[solid(1)])
    with pytest.raises(trunkline.NotFound, match="'nobody'"):
        client.predict([solid(1)], head="nobody")


def test_another_space_is_refused_naming_both_sides(client):
    client.add("mine", [solid(1), solid(200)], ids=["a", "b"])
    one = client.embed([solid(1)])
    other = client.embed([solid(1)], model="double")
    assert one.space_id != other.space_id
    for attempt in (
        lambda: client.add("mine", [solid(1)], model="double"),
        lambda: client.search("mine", vectors=other.vectors, space_id=other.space_id),
        lambda: client.embed([solid(1)], model="double", expect_space=one.space_id),
    ):
        with pytest.raises(trunkline.SpaceMismatch) as caught:
            attempt()
        assert one.space_id in str(caught.value)
        assert other.space_id in str(caught.value)


def test_a_head_of_another_space_is_refused_naming_both_sides(tiny_server, client, cli):
    home = tiny_server.stderr.parent
    shades = [solid(value) for value in (*range(10, 60, 5), *range(180, 230, 5))]
    # The tiny model's vectors of solid images all point one way; a stripe tells dark from light.
    for shade in shades:
        shade[: shade[0, 0, 0] // 8] = (0, 255, 0)
    labels = ["dark"] * 10 + ["light"] * 10
    client.add("shades", shades, labels=labels)
    done = cli("heads", "fit", "shades", "--name", "shade", cwd=home)
    assert done.returncode == 0, done.stderr
    assert client.predict(shades, head="shade").labels == labels
    other = client.embed([shades[0]], model="double")
    mine = client.embed([shades[0]])
    for attempt in (
        lambda: client.predict([shades[0]], head="shade", model="double"),
        lambda: client.predict(head="shade", vectors=other.vectors, space_id=other.space_id),
    ):
        with pytest.raises(trunkline.SpaceMismatch) as caught:
            attempt()
        assert mine.space_id in str(caught.value)
        assert other.space_id in str(caught.value)
    assert client.predict(head="shade", vectors=mine.vectors, space_id=mine.space_id).labels == ["dark"]


def test_a_file_that_is_no_model_is_refused_though_its_checksum_is_right(tiny_server, client, publish_tiny):
    root = tiny_server.stderr.parent / "models"
    folder = publish_tiny(root, name="junk")
    junk = b"these bytes are no ONNX graph"
    folder.onnx.write_bytes(junk)
    card = json.loads((folder.path / "card.json").read_text())
    card["artifact"]["sha256"] = hashlib.sha256(junk).hexdigest()
    (folder.path / "card.json").write_text(json.dumps(card))
    try:
        with pytest.raises(trunkline.FailedPrecondition, match="ONNX Runtime can't load") as caught:
            client.embed([solid(1)], model="junk")
        assert str(root) not in str(caught.value)
    finally:
        shutil.rmtree(root / "junk")


def test_a_message_over_the_limit_says_so(tmp_path, start_server, publish_tiny, png):
    publish_tiny(tmp_path / "models")
    environment = {**os.environ, "TRUNKLINE_MAX_MESSAGE_BYTES": "200000"}
    arguments = ("--models", "models", "--default-model", "tiny")
    with start_server(tmp_path, *arguments, environment=environment) as server:
        noise = png(RNG.integers(0, 256, (300, 300, 3), np.uint8))
        with trunkline.Client(server.address) as client:
            result = client.embed([solid(1), noise, solid(2)])
            assert [failure.index for failure in result.errors] == [1]
            assert result.errors[0].reason == "message_too_large"
            assert [row[0] for row in result.vectors[[0, 2]]] == [1, 2]
        with grpc.insecure_channel(server.address) as channel:
            stub = embedding_pb2_grpc.EmbeddingStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Embed(embedding_pb2.EmbedRequest(images=[common_pb2.Image(encoded=noise)]))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: folder.onnx.write_bytes(b"not a model file"), "does not match"),
        (lambda folder: (folder.path / "card.json").write_text("{}"), "schema version"),
        (lambda folder: (folder.path / "card.json").unlink(), "card.json"),
    ],
)
def test_a_damaged_model_is_refused_and_the_others_serve(tiny_server, client, publish_tiny, damage, words):
    root = tiny_server.stderr.parent / "models"
    folder = publish_tiny(root, name="damaged")
    damage(folder)
    try:
        with pytest.raises(trunkline.FailedPrecondition, match=words):
            client.embed([solid(1)], model="damaged")
        assert client.embed([solid(1)]).vectors[0, 0] == 1
        assert "damaged" not in {model.name for model in client.models()} or words == "does not match"
    finally:
        shutil.rmtree(root / "damaged")


def test_a_server_with_a_damaged_default_does_not_start(tmp_path, cli, publish_tiny):
    publish_tiny(tmp_path / "models").onnx.write_bytes(b"x")
    done = cli(
        "serve", "--models", "models", "--default-model", "tiny", "--listen", "127.0.0.1:0", cwd=tmp_path
    )
    assert done.returncode == 1
    assert "does not match" in done.stderr
    assert "Traceback" not in done.stderr


FORMS = ("PNG", "BMP", "WEBP", "TIFF", "GIF", "tensor")


def test_64_callers_2000_images_every_reply_belongs_to_its_caller(tiny_server, png):
    """Each image has a colour of its own, and the tiny model's vector says which."""
    colours = [(number % 200, number // 200 * 20, (number * 7) % 256) for number in range(2000)]
    sizes = (1, 3, 8, 17, 31)
    requests, start = [], 0
    while start < len(colours):
        size = sizes[len(requests) % len(sizes)]
        requests.append(range(start, min(start + size, len(colours))))
        start += size

    def image(number):
        side = (20, 32, 50)[number % 3]
        pixels = np.broadcast_to(np.array(colours[number], np.uint8), (side, side, 3)).copy()
        form = FORMS[number % len(FORMS)]
        return pixels if form == "tensor" else png(pixels, form)

    def call(numbers):
        vectors = client.embed([image(number) for number in numbers]).vectors
        return [(number, vector) for number, vector in zip(numbers, vectors, strict=True)]

    with (
        trunkline.Client(tiny_server.address, channels=8) as client,
        concurrent.futures.ThreadPoolExecutor(64) as callers,
    ):
        answers = [answer for reply in callers.map(call, requests) for answer in reply]
    assert [number for number, _ in answers] == list(range(2000))
    for number, vector in answers:
        np.testing.assert_allclose(vector.reshape(3, 16).mean(axis=1), colours[number], atol=0.01)


def test_one_image_alone_among_seven_among_sixty_four_of_a_call(client):
    pixels = RNG.integers(0, 256, (64, 32, 32, 3), np.uint8)
    alone = client.embed([pixels[0]]).vectors[0]
    for count in (7, 64):
        np.testing.assert_allclose(client.embed(list(pixels[:count])).vectors[0], alone, rtol=1e-5)


def test_health_reflection_and_metrics(tmp_path, start_server, publish_tiny, cli):
    publish_tiny(tmp_path / "models")
    arguments = ("--models", "models", "--default-model", "tiny", "--metrics-listen", "127.0.0.1:0")
    with start_server(tmp_path, *arguments) as server:
        with grpc.insecure_channel(server.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", "trunkline.v1.Embedding", "trunkline.v1.Search"):
                reply = health.Check(health_pb2.HealthCheckRequest(service=service))
                assert reply.status == health_pb2.HealthCheckResponse.SERVING
            from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

            listing = reflection_pb2.ServerReflectionRequest(list_services="")
            (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([listing])
            )
            names = {service.name for service in answer.list_services_response.service}
            assert {"trunkline.v1.Embedding", "trunkline.v1.Collections", "grpc.health.v1.Health"} <= names
        assert cli("health", "--server", server.address, cwd=tmp_path).returncode == 0
        with trunkline.Client(server.address) as client:
            client.embed([solid(1), b"text"])
        page = server.line.rpartition("metrics on ")[2].strip()
        with urllib.request.urlopen(page) as response:
            text = response.read().decode()
        assert 'trunkline_calls_total{code="OK",method="/trunkline.v1.Embedding/Embed"} 1.0' in text
        assert 'trunkline_image_errors_total{reason="unsupported_image"} 1.0' in text
        assert "trunkline_ready 1.0" in text
        assert 'trunkline_batch_images_bucket{le="1.0",model="tiny@1"}' in text
        assert server.terminate() == 0
    assert cli("health", "--server", server.address, cwd=tmp_path).returncode == 1


def metric(page, name):
    with urllib.request.urlopen(page) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " "))


def test_sigterm_finishes_what_is_queued_and_exits_with_0(tmp_path, start_server, publish_tiny):
    publish_tiny(tmp_path / "models")
    pixels = RNG.integers(0, 256, (2000, 2000, 3), np.uint8)
    tensor = common_pb2.Tensor(dtype="uint8", shape=pixels.shape, data=pixels.tobytes())
    request = embedding_pb2.EmbedRequest(images=[common_pb2.Image(tensor=tensor)] * 5)
    arguments = ("--models", "models", "--default-model", "tiny", "--metrics-listen", "127.0.0.1:0")
    with start_server(tmp_path, *arguments, "--threads", "1") as server:
        page = server.line.rpartition("metrics on ")[2].strip()
        with grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as channel:
            stub = embedding_pb2_grpc.EmbeddingStub(channel)
            calls = [stub.Embed.future(request) for _ in range(4)]
            while metric(page, "trunkline_admitted_images") == 0:
                assert not all(call.done() for call in calls)
            server.process.send_signal(signal.SIGTERM)
            # What was admitted is answered whole; what came too late is refused, and says so.
            codes = {call.code() for call in calls}
            served = [call.result() for call in calls if call.code() is grpc.StatusCode.OK]
        assert server.process.wait(60) == 0
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert served
    assert all(reply.embeddings.count == 5 and not reply.errors for reply in served)


def test_tls(tmp_path, start_server, publish_tiny):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; a certificate can't be made")
    publish_tiny(tmp_path / "models")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    subprocess.run(
        [*command, "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True,
        capture_output=True,
    )
    arguments = (
        "--models",
        "models",
        "--default-model",
        "tiny",
        "--tls-cert",
        "cert.pem",
        "--tls-key",
        "key.pem",
    )
    with start_server(tmp_path, *arguments) as server:
        certificate = (tmp_path / "cert.pem").read_bytes()
        with trunkline.Client(server.address, tls=trunkline.TLS(root_certificates=certificate)) as client:
            assert client.embed([solid(9)]).vectors[0, 0] == 9
        with (
            trunkline.Client(server.address, retries=0, timeout=5) as client,
            pytest.raises(trunkline.TrunklineError),
        ):
            client.embed([solid(9)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "0.0.0.0:0"], "--insecure"),
        (["--listen", "nonsense"], "HOST:PORT"),
        (["--device", "tpu"], "device 'tpu'"),
        (["--tls-cert", "x"], "--tls-key"),
        (["--default-model", "absent"], "no model 'absent'"),
    ],
)
def test_a_server_that_can_not_start_says_why(tmp_path, cli, arguments, words):
    done = cli(
        "serve",
        *(["--listen", "127.0.0.1:0"] if "--listen" not in arguments else []),
        *arguments,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_address_in_use_is_said(tiny_server, tmp_path, cli):
    done = cli("serve", "--listen", tiny_server.address, cwd=tmp_path)
    assert done.returncode == 1
    assert "another server" in done.stderr


def test_a_row_added_is_found_at_once_and_ids_are_stable(client):
    added = client.add("fresh", [solid(10), solid(250), b"text"], labels=["dark", "light", None])
    assert [failure.index for failure in added.errors] == [2]
    stripes = solid(0)
    stripes[:, ::2] = (255, 0, 0)
    again = client.add("fresh", [stripes], ids=["red"], labels=["red"])
    # What is not mentioned stays: an earlier label, and a good row where the new bytes are bad.
    client.add("fresh", [solid(10)])
    client.add("fresh", [b"text"], ids=["red"])
    assert client.search("fresh", ids=["red"], k=2).labels[0].count("dark") == 1
    assert again.version > added.version
    found = client.search("fresh", images=[stripes], k=1)
    assert (found.ids, found.labels) == ([["red"]], [["red"]])
    assert found.version >= again.version
    assert client.add("fresh", [solid(10)]).ids == added.ids[:1]
    info = client.collection("fresh")
    assert (info.rows, info.errors) == (3, 1)
    assert client.model("tiny").card["space_id"] == info.space_id
