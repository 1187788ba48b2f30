"""The repository: resolving, publishing, what is broken, who publishes at once."""

from __future__ import annotations

import errno
import json
import threading

import pytest

from trunkline_service.errors import (
    InvalidArgument,
    ModelFileError,
    ModelNotFound,
    SettingsError,
    StorageError,
)
from trunkline_service.models import card as cards
from trunkline_service.models import repository as repository_module
from trunkline_service.models.registry import LiveModels
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession, parse_device


@pytest.fixture
def root(tmp_path):
    return tmp_path / "models"


def empty_bundle(tmp_path):
    (tmp_path / "none").mkdir(exist_ok=True)
    return tmp_path / "none"


def test_newest_version_unless_one_is_named(root, publish_tiny):
    for _ in range(11):
        publish_tiny(root)
    repository = ModelRepository(root)
    assert repository.resolve("tiny").card.version == 11
    assert repository.resolve("tiny@2").path == root / "tiny" / "2"


def test_a_published_folder_is_whole_and_its_card_reads_back(root, publish_tiny):
    folder = publish_tiny(root)
    assert {entry.name for entry in folder.path.iterdir()} == {"model.onnx", "card.json"}
    assert cards.loads((folder.path / "card.json").read_text(), "x") == folder.card
    folder.verify()
    config = (root / "tiny" / "config.pbtxt").read_text()
    assert 'name: "tiny"' in config
    assert "dims: [ 32, 32, 3 ]" in config


def test_unknown_names_and_versions_help(root, publish_tiny, tmp_path):
    publish_tiny(root)
    repository = ModelRepository(root, empty_bundle(tmp_path))
    with pytest.raises(ModelNotFound, match="did you mean 'tiny'"):
        repository.resolve("tinny")
    with pytest.raises(ModelNotFound, match="no version 7; it has 1"):
        repository.resolve("tiny@7")
    with pytest.raises(ModelNotFound, match="trunkline export"):
        ModelRepository(tmp_path / "absent", empty_bundle(tmp_path)).resolve("any")


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "../x", "a@0", "a@-1", "a@x", "a@1@2", "a@01", ".hidden", "a" * 101]
)
def test_names_that_are_paths_or_nonsense_are_refused(name, root):
    with pytest.raises(InvalidArgument):
        ModelRepository(root).resolve(name)


def test_publishers_of_one_name_at_once_get_a_version_each(root, publish_tiny):
    threads = [threading.Thread(target=publish_tiny, args=(root,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cards_found, problems = ModelRepository(root, root / "none").cards()
    assert [card.version for card in cards_found] == [1, 2, 3, 4, 5, 6]
    assert not problems


def test_a_publisher_that_was_killed_leaves_no_version_and_is_cleared(root, publish_tiny):
    publish_tiny(root)
    left_behind = root / "tiny" / ".publishing-dead"
    left_behind.mkdir()
    (left_behind / "model.onnx").write_bytes(b"half")
    assert ModelRepository(root).resolve("tiny").card.version == 1
    publish_tiny(root)
    assert not left_behind.exists()


def test_a_full_disk_publishes_nothing(root, publish_tiny, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(repository_module.shutil, "copyfile", full)
    with pytest.raises(StorageError, match="No space left"):
        publish_tiny(root)
    with pytest.raises(ModelNotFound):
        ModelRepository(root, root / "none").resolve("tiny")
    assert not list((root / "tiny").glob(".publishing-*"))


def test_another_shape_needs_another_name(root, publish_tiny):
    publish_tiny(root)
    with pytest.raises(ModelFileError, match="another --name"):
        publish_tiny(root, dim=7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(schema_version=99), "schema version 99"),
        (lambda card: card.update(surprise=1), "surprise"),
        (lambda card: card.pop("space_id"), "space_id"),
        (lambda card: card.update(dim="48"), "dim is '48'"),
        (lambda card: card.update(name="other"), "can't be renamed"),
        (lambda card: card["preprocess"].pop("mean"), "mean"),
        (lambda card: card["artifact"].update(bytes=True), "bytes"),
        (lambda card: card["batch"].update(sizes=5), "sizes"),
        (lambda card: card.update(tools=3), "tools"),
    ],
)
def test_a_card_that_is_wrong_says_what_is(root, publish_tiny, change, message):
    path = publish_tiny(root).path / "card.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ModelFileError, match=message):
        ModelRepository(root).resolve("tiny")


def test_one_broken_folder_does_not_hide_the_others(root, publish_tiny):
    publish_tiny(root, name="good")
    (publish_tiny(root, name="bad").path / "card.json").write_text("{")
    found, problems = ModelRepository(root, root / "none").cards()
    assert [card.name for card in found] == ["good"]
    assert "bad@1" in str(problems[0])


def test_a_file_that_is_no_model(root, publish_tiny):
    folder = publish_tiny(root)
    folder.onnx.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match="does not match"):
        ModelSession(folder, Device("cpu"), 1)


def test_a_card_of_other_shapes_than_its_graph(root, publish_tiny):
    folder = publish_tiny(root, dim=47)
    with pytest.raises(ModelFileError, match="promises the output"):
        ModelSession(folder, Device("cpu"), 1)


def test_cuda_that_is_not_there_is_an_error_and_no_silent_cpu(root, publish_tiny):
    if parse_device("auto").kind == "cuda":
        pytest.skip("this machine has an NVIDIA device")
    with pytest.raises(SettingsError, match="--device cpu"):
        ModelSession(publish_tiny(root), Device("cuda"), 1)


@pytest.mark.parametrize("text", ["gpu", "cuda:x", "cpu:0", "", "cuda:-1"])
def test_devices_that_do_not_exist(text):
    with pytest.raises(SettingsError):
        parse_device(text)


def test_live_models_load_once_and_find_new_versions(root, publish_tiny):
    publish_tiny(root)
    opened = []

    def open_session(folder):
        opened.append(folder.card.reference)
        return ModelSession(folder, Device("cpu"), 1)

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


def test_a_new_version_that_is_broken_changes_nothing_for_callers(root, publish_tiny):
    publish_tiny(root)
    tried = threading.Event()

    def open_session(folder):
        try:
            return ModelSession(folder, Device("cpu"), 1)
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
    live = LiveModels(ModelRepository(root), lambda found: ModelSession(found, Device("cpu"), 1), "tiny")
    live.get("tiny@1")
    card = json.loads((folder.path / "card.json").read_text())
    card["preprocess"]["interpolation"] = "nearest"
    card["space_id"] = "sp1-other"
    (folder.path / "card.json").write_text(json.dumps(card))
    found = live.get("tiny@1").card
    assert (found.space_id, found.preprocess.interpolation) == ("sp1-other", "nearest")


def test_errors_name_no_path_of_the_server(root, publish_tiny):
    folder = publish_tiny(root)
    (folder.path / "card.json").unlink()
    with pytest.raises(ModelFileError) as caught:
        ModelRepository(root).resolve("tiny")
    assert str(root) not in str(caught.value)
