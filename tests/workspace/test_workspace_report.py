"""Reports: made with the fit, saved beside the card, read again; what they must not do to a head."""

from __future__ import annotations

import pytest

from trunkline_service.errors import (
    Cancelled,
    FailedPrecondition,
    HeadNotFound,
    ModelFileError,
    NotEnoughData,
    StorageError,
)
from trunkline_service.heads.options import FitOptions
from trunkline_service.workspace import reporting


@pytest.fixture
def shades(store_rows):
    return store_rows("shades")


def raising(error):
    def fail(*_args, **_options):
        raise error

    return fail


def test_a_fit_saves_a_report_beside_the_card(workspace, store_rows, tmp_path):
    store_rows("many", 80)
    steps = []
    made = workspace.fit_head("many", "h", progress=lambda *step: steps.append(step))
    card, report = workspace.head_report("h")
    assert card == made
    assert (tmp_path / "data" / "heads" / "h" / "1" / "report.json").is_file()
    assert (report.evaluation, report.classes) == (card.metrics, card.classes)
    assert report.provenance["training_hash"] == card.training_hash
    assert report.learning_curve is not None
    assert report.agreement is None
    shares = [share for stage, share in steps if stage == "reporting"]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(shares) > 5


@pytest.mark.parametrize(
    ("kind", "target"), [("ridge", "price"), ("anomaly", "label"), ("centroid", "label"), ("knn", "label")]
)
def test_every_kind_has_a_report(workspace, shades, kind, target):
    card = workspace.fit_head("shades", "h", kind, target=target)
    assert workspace.head_report("h")[1].task == card.task
    assert not any(reporting.NO_REPORT in note for note in card.notes)


def test_a_report_can_be_left_out(workspace, shades):
    stages = set()
    workspace.fit_head(
        "shades", "h", "ridge", target="price", report=False, progress=lambda s, _: stages.add(s)
    )
    assert "reporting" not in stages
    with pytest.raises(
        FailedPrecondition,
        match=r"h@1 has no report.*trunkline heads fit shades --name h --kind ridge --target price$",
    ):
        workspace.head_report("h")
    with pytest.raises(HeadNotFound):
        workspace.head_report("absent")


def test_a_head_that_was_not_fitted_here_says_so(workspace, constant):
    workspace.heads.save(constant(), "kept")
    with pytest.raises(FailedPrecondition, match="not fitted on a collection"):
        workspace.head_report("kept")


def test_of_a_name_without_a_serving_version_the_newest_is_meant(workspace, shades):
    for _ in range(2):
        workspace.fit_head("shades", "h", "centroid", promote=False)
    assert workspace.head_report("h")[0].version == 2
    assert workspace.head_report("h@1")[0].version == 1


def test_the_version_that_serves_is_compared_with(workspace, shades, constant):
    workspace.heads.save(constant("dark"), "h")
    workspace.fit_head("shades", "h", "centroid", promote=False)
    workspace.fit_head("shades", "h", "centroid")
    agreement = workspace.head_report("h")[1].agreement
    assert (agreement.previous, agreement.rows) == ("h@1", 20)
    assert (agreement.previous_value, agreement.value) == (0.5, 1.0)


def test_a_version_of_another_space_is_not_compared_with(workspace, shades, constant):
    workspace.heads.save(constant(model="double"), "h")
    card = workspace.fit_head("shades", "h", "centroid")
    report = workspace.head_report("h")[1]
    assert report.agreement is None
    assert any("not compared with h@1: it takes embeddings of another space" in note for note in report.notes)
    assert card.notes == ()


def test_a_broken_version_costs_the_comparison_alone(workspace, shades, tmp_path):
    workspace.fit_head("shades", "h", "centroid")
    (tmp_path / "data" / "heads" / "h" / "1" / "head.onnx").write_bytes(b"none")
    # A candidate: what serves is not looked at for promoting it.
    workspace.fit_head("shades", "h", "centroid", promote=False)
    report = workspace.head_report("h@2")[1]
    assert report.evaluation is not None
    assert any("not compared with the version that serves" in note for note in report.notes)


def test_a_warm_fit_and_one_of_many_rows_have_no_learning_curve(workspace, shades, monkeypatch):
    workspace.fit_head("shades", "h")
    workspace.fit_head("shades", "h", warm=True)
    warm = workspace.head_report("h")[1]
    assert warm.learning_curve is None
    assert any(note.startswith("no learning curve") for note in warm.notes)
    monkeypatch.setattr(reporting, "CURVE_ROWS", 19)
    workspace.fit_head("shades", "many")
    assert workspace.head_report("many")[1].learning_curve is None


@pytest.mark.parametrize(
    ("error", "words"), [(StorageError("no room"), "no room"), (MemoryError(), "not enough memory")]
)
def test_a_report_that_cannot_be_made_loses_no_head(workspace, shades, monkeypatch, error, words):
    monkeypatch.setattr(reporting, "build_report", raising(error))
    card = workspace.fit_head("shades", "h", "centroid")
    assert card.notes == (f"{reporting.NO_REPORT}: {words}",)
    assert workspace.heads.card("h") == card
    with pytest.raises(FailedPrecondition, match="no report"):
        workspace.head_report("h")


def test_a_defect_of_ours_is_not_hidden(workspace, shades, monkeypatch):
    monkeypatch.setattr(reporting, "build_report", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        workspace.fit_head("shades", "h", "centroid")
    assert workspace.heads.names() == []


def test_a_report_that_cannot_be_written_loses_no_head(workspace, shades, monkeypatch, caplog):
    monkeypatch.setattr(workspace.heads, "write_report", raising(StorageError("no room")))
    card = workspace.fit_head("shades", "h", "centroid")
    assert card.notes == (f"{reporting.NO_REPORT}: no room",)
    assert "head h@1 was saved without its report: no room" in caplog.text
    assert workspace.heads.load("h").card.version == 1


@pytest.mark.parametrize("error", [Cancelled, NotEnoughData, KeyError, MemoryError])
@pytest.mark.parametrize("least", [0.0, 0.3, 1.0])
def test_what_progress_raises_while_reporting_ends_the_fit_and_nothing_is_saved(
    workspace, store_rows, error, least
):
    store_rows("many", 80)
    told = []

    def stop(stage, share):
        if stage == "reporting" and share >= least:
            told.append(share)
            raise error("enough")

    with pytest.raises(error, match="enough"):
        workspace.fit_head("many", "h", options=FitOptions(folds=2, grid=(1.0,)), progress=stop)
    assert len(told) == 1
    assert least <= told[0] < least + 0.3
    assert workspace.heads.names() == []


def test_a_broken_report_is_named(workspace, shades, tmp_path):
    workspace.fit_head("shades", "h", "centroid")
    (tmp_path / "data" / "heads" / "h" / "1" / "report.json").write_bytes(b"\xff{")
    with pytest.raises(ModelFileError, match="the report of head h@1"):
        workspace.head_report("h")
