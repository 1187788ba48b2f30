"""The repository: which model a name stands for, and what is said of one that can't be used."""

from __future__ import annotations

import json

import pytest

from trunkline_service.errors import InvalidArgument, ModelFileError, ModelNotFound
from trunkline_service.models.repository import ModelRepository


def empty_bundle(tmp_path):
    (tmp_path / "none").mkdir(exist_ok=True)
    return tmp_path / "none"


def test_newest_version_unless_one_is_named(root, publish_tiny):
    for _ in range(11):
        publish_tiny(root)
    repository = ModelRepository(root)
    assert repository.resolve("tiny").card.version == 11
    assert repository.resolve("tiny@2").path == root / "tiny" / "2"


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


def test_errors_name_no_path_of_the_server(root, publish_tiny):
    folder = publish_tiny(root)
    (folder.path / "card.json").unlink()
    with pytest.raises(ModelFileError) as caught:
        ModelRepository(root).resolve("tiny")
    assert str(root) not in str(caught.value)
