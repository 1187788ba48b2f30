"""Comparisons of models: the ranking, the choice, what is left out, what is said."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from trunkline_service.errors import NotEnoughData, SpaceMismatch
from trunkline_service.jobs.comparison import run as compare_module
from trunkline_service.jobs.comparison.run import compare
from trunkline_service.jobs.sources import FolderSource


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
