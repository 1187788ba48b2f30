"""What the clients' tests ask instead of a server: it answers from a few rules, and remembers what it saw."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from trunkline_protos.v1 import collections_pb2, common_pb2, models_pb2, search_pb2

DIM = 8
SPACE = "sp1-" + "0" * 32
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
    # What replies to searches say beside the hits; used up one a search.
    told: deque[search_pb2.SearchResponse] = field(default_factory=deque)
    # As those of fits.
    endless_builds: bool = False
    indexless_builds: bool = False
    break_builds: deque[Refusal] = field(default_factory=deque)
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
