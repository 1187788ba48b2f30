"""Comparing models: names, the choice, the timing, what is refused, what is left out, what is kept."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from trunkline_service.errors import (
    CorruptImage,
    DecodeModeMismatch,
    FailedPrecondition,
    InvalidArgument,
    ModelFileError,
    ModelNotFound,
    NotEnoughData,
    Overloaded,
    SpaceMismatch,
    UnreadableFile,
)
from trunkline_service.jobs.comparison import run as compare_module
from trunkline_service.jobs.comparison.run import compare
from trunkline_service.jobs.comparison.speed import images_per_second, read_sample
from trunkline_service.jobs.sources import FolderSource
from trunkline_service.settings import QueueLimits, Settings
from trunkline_service.workspace import Workspace

# The timing -----------------------------------------------------------------------------------------------


class Ticks:
    """A clock that passes so many seconds between the two looks at it that make a pass."""

    def __init__(self, *passes):
        self._looks = iter(
            [*itertools.accumulate(itertools.chain.from_iterable((0, taken) for taken in passes))]
        )

    def __call__(self):
        return next(self._looks)


@pytest.fixture
def photos(tmp_path, png):
    """Forty images in two labels, of which brightness tells most."""
    root = tmp_path / "photos"
    rng = np.random.default_rng(7)
    for label, brightness in (("day", 150), ("night", 100)):
        (root / label).mkdir(parents=True)
        for number in range(20):
            value = int(np.clip(rng.normal(brightness, 20), 0, 255))
            pixels = rng.integers(max(0, value - 5), min(255, value + 5) + 1, (32, 32, 3), np.uint8)
            (root / label / f"{number}.png").write_bytes(png(pixels))
    return root


@pytest.fixture
def workspace(tmp_path, publish_tiny):
    """Models ``tiny`` and ``double``, which are worth the same, and ``blind``, which sees nothing."""
    for name, scale in (("tiny", 1.0), ("double", 2.0), ("blind", 0.0)):
        publish_tiny(tmp_path / "models", name=name, scale=scale)
    settings = Settings(
        models=str(tmp_path / "models"), data=str(tmp_path / "data"), default_model="tiny", threads=2
    )
    with Workspace(settings) as opened:
        yield opened


def listed(folder):
    return sorted(FolderSource(folder).items(), key=lambda item: item.id)


def card(workspace, name):
    return workspace.repository.resolve(name).card


def test_models_take_turns_and_the_median_round_after_the_first_counts(workspace, photos):
    images = read_sample(listed(photos), [card(workspace, "tiny")], workspace.settings.queue)
    done = []
    measured = images_per_second(
        workspace,
        ["tiny@1", "double@1"],
        images,
        # tiny, double, tiny, double, ...: 100 s of warming up, then rounds.
        Ticks(100, 100, 1, 10, 4, 40, 2, 20),
        pytest.fail,
        lambda *step: done.append(step),
    )
    assert measured == [len(images) / 2, len(images) / 20]
    assert done == [(number, 8) for number in range(1, 9)]


def test_a_full_queue_is_waited_for_and_the_wait_is_not_timed(workspace, photos, monkeypatch):
    images = read_sample(listed(photos), [card(workspace, "tiny")], workspace.settings.queue)
    real, waits = workspace.engine.embed, []

    def embed(*arguments):
        if not waits:
            raise Overloaded("full", retry_after_s=3.0)
        return real(*arguments)

    monkeypatch.setattr(workspace.engine, "embed", embed)
    # The refused attempt looks at the clock once.
    looks = iter([0, 50, 51, 51, 52, 52, 53, 53, 54])
    assert images_per_second(
        workspace, ["tiny@1"], images, lambda: next(looks), waits.append, lambda done, total: None
    ) == [len(images)]
    assert waits == [3.0]


def test_a_sample_is_spread_over_the_folder_and_fits_the_queue(workspace, photos):
    cards = [card(workspace, "tiny")]
    items = listed(photos)
    few = read_sample(items, cards, QueueLimits(max_images=8))
    assert [image.data for image in few] == [Path(item.source).read_bytes() for item in items[::10]]
    # An image waits in the queue decoded, 32 x 32 x 3 bytes, or as it came, whichever is more.
    cost = max(32 * 32 * 3, *(item.size for item in items))
    assert len(read_sample(items, cards, QueueLimits(max_bytes=6 * cost))) == 3
    assert len(read_sample(items, cards, QueueLimits(max_bytes=1))) == 1


def test_a_sample_does_without_files_that_are_gone(workspace, photos):
    items = listed(photos)
    for item in items[1:]:
        Path(item.source).unlink()
    cards = [card(workspace, "tiny")]
    assert len(read_sample(items, cards, QueueLimits())) == 1
    Path(items[0].source).unlink()
    with pytest.raises(UnreadableFile, match="none of 40 images"):
        read_sample(items, cards, QueueLimits())


# Comparisons ----------------------------------------------------------------------------------------------


def test_models_are_judged_on_the_same_images_and_ranked(workspace, photos):
    found = compare(workspace, FolderSource(photos), ["blind", "tiny"], "photos")
    assert [result.model for result in found.results] == ["tiny@1", "blind@1"]
    best, blind = found.results
    assert (found.rows, found.labels, found.folds, found.kind) == (40, 2, 5, "logistic")
    assert found.left_out == compare_module.LeftOut(0, {}, 0)
    assert best.evaluation.n == blind.evaluation.n == 40
    assert best.evaluation.accuracy > 0.8
    assert best.paired is None
    assert not best.worse
    paired = blind.paired
    assert blind.evaluation.accuracy - best.evaluation.accuracy == pytest.approx(
        (paired.only_this - paired.only_best) / 40
    )
    assert blind.worse
    assert paired.p_corrected == paired.p_value < 0.05
    assert found.pick is best
    assert found.reason.startswith("tiny@1: the most accurate")
    assert (best.dim, best.precision, best.collection) == (48, "fp32", "photos-tiny")
    assert best.size_bytes == workspace.repository.resolve("tiny").onnx.stat().st_size
    assert all(result.images_per_second > 0 for result in found.results)


def test_a_head_that_is_fitted_next_is_the_head_that_was_judged(workspace, photos):
    found = compare(workspace, FolderSource(photos), ["tiny", "blind"], "photos")
    fitted = workspace.fit_head(found.pick.collection, found.into)
    metrics = fitted.metrics
    assert metrics is not None
    assert metrics.accuracy == found.pick.evaluation.accuracy
    assert metrics.confusion == found.pick.evaluation.confusion
    assert metrics.log_loss == pytest.approx(found.pick.evaluation.log_loss, rel=1e-5)


def test_the_choice_of_a_comparison_is_that_of_the_rule(workspace, photos, monkeypatch):
    """Two of forty images apart, and three times as fast."""
    real = compare_module.judge
    correct = {
        "photos-tiny": np.ones(40, bool),
        "photos-double": np.arange(40) > 1,
        "photos-blind": np.arange(40) > 20,
    }

    def judge(collection, *arguments):
        judged = real(collection, *arguments)
        right = correct[collection.name]
        figures = dataclasses.replace(judged.evaluation, accuracy=right.mean())
        return dataclasses.replace(judged, correct=right, evaluation=figures)

    monkeypatch.setattr(compare_module, "judge", judge)
    monkeypatch.setattr(compare_module, "images_per_second", lambda *arguments: [90.0, 10.0, 30.0])
    found = compare(workspace, FolderSource(photos), ["blind", "tiny", "double"], "photos")
    assert [result.model for result in found.results] == ["tiny@1", "double@1", "blind@1"]
    assert [result.worse for result in found.results] == [False, False, True]
    assert found.results[1].paired == compare_module.Paired(2, 0, 0.5, 0.5)
    assert found.pick.model == "double@1"
    assert found.reason.startswith("double@1: 3.0 times as fast as tiny@1")


def test_a_second_run_embeds_nothing_and_says_the_same(workspace, photos):
    first = compare(workspace, FolderSource(photos), ["tiny", "blind"], "photos")
    assert [(each.embedded, each.unchanged) for each in first.results] == [(40, 0), (40, 0)]
    again = compare(workspace, FolderSource(photos), ["tiny", "blind"], "photos")
    assert [(each.embedded, each.unchanged) for each in again.results] == [(0, 40), (0, 40)]
    assert [each.evaluation for each in again.results] == [each.evaluation for each in first.results]
    assert workspace.collections.names() == ["photos-blind", "photos-tiny"]


def test_models_of_equal_worth_are_told_apart_by_speed(workspace, photos, monkeypatch):
    monkeypatch.setattr(compare_module, "images_per_second", lambda *arguments: [10.0, 15.0])
    found = compare(workspace, FolderSource(photos), ["tiny", "double"], "photos")
    assert [result.model for result in found.results] == ["double@1", "tiny@1"]
    assert found.results[1].paired == compare_module.Paired(0, 0, 1.0, 1.0)
    assert found.pick.model == "double@1"


def test_several_models_are_corrected_for_their_number(workspace, photos, publish_tiny):
    publish_tiny(Path(workspace.settings.models), name="dark", scale=-0.0)
    found = compare(workspace, FolderSource(photos), ["tiny", "blind", "dark"], "photos")
    for result in found.results[1:]:
        assert result.paired.p_corrected == pytest.approx(2 * result.paired.p_value)


def test_the_seed_and_the_folds_are_the_callers(workspace, photos):
    found = compare(workspace, FolderSource(photos), ["tiny"], "photos", folds=4, seed=3)
    assert (found.folds, found.seed, found.results[0].evaluation.folds) == (4, 3, 4)
    other = compare(workspace, FolderSource(photos), ["tiny"], "photos", folds=4, seed=4)
    assert found.pick.evaluation.log_loss != other.pick.evaluation.log_loss


def test_what_holds_for_the_images_is_said_once_and_the_rest_of_each_model(workspace, photos):
    for path in sorted((photos / "day").iterdir())[3:]:
        path.unlink()
    found = compare(workspace, FolderSource(photos), ["tiny", "blind"], "photos")
    assert found.folds == 3
    assert any("3 folds instead of 5" in note for note in found.notes)
    (blind,) = (result for result in found.results if result.model == "blind@1")
    assert any("smallest of the grid" in note for note in blind.notes)
    assert not any("of the grid" in note for note in found.notes)
    assert not any("folds instead" in note for result in found.results for note in result.notes)


def test_images_that_nobody_can_be_judged_by_are_counted(workspace, photos, png):
    (photos / "day" / "text.png").write_text("hello")
    (photos / "night" / "empty.png").write_bytes(b"")
    (photos / "flat.png").write_bytes(png(np.zeros((32, 32, 3), np.uint8)))
    (photos / "flat-and-empty.png").write_bytes(b"")
    (photos / "dusk").mkdir()
    (photos / "dusk" / "1.png").write_bytes(png(np.full((32, 32, 3), 128, np.uint8)))
    for _first_and_second_run in range(2):
        found = compare(workspace, FolderSource(photos), ["tiny", "blind"], "photos")
        assert found.rows == 40
        assert found.left_out.unlabelled == 2
        assert found.left_out.failed == {"unsupported_image": 1, "empty_image": 1}
        assert found.left_out.single == 1
        assert [result.failed for result in found.results] == [{"unsupported_image": 1, "empty_image": 2}] * 2
        assert any("'dusk'" in note for note in found.notes)


def test_what_one_model_can_not_embed_no_model_is_judged_by(workspace, photos, publish_tiny):
    # Bright cells times this are beyond the largest float32.
    publish_tiny(Path(workspace.settings.models), name="hot", scale=2.2e36)
    found = compare(workspace, FolderSource(photos), ["tiny", "hot"], "photos")
    hot = next(result for result in found.results if result.model == "hot@1")
    lost = hot.failed["non_finite_embedding"]
    assert 0 < lost < 20
    assert found.left_out.failed == {"non_finite_embedding": lost}
    assert found.rows == 40 - lost == hot.evaluation.n
    assert any(f"{lost} images failed that another model embedded" in note for note in hot.notes)


def test_a_model_that_embeds_nothing_is_named(workspace, photos, publish_tiny):
    publish_tiny(Path(workspace.settings.models), name="broken", scale=float("inf"))
    with pytest.raises(NotEnoughData, match=r"broken@1 failed on 40, mostly non_finite_embedding"):
        compare(workspace, FolderSource(photos), ["tiny", "broken"], "photos")


def test_splits_are_not_used_and_that_is_said(workspace, photos):
    (photos / "train").mkdir()
    for label in ("day", "night"):
        (photos / label).rename(photos / "train" / label)
    found = compare(workspace, FolderSource(photos), ["tiny"], "photos")
    assert (found.rows, found.splits) == (40, {"train": 40})
    assert any("splits (train 40) were not used" in note for note in found.notes)


def test_a_best_that_is_no_better_than_guessing_is_said(workspace, photos):
    found = compare(workspace, FolderSource(photos), ["blind"], "photos")
    assert any(
        "not surely better than always naming the largest label (0.500)" in note for note in found.notes
    )
    assert not any(
        "not surely" in note for note in compare(workspace, FolderSource(photos), ["tiny"], "p").notes
    )


def test_two_references_to_one_file_are_allowed_and_said(workspace, photos):
    found = compare(workspace, FolderSource(photos), ["tiny", "tiny@1"], "photos")
    assert workspace.collections.names() == ["photos-tiny", "photos-tiny-v1"]
    assert "tiny and tiny@1 are the same file; one of them is enough" in found.notes


def test_rows_and_labels_that_are_not_the_folders_are_said(workspace, photos):
    compare(workspace, FolderSource(photos), ["tiny"], "photos")
    kept = workspace.collections.open("photos-tiny")
    (row,) = kept.get(["day/0.png"])
    changes = [dataclasses.replace(row, label="dusk"), dataclasses.replace(row, id="elsewhere.png")]
    kept.upsert(changes, space_id=kept.spec.space_id, decode="exact")
    failed = dataclasses.replace(row, id="elsewhere-too.png", embedding=None, status="error", error="x: y")
    kept.upsert([failed], space_id=kept.spec.space_id, decode="exact")
    found = compare(workspace, FolderSource(photos), ["tiny", "blind"], "photos")
    assert found.rows == 40
    (tiny,) = (result for result in found.results if result.model == "tiny@1")
    assert tiny.failed == {}
    assert any("1 labelled rows that are not in this folder" in note for note in tiny.notes)
    assert any(
        "1 labels in collection 'photos-tiny' are not those of the folder" in note for note in tiny.notes
    )


def test_a_version_that_is_published_meanwhile_belongs_to_the_next_comparison(
    workspace, photos, publish_tiny
):
    def publish(step):
        if step.stage == "loading":
            publish_tiny(Path(workspace.settings.models), name="tiny", scale=-3.0)

    assert (
        compare(workspace, FolderSource(photos), ["tiny"], "photos", progress=publish).pick.model == "tiny@1"
    )
    with pytest.raises(SpaceMismatch, match="--into photos-2"):
        compare(workspace, FolderSource(photos), ["tiny"], "photos")


def test_every_stage_is_told_and_comes_to_its_end(workspace, photos):
    steps = []
    compare(workspace, FolderSource(photos), ["tiny", "blind"], "photos", progress=steps.append)
    stages = [stage for stage, _steps in itertools.groupby(steps, lambda step: (step.stage, step.model))]
    assert stages == [
        ("loading", "tiny@1"),
        ("loading", "blind@1"),
        ("embedding", "tiny@1"),
        ("embedding", "blind@1"),
        ("evaluating", "tiny@1"),
        ("evaluating", "blind@1"),
        ("timing", ""),
    ]
    ends = {(step.stage, step.model): (step.done, step.total) for step in steps}
    assert ends["embedding", "blind@1"] == (40, 40)
    assert ends["evaluating", "tiny@1"] == (100, 100)
    assert ends["timing", ""] == (8, 8)


# Refusals -------------------------------------------------------------------------------------------------


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


def test_an_image_that_fails_while_being_timed_ends_the_comparison(workspace, photos, monkeypatch):
    failing = SimpleNamespace(errors={0: CorruptImage("on purpose")})
    monkeypatch.setattr(workspace.engine, "embed", lambda *_: failing)
    images = read_sample(listed(photos), [card(workspace, "tiny")], workspace.settings.queue)
    with pytest.raises(CorruptImage, match="on purpose"):
        images_per_second(workspace, ["tiny"], images, Ticks(*range(1, 9)), pytest.fail, lambda *_: None)
