"""Live models: loaded once, replaced by new versions, never by broken ones."""

from __future__ import annotations

import json
import os
import threading

import pytest

from trunkline_service.errors import ModelFileError
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.registry import LiveModels
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession


def test_live_models_load_once_and_find_new_versions(root, publish_tiny):
    publish_tiny(root)
    opened = []

    def open_session(folder):
        opened.append(folder.card.reference)
        return ModelSession(folder, Device("cpu"), ExecutionPlan(1, 1, 16))

    live = LiveModels(ModelRepository(root), open_session, "tiny")
    threads = [threading.Thread(target=live.get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["tiny@1"]
    publish_tiny(root)
    # The new version is loaded aside; callers are served by the old one until it is warm.
    while live.get().card.version == 1:
        assert len(opened) <= 2
    assert live.loaded() == ["tiny@1", "tiny@2"]
    assert live.get("tiny@1").card.version == 1


def test_the_folder_is_looked_at_again_after_a_moment_not_at_every_call(root, publish_tiny, monkeypatch):
    repository = ModelRepository(root)
    looks, stamp = [], repository.stamp
    monkeypatch.setattr(repository, "stamp", lambda name: looks.append(name) or stamp(name))
    now = [100.0]
    live = LiveModels(
        repository,
        lambda found: ModelSession(found, Device("cpu"), ExecutionPlan(1, 1, 16)),
        "tiny",
        clock=lambda: now[0],
    )
    publish_tiny(root)
    # Of a folder that has just been changed nothing is remembered.
    live.get()
    live.get()
    assert len(looks) == 2
    os.utime(root / "tiny", (1e9, 1e9))
    live.get()
    assert len(looks) == 3
    now[0] += 0.019
    live.get()
    assert len(looks) == 3
    now[0] += 0.002
    live.get()
    assert len(looks) == 4
    publish_tiny(root)
    now[0] += 0.019
    assert live.get().card.version == 1
    assert len(looks) == 4
    now[0] += 0.002
    while live.get().card.version == 1:
        assert len(looks) > 4


def test_a_new_version_that_is_broken_changes_nothing_for_callers(root, publish_tiny):
    publish_tiny(root)
    tried = threading.Event()

    def open_session(folder):
        try:
            return ModelSession(folder, Device("cpu"), ExecutionPlan(1, 1, 16))
        finally:
            if folder.card.version == 2:
                tried.set()

    live = LiveModels(ModelRepository(root), open_session, "tiny")
    live.get()
    publish_tiny(root).onnx.write_bytes(b"damaged")
    assert live.get().card.version == 1
    assert tried.wait(30)
    assert live.get().card.version == 1
    with pytest.raises(ModelFileError, match="does not match"):
        live.get("tiny@2")


def test_a_folder_that_came_again_with_another_resize_rule_is_another_model(root, publish_tiny):
    folder = publish_tiny(root)
    live = LiveModels(
        ModelRepository(root),
        lambda found: ModelSession(found, Device("cpu"), ExecutionPlan(1, 1, 16)),
        "tiny",
    )
    live.get("tiny@1")
    card = json.loads((folder.path / "card.json").read_text())
    card["preprocess"]["interpolation"] = "nearest"
    card["space_id"] = "sp1-other"
    (folder.path / "card.json").write_text(json.dumps(card))
    found = live.get("tiny@1").card
    assert (found.space_id, found.preprocess.interpolation) == ("sp1-other", "nearest")
