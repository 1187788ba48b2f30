"""A server of several processes, as a user starts it: the same answers, and what happens when one is killed."""

from __future__ import annotations

import os
import re
import select
import signal
import threading
import urllib.request
from concurrent import futures

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import trunkline
from trunkline_protos.v1 import (
    collections_pb2,
    collections_pb2_grpc,
    common_pb2,
    embedding_pb2,
    embedding_pb2_grpc,
)

RNG = np.random.default_rng(11)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
FRONTS = 2
PATIENCE_S = 60
RESULTS = ("hit", "joined", "miss")
ARGUMENTS = (
    "--models",
    "models",
    "--data",
    "data",
    "--default-model",
    "tiny",
    "--metrics-listen",
    "127.0.0.1:0",
)


def solid(value, size=32):
    return np.full((size, size, 3), value, np.uint8)


@pytest.fixture(scope="module")
def home(tmp_path_factory, publish_tiny):
    made = tmp_path_factory.mktemp("home")
    publish_tiny(made / "models")
    return made


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """Where servers make their private folders; the path must be short."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture(scope="module")
def serve(home, private, start_server):
    """``with serve(): ...`` is a server of two fronts."""

    def start(*arguments):
        environment = {**os.environ, "TMPDIR": str(private)}
        return start_server(home, *ARGUMENTS, "--frontends", str(FRONTS), *arguments, environment=environment)

    return start


@pytest.fixture
def server(serve):
    """One that the test may kill."""
    with serve() as started:
        yield started


@pytest.fixture(scope="module")
def calm(home, private, start_server):
    """One for all tests that do it no harm."""
    folder = private / "calm"
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    arguments = (*ARGUMENTS, "--data", "calm", "--frontends", str(FRONTS))
    with start_server(home, *arguments, environment=environment) as started:
        yield started


def processes(server):
    """Pids by part, as a list of processes shows them."""
    found = {}
    for child in psutil.Process(server.process.pid).children():
        *_, module, part, _descriptor = child.cmdline()
        assert module == "trunkline_service.server.processes.child"
        found[part] = child.pid
    return found


def page_of(server):
    with urllib.request.urlopen(server.line.rpartition("metrics on ")[2].strip()) as response:
        return response.read().decode()


def metric(server, name):
    """The value of one line of the page; 0 where it is not there yet."""
    lines = (line.rpartition(" ") for line in page_of(server).splitlines())
    return next((float(value) for found, _, value in lines if found == name), 0.0)


def request_of(*images):
    return embedding_pb2.EmbedRequest(
        images=[
            common_pb2.Image(tensor=common_pb2.Tensor(dtype="uint8", shape=image.shape, data=image.tobytes()))
            for image in images
        ]
    )


def channel_to(server):
    """A connection of its own."""
    return grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])


def ended(pid):
    """Waits until a process that is nobody's child here has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], PATIENCE_S)[0])
    finally:
        os.close(handle)


def names_of(page):
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in page.splitlines() if not line.startswith("#")}


def answers(server):
    """What a client sees of a server: vectors, errors, rows, neighbours, labels, listings."""
    pixels = RNG.permutation(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3))
    images = [solid(3), pixels, b"text", solid(9, 50)]
    with trunkline.Client(server.address, channels=4) as client:
        embedded = client.embed(images)
        added = client.add("c", [solid(v) for v in (1, 60, 200)], labels=["a", "b", "c"], ids=["1", "2", "3"])
        found = client.search("c", images=[solid(61)], k=2)
        with pytest.raises(trunkline.NotFound) as unknown:
            client.search("nothing", images=[solid(1)])
        with pytest.raises(trunkline.SpaceMismatch) as mismatch:
            client.embed([solid(1)], expect_space="sp1-" + "0" * 32)
        return {
            "vectors": embedded.vectors[[0, 3]].tolist(),
            "errors": [(each.index, each.reason, each.message) for each in embedded.errors],
            "space": embedded.space_id,
            "ids": added.ids,
            "found": (found.ids, np.round(found.scores, 5).tolist(), found.labels),
            "unknown": (unknown.value.reason, str(unknown.value)),
            "mismatch": (mismatch.value.reason, str(mismatch.value)),
            "models": [(model.name, model.loaded, model.is_default) for model in client.models()],
            "rows": client.collection("c").rows,
        }


def test_one_process_and_several_give_the_same_answers_and_the_same_metrics(home, serve, start_server):
    with start_server(home, *ARGUMENTS) as one:
        expected = answers(one)
        names = names_of(page_of(one))
    with serve("--data", "others") as several:
        assert answers(several) == expected
        assert (
            names_of(page_of(several)) - names
            == {
                "trunkline_processes",
                "trunkline_restarts_total",
            }
            | {name for name in names_of(page_of(several)) if name.endswith("_created")} - names
        )
        assert names <= names_of(page_of(several))


def test_a_stream_passes_through_whole(calm):
    with trunkline.Client(calm.address) as client:
        client.add("rows", [solid(value) for value in range(20)], ids=[f"{value:02}" for value in range(20)])
    with channel_to(calm) as channel:
        scan = collections_pb2_grpc.CollectionsStub(channel).Scan
        replies = list(scan(collections_pb2.ScanRequest(collection="rows", batch_size=3)))
    assert len(replies) >= 7
    assert sorted(row.id for reply in replies for row in reply.rows) == [f"{value:02}" for value in range(20)]


def test_the_cache_is_one_for_all_fronts(serve):
    with serve("--cache-mb", "8") as server:
        for _ in range(12):
            # Each connection may be another front's.
            with channel_to(server) as channel:
                reply = embedding_pb2_grpc.EmbeddingStub(channel).Embed(request_of(solid(7)))
            assert np.frombuffer(reply.embeddings.data, "<f4")[0] == 7
        looked_up = {
            result: metric(server, f'trunkline_cache_images_total{{result="{result}"}}') for result in RESULTS
        }
        assert looked_up == {"hit": 11, "joined": 0, "miss": 1}
        assert metric(server, "trunkline_cache_entries") == 1


def test_each_call_is_counted_once_wherever_it_is_answered(calm):
    methods = ("Embedding/Embed", "Collections/ListCollections")
    lines = [f'trunkline_calls_total{{code="OK",method="/trunkline.v1.{method}"}}' for method in methods]
    before = [metric(calm, line) for line in lines]
    with trunkline.Client(calm.address) as client:
        client.embed([solid(1)])
        client.collections()
    assert [metric(calm, line) for line in lines] == [count + 1 for count in before]


def test_health_and_reflection(calm):
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    for _ in range(8):
        # Each connection may be another front's.
        with channel_to(calm) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in (
                "",
                "trunkline.v1.Embedding",
                "trunkline.v1.Search",
                "inference.GRPCInferenceService",
            ):
                assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
            listing = reflection_pb2.ServerReflectionRequest(list_services="")
            (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([listing])
            )
            names = {service.name for service in answer.list_services_response.service}
            assert {"trunkline.v1.Embedding", "trunkline.v1.Collections", "grpc.health.v1.Health"} <= names


class Load:
    """Callers that go on calling, each over a connection of its own; every call's status is kept."""

    def __init__(self, server, callers=8):
        self._server = server
        self._stopping = threading.Event()
        self._pool = futures.ThreadPoolExecutor(callers)
        self._codes = [self._pool.submit(self._call, number) for number in range(callers)]

    def _call(self, number):
        codes, wrong = [], []
        request = request_of(solid(number))
        with channel_to(self._server) as channel:
            embed = embedding_pb2_grpc.EmbeddingStub(channel).Embed
            while not self._stopping.is_set():
                try:
                    reply = embed(request, timeout=PATIENCE_S)
                except grpc.RpcError as exc:
                    codes.append((exc.code(), exc.details()))
                else:
                    codes.append((grpc.StatusCode.OK, ""))
                    vector = np.frombuffer(reply.embeddings.data, "<f4")
                    if reply.errors or vector[0] != number:
                        wrong.append((reply.errors, vector[0]))
        return codes, wrong

    def end(self):
        """The statuses of every caller; each vector was the caller's own."""
        self._stopping.set()
        found = [future.result(PATIENCE_S) for future in self._codes]
        self._pool.shutdown()
        assert [wrong for _, wrong in found if wrong] == []
        return [codes for codes, _ in found]


@pytest.mark.parametrize("part", ["device", "data", "front-0"])
def test_one_that_is_killed_under_load_costs_what_was_under_way_there(server, private, part):
    load = Load(server)
    before = processes(server)
    while metric(server, 'trunkline_calls_total{code="OK",method="/trunkline.v1.Embedding/Embed"}') < 50:
        pass
    os.kill(before[part], signal.SIGKILL)
    assert ended(before[part])
    role = part.partition("-")[0]
    while metric(server, f'trunkline_restarts_total{{role="{role}"}}') < 1:
        pass
    while (
        metric(server, "trunkline_ready") != 1 or metric(server, f'trunkline_processes{{role="{role}"}}') < 1
    ):
        pass
    while metric(server, 'trunkline_processes{role="front"}') != FRONTS:
        pass
    callers = load.end()
    after = processes(server)
    assert {name for name, pid in after.items() if before[name] != pid} == {part}
    failed = [code for codes in callers for code in codes if code[0] is not grpc.StatusCode.OK]
    assert {code for code, _ in failed} <= {grpc.StatusCode.UNAVAILABLE}, failed
    if part == "data":
        assert failed == []
    # It serves again, all of it.
    with trunkline.Client(server.address) as client:
        assert client.embed([solid(5)]).vectors[0, 0] == 5
        assert client.add("again", [solid(5)]).errors == []
    assert server.terminate() == 0
    assert list(private.glob("trunkline-serve-*")) == []
    assert all(ended(pid) for pid in after.values())


def test_health_says_which_services_a_dead_part_takes_with_it(server):
    with channel_to(server) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        names = ("", "trunkline.v1.Embedding", "trunkline.v1.Search")
        streams = {name: watch(health_pb2.HealthCheckRequest(service=name)) for name in names}
        assert [next(stream).status for stream in streams.values()] == [SERVING] * 3
        os.kill(processes(server)["data"], signal.SIGKILL)
        for name in ("", "trunkline.v1.Search"):
            assert next(streams[name]).status == NOT_SERVING
            assert next(streams[name]).status == SERVING
        os.kill(processes(server)["device"], signal.SIGKILL)
        for name in ("", "trunkline.v1.Embedding"):
            assert next(streams[name]).status == NOT_SERVING
            assert next(streams[name]).status == SERVING
        for stream in streams.values():
            stream.cancel()


def test_all_killed_at_once_leave_nothing_that_keeps_the_next_from_starting(server, serve, private):
    pids = processes(server)
    for pid in (server.process.pid, *pids.values()):
        os.kill(pid, signal.SIGKILL)
    server.process.wait()
    assert all(ended(pid) for pid in pids.values())
    with serve("--listen", server.address) as again:
        assert again.address == server.address
        assert len(list(private.glob("trunkline-serve-*"))) == 1
        with trunkline.Client(again.address) as client:
            assert client.embed([solid(5)]).vectors[0, 0] == 5


def test_sigterm_finishes_what_is_queued(server, png):
    # Much work in few bytes.
    large = common_pb2.Image(encoded=png(solid(4, 4000)))
    request = embedding_pb2.EmbedRequest(images=[large] * 5)
    with channel_to(server) as channel:
        embed = embedding_pb2_grpc.EmbeddingStub(channel).Embed
        calls = [embed.future(request) for _ in range(4)]
        while metric(server, "trunkline_admitted_images") == 0:
            assert not all(call.done() for call in calls)
        server.process.send_signal(signal.SIGTERM)
        codes = {call.code() for call in calls}
        served = [call.result() for call in calls if call.code() is grpc.StatusCode.OK]
    assert server.process.wait(PATIENCE_S) == 0
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert served
    assert all(reply.embeddings.count == 5 and not reply.errors for reply in served)


def test_tls(serve, pem):
    key, certificate = pem
    with serve("--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        trusted = trunkline.TLS(root_certificates=certificate.read_bytes())
        with trunkline.Client(server.address, tls=trusted) as client:
            assert client.embed([solid(9)]).vectors[0, 0] == 9
            assert client.add("secret", [solid(9)]).errors == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--default-model", "absent"], "no model 'absent'"),
        (["--device", "tpu"], "device 'tpu'"),
        (["--listen", "0.0.0.0:0"], "--insecure"),
    ],
)
def test_a_server_that_can_not_start_says_why_once(home, private, cli, arguments, words):
    defaults = ["--listen", "127.0.0.1:0", "--default-model", "tiny"]
    environment = {**os.environ, "TMPDIR": str(private)}
    done = cli(
        "serve", "--models", "models", "--frontends", "2", *defaults, *arguments, cwd=home, env=environment
    )
    assert done.returncode == 1
    assert done.stderr.count(words) == 1
    assert "Traceback" not in done.stderr
    assert list(private.glob("trunkline-serve-*")) == []
