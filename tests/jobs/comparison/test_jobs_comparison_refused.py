"""Comparisons that are refused, and what is kept in the collections of those that are not."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.jobs.comparison.conftest import card

from trunkline_service.errors import (
    DecodeModeMismatch,
    FailedPrecondition,
    InvalidArgument,
    ModelFileError,
    ModelNotFound,
    NotEnoughData,
    SpaceMismatch,
)
from trunkline_service.jobs.comparison.run import compare
from trunkline_service.jobs.sources import FolderSource
from trunkline_service.workspace import Workspace


@pytest.mark.parametrize(
    ("models", "options", "error", "words"),
    [
        ([], {}, InvalidArgument, "no model is given"),
        (["tiny", "blind", "tiny"], {}, InvalidArgument, "'tiny' is given twice"),
        (["tiny", "blnd"], {}, ModelNotFound, "did you mean 'blind'"),
        (["tiny", "blind@7"], {}, ModelNotFound, "has no version 7"),
        (["tiny", "../x"], {}, InvalidArgument, "can't name a model"),
        (["tiny", ""], {}, InvalidArgument, "can't name a model"),
        (["tiny"], {"folds": 1}, InvalidArgument, "folds is 1"),
        (["tiny"], {"into": "a/b"}, InvalidArgument, "can't name a collection"),
        (["tiny"], {"into": "p" * 99}, InvalidArgument, "short enough"),
    ],
)
def test_what_can_not_be_compared_is_refused_before_anything_is_embedded(
    workspace, photos, models, options, error, words
):
    options = {"into": "photos", **options}
    with pytest.raises(error, match=words):
        compare(workspace, FolderSource(photos), models, options.pop("into"), **options)
    assert workspace.collections.names() == []
    assert workspace.models.loaded() == []


def test_a_model_that_can_not_be_loaded_is_refused_before_anything_is_embedded(workspace, photos):
    workspace.repository.resolve("blind").onnx.write_bytes(b"not what the card says")
    with pytest.raises(ModelFileError, match="blind@1"):
        compare(workspace, FolderSource(photos), ["tiny", "blind"], "photos")
    assert workspace.collections.names() == []


def test_too_few_labels_are_refused_before_anything_is_embedded(workspace, photos):
    night = sorted((photos / "night").iterdir())
    for path in night[1:]:
        path.unlink()
    with pytest.raises(NotEnoughData, match=r"this folder .*'day' \(20\), 'night' \(1\)"):
        compare(workspace, FolderSource(photos), ["tiny"], "photos")
    night[0].unlink()
    with pytest.raises(NotEnoughData, match=r"'day' \(20\)$"):
        compare(workspace, FolderSource(photos), ["tiny"], "photos")
    assert workspace.collections.names() == []


def test_two_models_never_share_a_collection(workspace, photos, publish_tiny):
    publish_tiny(Path(workspace.settings.models), name="tiny-v1", scale=5.0)
    with pytest.raises(InvalidArgument, match="would share the collection 'photos-tiny-v1'"):
        compare(workspace, FolderSource(photos), ["tiny@1", "tiny-v1"], "photos")


def test_a_collection_of_another_space_is_refused_and_the_way_out_works(workspace, photos):
    workspace.open_for("photos-tiny", "blind")
    with pytest.raises(SpaceMismatch, match=r"'photos-tiny' holds vectors of space .* --into photos-2"):
        compare(workspace, FolderSource(photos), ["double", "tiny"], "photos")
    assert workspace.collections.names() == ["photos-tiny"]
    assert compare(workspace, FolderSource(photos), ["double", "tiny"], "photos-2").rows == 40


def test_a_collection_of_another_decode_mode_is_refused(workspace, photos):
    compare(workspace, FolderSource(photos), ["tiny"], "photos")
    with (
        Workspace(dataclasses.replace(workspace.settings, decode="fast")) as fast,
        pytest.raises(DecodeModeMismatch, match="--into photos-2"),
    ):
        compare(fast, FolderSource(photos), ["tiny"], "photos")


def test_a_collection_of_another_file_of_the_space_is_refused(workspace, photos, publish_tiny):
    """Its vectors would be judged under the other's name, size and speed."""
    compare(workspace, FolderSource(photos), ["tiny"], "photos")
    space = card(workspace, "tiny").space_id
    publish_tiny(Path(workspace.settings.models), name="tiny", scale=1.0001, space_id=space)
    with pytest.raises(FailedPrecondition, match=r"made by tiny@1.* is now tiny@2.*--into photos-2"):
        compare(workspace, FolderSource(photos), ["tiny"], "photos")


def test_rows_that_vanish_meanwhile_end_the_comparison(workspace, photos):
    def delete(step):
        if step.stage == "embedding" and step.model == "blind@1":
            workspace.collections.open("photos-tiny").delete(["day/3.png", "day/4.png"])

    with pytest.raises(FailedPrecondition, match=r"'photos-tiny' lost rows .*'day/3.png' and 1 more"):
        compare(workspace, FolderSource(photos), ["tiny", "blind"], "photos", progress=delete)


def test_a_changed_file_is_embedded_again(workspace, photos, png):
    compare(workspace, FolderSource(photos), ["tiny"], "photos")
    changed = photos / "day" / "0.png"
    changed.write_bytes(png(np.full((32, 32, 3), 99, np.uint8)))
    os.utime(changed, (1, 1))
    (result,) = compare(workspace, FolderSource(photos), ["tiny"], "photos").results
    assert (result.embedded, result.unchanged) == (1, 39)


def test_another_folder_of_the_same_name_does_not_replace_what_is_kept(workspace, photos, tmp_path, png):
    compare(workspace, FolderSource(photos), ["tiny"], "photos")
    before = workspace.collections.open("photos-tiny").info().version
    other = tmp_path / "elsewhere" / "photos"
    shutil.copytree(photos, other)
    for number, path in enumerate(sorted(other.rglob("*.png"))):
        path.write_bytes(png(np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)))
    with pytest.raises(FailedPrecondition, match=r"holds 'day/0.png' from .*another file.*--into photos-2"):
        compare(workspace, FolderSource(other), ["tiny"], "photos")
    assert workspace.collections.open("photos-tiny").info().version == before
    # A folder that was moved as it is, is the same folder.
    moved = photos.rename(tmp_path / "moved")
    compare(workspace, FolderSource(moved), ["tiny"], "photos")
