"""What is special about heads in an object store: claims, visibility, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import HeadNotFound, StorageError
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.storage.objects import ObjectStore
from trunkline_service.heads.storage.recent import Recent
from trunkline_service.heads.storage.registry import HeadRegistry

Saying = Callable[..., FittedHead]


@pytest.fixture
def store(s3_data: str) -> ObjectStore:
    return ObjectStore(f"{s3_data}/heads", 1.0, lambda: 0.0, pause=lambda _: None)


def test_a_claim_without_a_card_is_no_version_and_keeps_its_number(
    store: ObjectStore, s3_data: str, saying: Saying
) -> None:
    registry = HeadRegistry(s3_data)
    registry.save(saying(1), "flowers")

    def killed(_: int) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.publish("flowers", 2, b"half", killed)
    assert registry.versions("flowers") == [1]
    with pytest.raises(HeadNotFound):
        registry.load("flowers@2")
    assert registry.save(saying(3), "flowers").version == 3
    assert registry.versions("flowers") == [1, 3]


def test_the_pointer_is_made_of_what_was_there_last(store: ObjectStore) -> None:
    seen: list[bytes | None] = []

    def change(before: bytes | None) -> bytes:
        seen.append(before)
        if len(seen) == 1:
            # Someone else is faster.
            store.update_pointer("flowers", lambda _: b"theirs")
        return (before or b"") + b" and ours"

    assert store.update_pointer("flowers", change) == b"theirs and ours"
    assert seen == [None, b"theirs"]
    assert store.pointer("flowers") == b"theirs and ours"


def test_a_write_whose_answer_was_lost_is_not_made_twice(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.update_pointer("flowers", lambda _: b"3")
    swap: Callable[..., bool] = store._swap
    monkeypatch.setattr(store, "_swap", lambda *given: swap(*given) and False)
    assert store.update_pointer("flowers", lambda before: str(int(before or b"0") - 1).encode()) == b"2"
    assert store.pointer("flowers") == b"2"


def test_an_end_is_made_where_others_keep_writing_first(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_swap", lambda *_: False)
    with pytest.raises(StorageError, match="others kept writing first"):
        store.update_pointer("flowers", lambda _: b"1")


def test_predicting_asks_the_store_once_in_a_while(s3_data: str, saying: Saying) -> None:
    now, asked = [0.0], []
    registry = HeadRegistry(s3_data, refresh_s=1.0, monotonic=lambda: now[0])
    HeadRegistry(s3_data).save(saying(1), "flowers")
    store: Any = registry._store
    get = store._get
    store._get = lambda *given: asked.append(given[0]) or get(*given)
    for _ in range(5):
        head = registry.load("flowers")
        head.probabilities(np.zeros((1, 3), np.float32), head.card.space_id)
    assert sorted(asked) == ["flowers/1/card.json", "flowers/1/head.onnx", "flowers/pointer.json"]
    now[0] = 1.0
    registry.load("flowers")
    assert asked[3:] == ["flowers/pointer.json"]


def test_names_that_nobody_has_do_not_gather(s3_data: str) -> None:
    registry = HeadRegistry(s3_data)
    for number in range(3):
        with pytest.raises(HeadNotFound):
            registry.load(f"nobody{number}")
    assert registry._store._pointers._entries == {}  # type: ignore[attr-defined]


def test_what_was_read_is_used_while_the_place_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    now, values = [0.0], [1]

    def read(key: str) -> int:
        if not values:
            raise StorageError("the network is down")
        return values[0]

    recent = Recent(read, 1.0, lambda: now[0])
    assert recent.get("a") == 1
    values[0] = 2
    assert recent.get("a") == 1
    now[0] = 1.0
    assert recent.get("a") == 2
    values.clear()
    now[0] = 2.5
    assert recent.get("a") == 2
    assert "the network is down; going on with what was read 2 s ago" in caplog.text
    with pytest.raises(StorageError):
        recent.get("b")


def test_what_is_gone_is_not_remembered() -> None:
    now = [0.0]
    values = {"a": 1}

    def read(key: str) -> int:
        try:
            return values[key]
        except KeyError as exc:
            raise HeadNotFound(key) from exc

    recent = Recent(read, 1.0, lambda: now[0])
    assert recent.get("a") == 1
    values.clear()
    now[0] = 1.0
    for _ in range(2):
        with pytest.raises(HeadNotFound):
            recent.get("a")
