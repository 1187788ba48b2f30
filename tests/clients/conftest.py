"""A small real server on loopback, and one way to call it from both clients."""

# ruff: noqa: N802 - gRPC names the methods of a servicer.

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import hypothesis
import numpy as np
import pytest

import trunkline
from trunkline._options import Rim
from trunkline_protos.v1 import (
    collections_pb2,
    collections_pb2_grpc,
    common_pb2,
    embedding_pb2,
    embedding_pb2_grpc,
    heads_pb2,
    heads_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)

DIM = 8
ITERATORS = ("embed_iter", "scan")
SPACE = "sp1-" + "0" * 32
# Examples share the machine with other work: a slow one is no failure.
hypothesis.settings.register_profile("clients", deadline=None)
hypothesis.settings.load_profile("clients")

# So that a broken client fails a test rather than hanging it; no test waits for it to pass.
PATIENCE_S = 30.0


def vector_of(content: bytes) -> np.ndarray[Any, Any]:
    """What the fake model makes of an image: numbers that tell contents apart, exact in float16."""
    digest = hashlib.sha256(content).digest()[:DIM]
    return np.frombuffer(digest, dtype=np.uint8).astype(np.float32)


def content_of(image: common_pb2.Image) -> bytes:
    if image.WhichOneof("content") == "encoded":
        return image.encoded
    assert image.tensor.dtype == "uint8"
    assert len(image.tensor.data) == np.prod(image.tensor.shape)
    return b"tensor" + repr(list(image.tensor.shape)).encode() + image.tensor.data


@dataclass
class Refusal:
    code: grpc.StatusCode
    details: str = "refused"
    trailing: tuple[tuple[str, str], ...] = ()


@dataclass
class Fake:
    """What the server does, and what it saw. ``refusals`` are used up one a call of an item method."""

    max_message_bytes: int = 4 * 1024 * 1024
    max_images: int = 1024
    space_id: str = SPACE
    head_version: int = 1
    refusals: deque[Refusal] = field(default_factory=deque)
    refuse_infos: deque[Refusal] = field(default_factory=deque)
    refuse_models: Refusal | None = None
    # Contents whose request waits until the event is set.
    gates: dict[bytes, threading.Event] = field(default_factory=dict)
    # A content whose request ends in INTERNAL.
    breaks_on: bytes | None = None
    requests: list[Any] = field(default_factory=list)
    infos: int = 0
    running: int = 0
    most_running: int = 0
    ended: int = 0
    cancelled: int = 0
    rows: dict[tuple[str, str], common_pb2.Image] = field(default_factory=dict)
    # What Upsert brought: rows by id, and their vectors; one version a request.
    stored: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    version: int = 0
    # Used up one a scan, after its first batch.
    break_scans: deque[Refusal] = field(default_factory=deque)
    endless_scans: bool = False
    # Aliases of the one head, and what its fits do.
    head_aliases: dict[str, int] = field(default_factory=dict)
    # Whether a head answers by another version at each request, whichever it is asked for.
    restless_heads: bool = False
    endless_fits: bool = False
    headless_fits: bool = False
    report: str = '{"task": "single-label"}'
    # Used up one a fit, after its first messages.
    break_fits: deque[Refusal] = field(default_factory=deque)
    # Used up one a call that changes something, after it has.
    lose_answers: deque[Refusal] = field(default_factory=deque)
    # Whether hits have lists of labels.
    multi_label: bool = False
    target: str = ""
    peers: set[str] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, what: Callable[[Fake], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: what(self), PATIENCE_S), "the server never saw it"

    @contextlib.contextmanager
    def serving(self, request: Any, context: grpc.ServicerContext, contents: list[bytes]) -> Iterator[None]:
        answered = False

        def gone() -> None:
            with self._changed:
                if not answered:
                    self.cancelled += 1
                self._changed.notify_all()

        with self._changed:
            self.requests.append(request)
            self.peers.add(context.peer())
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            refusal = self.refusals.popleft() if self.refusals else None
            self._changed.notify_all()
        context.add_callback(gone)
        try:
            for content in contents:
                if (gate := self.gates.get(content)) is not None:
                    assert gate.wait(PATIENCE_S)
            if self.breaks_on in contents:
                refusal = Refusal(grpc.StatusCode.INTERNAL, "internal error")
            if refusal is not None:
                refuse(context, refusal)
            yield
        finally:
            with self._changed:
                answered = True
                self.running -= 1
                self.ended += 1
                self._changed.notify_all()

    def embed(self, contents: list[bytes]) -> tuple[np.ndarray[Any, Any], list[common_pb2.ItemError]]:
        matrix = np.zeros((len(contents), DIM), np.float32)
        errors = []
        for index, content in enumerate(contents):
            if content.startswith(b"bad"):
                matrix[index] = np.nan
                error = common_pb2.ItemError(index=index, code=3, reason="corrupt_image", message="damaged")
                errors.append(error)
            else:
                matrix[index] = vector_of(content)
        return matrix, errors

    def batch(self, ids: Any, with_embeddings: bool, kind: Any) -> collections_pb2.RowBatch:
        found = [self.stored[row_id] for row_id in ids]
        blank = np.full(DIM, np.nan, np.float32)
        vectors = [blank if row.status == "error" else vector for row, vector in found]
        matrix = np.array(vectors, np.float32).reshape(-1, DIM)
        return collections_pb2.RowBatch(
            rows=[row for row, _ in found],
            embeddings=packed(matrix, kind == common_pb2.FLOAT_TYPE_FLOAT16) if with_embeddings else None,
            collection="flowers",
            collection_version=self.version,
            space_id=self.space_id,
        )

    def model_ref(self) -> common_pb2.ModelRef:
        return common_pb2.ModelRef(
            name="fake", version=3, space_id=self.space_id, artifact_id="ar1-x", dim=DIM, decode="exact"
        )

    def model(self) -> models_pb2.Model:
        return models_pb2.Model(
            name="fake", version=3, space_id=self.space_id, dim=DIM, is_default=True, card_json='{"a": 1}'
        )


def refuse(context: grpc.ServicerContext, refusal: Refusal) -> None:
    context.set_trailing_metadata(refusal.trailing)
    context.abort(refusal.code, refusal.details)


def packed(matrix: np.ndarray[Any, Any], half: bool = False) -> common_pb2.Embeddings:
    return common_pb2.Embeddings(
        count=matrix.shape[0],
        dim=matrix.shape[1],
        type=common_pb2.FLOAT_TYPE_FLOAT16 if half else common_pb2.FLOAT_TYPE_FLOAT32,
        data=matrix.astype("<f2" if half else "<f4").tobytes(),
    )


def unpacked(message: common_pb2.Embeddings) -> np.ndarray[Any, Any]:
    half = message.type == common_pb2.FLOAT_TYPE_FLOAT16
    return np.frombuffer(message.data, "<f2" if half else "<f4").reshape(message.count, message.dim)


class Services(
    embedding_pb2_grpc.EmbeddingServicer,
    models_pb2_grpc.ModelsServicer,
    collections_pb2_grpc.CollectionsServicer,
    heads_pb2_grpc.HeadsServicer,
    search_pb2_grpc.SearchServicer,
):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def Embed(self, request, context):
        contents = [content_of(image) for image in request.images]
        with self.fake.serving(request, context, contents):
            if request.expect_space_id not in ("", self.fake.space_id):
                message = f"the model's space is {self.fake.space_id}, expected {request.expect_space_id}"
                mismatch = (("trunkline-reason", "space_mismatch"),)
                refuse(context, Refusal(grpc.StatusCode.FAILED_PRECONDITION, message, mismatch))
            matrix, errors = self.fake.embed(contents)
            return embedding_pb2.EmbedResponse(
                embeddings=packed(matrix, request.type == common_pb2.FLOAT_TYPE_FLOAT16),
                errors=errors,
                model=self.fake.model_ref(),
                timings=common_pb2.Timings(decode_ms=1, queue_ms=2, infer_ms=3),
            )

    def GetServerInfo(self, request, context):
        self.fake.infos += 1
        if self.fake.refuse_infos:
            refuse(context, self.fake.refuse_infos.popleft())
        return models_pb2.ServerInfo(
            version="0.1.0",
            max_message_bytes=self.fake.max_message_bytes,
            max_images_per_request=self.fake.max_images,
            device="cpu",
            decode="exact",
        )

    def GetModel(self, request, context):
        if self.fake.refuse_models is not None:
            refuse(context, self.fake.refuse_models)
        if request.model not in ("", "fake", "fake@3"):
            gone = (("trunkline-reason", "model_not_found"),)
            refuse(context, Refusal(grpc.StatusCode.NOT_FOUND, f"no model {request.model!r}", gone))
        return self.fake.model()

    def ListModels(self, request, context):
        return models_pb2.ListModelsResponse(models=[self.fake.model()])

    def Add(self, request, context):
        contents = [content_of(item.image) for item in request.items]
        with self.fake.serving(request, context, contents):
            _, errors = self.fake.embed(contents)
            ids = []
            for item, content in zip(request.items, contents, strict=True):
                ids.append(item.id or hashlib.sha256(content).hexdigest()[:32])
                self.fake.rows[request.collection, ids[-1]] = item
            return collections_pb2.AddResponse(
                ids=ids,
                errors=errors,
                model=self.fake.model_ref(),
                collection_version=len(self.fake.requests),
            )

    def ListCollections(self, request, context):
        return collections_pb2.ListCollectionsResponse(collections=[self.GetCollection(None, context)])

    def GetCollection(self, request, context):
        labels = [collections_pb2.LabelCount(label="rose", rows=2)]
        return collections_pb2.Collection(name="flowers", version=7, rows=3, labelled=2, labels=labels)

    def CreateCollection(self, request, context):
        with self.fake.serving(request, context, []):
            return collections_pb2.Collection(name=request.name, space_id=request.space_id, dim=request.dim)

    def Upsert(self, request, context):
        with self.fake.serving(request, context, []):
            matrix = unpacked(request.embeddings)
            for index, row in enumerate(request.rows):
                self.fake.stored[row.id] = (row, matrix[index] if len(matrix) else None)
            self.fake.version += 1
            return collections_pb2.UpsertResponse(collection_version=self.fake.version)

    def GetRows(self, request, context):
        with self.fake.serving(request, context, []):
            return self.fake.batch(request.ids, request.with_embeddings, request.type)

    def Scan(self, request, context):
        with self.fake.serving(request, context, []):
            ids = list(self.fake.stored)
            size = request.batch_size or 2
            while self.fake.endless_scans:
                yield self.fake.batch(ids, request.with_embeddings, request.type)
            for start in range(0, len(ids) or 1, size):
                if start and self.fake.break_scans:
                    refuse(context, self.fake.break_scans.popleft())
                yield self.fake.batch(ids[start : start + size], request.with_embeddings, request.type)

    def Relabel(self, request, context):
        with self.fake.serving(request, context, []):
            self.fake.version += 1
            rows = len(request.changes.values) or 7
            return collections_pb2.RelabelResponse(rows=rows, collection_version=self.fake.version)

    def DeleteRows(self, request, context):
        with self.fake.serving(request, context, []):
            self.fake.version += 1
            rows = len(request.ids.ids) or 7
            return collections_pb2.DeleteRowsResponse(rows=rows, collection_version=self.fake.version)

    def Purge(self, request, context):
        with self.fake.serving(request, context, []):
            return collections_pb2.PurgeResponse(rows=1, unowned_files=0 if request.exclusive else 2)

    def head(self, version: int, **values: Any) -> heads_pb2.Head:
        known = {"serving": self.fake.head_version, "versions": range(1, self.fake.head_version + 1)}
        return heads_pb2.Head(
            name="flowers",
            version=version,
            kind="logistic",
            task="single-label",
            classes=["a", "b"],
            accuracy=0.5,
            metric="accuracy",
            score=0.5,
            aliases=self.fake.head_aliases,
            **known | values,
        )

    def ListHeads(self, request, context):
        return heads_pb2.ListHeadsResponse(heads=[self.head(1)])

    def GetHead(self, request, context):
        with self.fake.serving(request, context, []):
            if request.head.partition("@")[0] != "flowers":
                gone = (("trunkline-reason", "head_not_found"),)
                refuse(context, Refusal(grpc.StatusCode.NOT_FOUND, f"no head {request.head!r}", gone))
            return self.head(int(request.head.partition("@")[2] or self.fake.head_version))

    def GetReport(self, request, context):
        with self.fake.serving(request, context, []):
            return heads_pb2.GetReportResponse(report_json=self.fake.report)

    def Suggest(self, request, context):
        with self.fake.serving(request, context, []):
            pairs = [heads_pb2.LabelProbability(label=label, probability=0.5) for label in ("a", "b")]
            rows = [
                heads_pb2.Suggestion(id=f"{rank}", source="s", margin=0.25, reason="why", likeliest=pairs)
                for rank in range(min(request.count, 3))
            ]
            return heads_pb2.SuggestResponse(
                head=heads_pb2.HeadRef(name=request.head, version=2, space_id=self.fake.space_id),
                collection=request.collection,
                collection_version=7,
                unlabelled=9,
                asked=5,
                suggestions=rows,
            )

    def Promote(self, request, context):
        with self.fake.serving(request, context, []):
            self.fake.head_version = request.version
            return self.head(request.version)

    def Rollback(self, request, context):
        with self.fake.serving(request, context, []):
            if request.serving_version in (0, self.fake.head_version):
                self.fake.head_version -= 1
            if self.fake.lose_answers:
                refuse(context, self.fake.lose_answers.popleft())
            return self.head(self.fake.head_version)

    def DeleteHead(self, request, context):
        with self.fake.serving(request, context, []):
            return heads_pb2.DeleteHeadResponse()

    def SetAlias(self, request, context):
        with self.fake.serving(request, context, []):
            self.fake.head_aliases[request.alias] = request.version
            return self.head(request.version)

    def DeleteAlias(self, request, context):
        with self.fake.serving(request, context, []):
            del self.fake.head_aliases[request.alias]
            return self.head(self.fake.head_version)

    def SetShadow(self, request, context):
        with self.fake.serving(request, context, []):
            return self.head(self.fake.head_version, shadow=request.version or None)

    def Fit(self, request, context):
        with self.fake.serving(request, context, []):
            for share in (0.0, 0.5):
                yield heads_pb2.FitProgress(stage="fitting", share=share)
            if self.fake.break_fits:
                refuse(context, self.fake.break_fits.popleft())
            while self.fake.endless_fits:
                yield heads_pb2.FitProgress(stage="fitting", share=0.5)
            if not self.fake.headless_fits:
                yield heads_pb2.FitProgress(share=1.0, head=self.head(1))

    def Migrate(self, request, context):
        with self.fake.serving(request, context, []):
            yield heads_pb2.MigrateProgress(stage="comparing", share=0.0)
            migration = heads_pb2.Migration(
                before=self.head(1), after=self.head(2), shared_rows=4, agreement=0.75, missing_rows=1
            )
            yield heads_pb2.MigrateProgress(share=1.0, migration=migration)

    def Predict(self, request, context):
        contents = [content_of(image) for image in request.images]
        with self.fake.serving(request, context, contents):
            errors: list[common_pb2.ItemError] = []
            matrix = unpacked(request.embeddings)
            if request.ids:
                matrix = np.array([[float(name)] for name in request.ids])
            if contents:
                matrix, errors = self.fake.embed(contents)
            neighbours = None
            if request.HasField("neighbours"):
                hits = [search_pb2.Hits(hits=[search_pb2.Hit(id=f"n{k}") for k in range(2)]) for _ in matrix]
                neighbours = search_pb2.SearchResponse(results=hits, collection_version=3, metric="cosine")
            return heads_pb2.PredictResponse(
                predictions=[self.prediction(head, matrix, request) for head in request.heads],
                errors=errors,
                embeddings=packed(matrix) if request.with_embeddings else None,
                neighbours=neighbours,
            )

    def prediction(self, head: str, matrix: Any, request: Any) -> heads_pb2.Prediction:
        """Heads by their name: "value" a regression, "odd" an anomaly head, "many" multi-label, else classes."""
        name, _, version = head.partition("@")
        total = matrix.sum(axis=1)
        first = np.where(np.isnan(total), np.nan, (total % 2 == 0) * 0.5 + 0.25)
        outputs, classes, task = np.stack([first, 1 - first], axis=1), ["even", "odd"], "single-label"
        if name == "value":
            outputs, classes, task = total[:, None], ["total"], "regression"
        elif name == "odd":
            outputs, classes, task = total[:, None], [], "anomaly"
        elif name == "many":
            task = "multi-label"
        space = SPACE if name == "elsewhere" else self.fake.space_id
        if self.fake.restless_heads:
            version = len(self.fake.requests)
        made = heads_pb2.Prediction(
            head=heads_pb2.HeadRef(name=name, version=int(version or self.fake.head_version), space_id=space),
            task=task,
            classes=classes,
        )
        if request.HasField("unknown"):
            made.distances.extend(total.tolist())
            far = np.flatnonzero(total % 2 == 1).tolist()
            made.unknown.extend(heads_pb2.UnknownItem(index=index, reason="far") for index in far)
        if request.top_k and task.endswith("label"):
            order = np.argsort(-outputs, axis=1)[:, : request.top_k]
            made.top.k = order.shape[1]
            made.top.classes.extend(order.ravel().tolist())
            made.top.probabilities.extend(np.take_along_axis(outputs, order, axis=1).ravel().tolist())
        else:
            made.outputs.CopyFrom(packed(outputs))
        return made

    def label(self, rank):
        if not self.fake.multi_label:
            return {"label": "rose" if rank == 0 else None}
        return {"labels": [common_pb2.Labels(labels=["rose", "red"]), common_pb2.Labels(), None][rank]}

    def Search(self, request, context):
        contents = [content_of(image) for image in request.images]
        with self.fake.serving(request, context, contents):
            _, errors = self.fake.embed(contents)
            names = list(request.ids) or [str(int(row[0])) for row in unpacked(request.embeddings)]
            if contents:
                names = [str(int(vector_of(content)[0])) for content in contents]
            failed = {error.index for error in errors}
            results = [
                search_pb2.Hits(
                    hits=[]
                    if query in failed
                    else [
                        search_pb2.Hit(
                            id=f"{name}-{rank}",
                            score=1 - rank / 4,
                            **self.label(rank),
                            source=f"{rank}.jpg",
                        )
                        for rank in range(request.k)
                    ]
                )
                for query, name in enumerate(names)
            ]
            return search_pb2.SearchResponse(
                results=results,
                errors=errors,
                collection_version=5,
                space_id=self.fake.space_id,
                metric="cosine",
            )


def start(fake: Fake, credentials: grpc.ServerCredentials | None = None) -> grpc.Server:
    """A server of the fake on a free port; its real message limit is the one that it reports."""
    server = grpc.server(
        ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", fake.max_message_bytes)]
    )
    services = Services(fake)
    embedding_pb2_grpc.add_EmbeddingServicer_to_server(services, server)
    models_pb2_grpc.add_ModelsServicer_to_server(services, server)
    collections_pb2_grpc.add_CollectionsServicer_to_server(services, server)
    heads_pb2_grpc.add_HeadsServicer_to_server(services, server)
    search_pb2_grpc.add_SearchServicer_to_server(services, server)
    where = "127.0.0.1:0"
    port = server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
    fake.target = f"127.0.0.1:{port}"
    server.start()
    return server


@pytest.fixture
def serve() -> Iterator[Callable[..., Fake]]:
    """``serve(max_message_bytes=..., ...)`` starts a server and gives its `Fake`."""
    servers = []

    def begin(credentials: grpc.ServerCredentials | None = None, **settings: Any) -> Fake:
        fake = Fake(**settings)
        servers.append((start(fake, credentials), fake))
        return fake

    yield begin
    for server, fake in servers:
        for gate in fake.gates.values():
            gate.set()
        server.stop(None).wait()


@pytest.fixture
def fake(serve: Callable[..., Fake]) -> Fake:
    return serve()


class FakeTime:
    """A clock that pauses alone move, and no chance: the jitter is always half of its ceiling."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    @property
    def rim(self) -> Rim:
        return Rim(clock=lambda: self.now, random=lambda: 0.5, wait=self._wait, sleep=self._sleep)

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.now += seconds
        return event.is_set()

    async def _sleep(self, seconds: float) -> None:
        self._wait(threading.Event(), seconds)


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


class Caller:
    """Calls a method of one of the two clients; results and errors must not depend on which."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(
        self, fake: Fake, method: str, *args: Any, client: dict[str, Any] | None = None, **named: Any
    ):
        """The result of a method; of an iterator, the list of its results, the first ``take`` of them.

        ``then`` is called at the end, also after an error, while the client is still open.
        """
        take, then = named.pop("take", None), named.pop("then", lambda: None)
        options = {"_rim": FakeTime().rim} | (client or {})
        if self.kind == "sync":
            return self._sync(fake.target, options, method, take, then, args, named)
        return asyncio.run(self._async(fake.target, options, method, take, then, args, named))

    def _sync(self, target, options, method, take, then, args, named):
        with trunkline.Client(target, **options) as client, contextlib.ExitStack() as stack:
            stack.callback(then)
            answer = getattr(client, method)(*args, **named)
            if method not in ITERATORS:
                return answer
            with contextlib.closing(answer):
                return list(itertools.islice(answer, take))

    async def _async(self, target, options, method, take, then, args, named):
        async with trunkline.AsyncClient(target, **options) as client, contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, then)
            answer = getattr(client, method)(*args, **named)
            if method not in ITERATORS:
                return await answer
            parts: list[Any] = []
            async with contextlib.aclosing(answer):
                while take is None or len(parts) < take:
                    try:
                        parts.append(await anext(answer))
                    except StopAsyncIteration:
                        break
            return parts


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Caller:
    """``call(fake, "embed", images, client={...options})``, once for each client."""
    return Caller(request.param)


@pytest.fixture
def refusal() -> type[Refusal]:
    """``refusal(code, details, trailing)``, to be put into ``fake.refusals``."""
    return Refusal


@pytest.fixture
def expected() -> Callable[[bytes], np.ndarray[Any, Any]]:
    return vector_of
