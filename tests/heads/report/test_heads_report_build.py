"""Reports of every task: which parts they have, that they read back, and what they are told from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.heads.report.conftest import HOSTILE, LABELS, SPACE, card_of, make, training_set

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.fit import fit
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.report.build import build_report
from trunkline_service.heads.report.findings import findings
from trunkline_service.heads.report.previous import PreviousHead
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.report.text import tables
from trunkline_service.heads.task import TASKS
from trunkline_service.heads.training.folds import make_folds


@pytest.mark.parametrize("task", TASKS)
def test_reports_read_back_equal(made, task):
    report = made(task).report
    assert report.task == task
    assert Report.loads(report.dumps()) == report


@pytest.mark.parametrize("task", TASKS)
def test_every_table_is_square_text(made, task):
    found = tables(made(task).report)
    assert found[0].title == f"cross-validated, {made(task).report.evaluation.n} rows"
    for table in found:
        assert {len(row) for row in table.rows} == {len(table.header)}
        assert all(isinstance(cell, str) for row in table.rows for cell in row)
        assert set(table.numbers) <= set(table.header)


def test_a_single_label_report_has_its_parts(single_label):
    report = single_label.report
    assert [baseline.name for baseline in report.baselines] == ["nearest centroid", "largest class"]
    assert all(baseline.value < report.evaluation.accuracy + 0.1 for baseline in report.baselines)
    assert report.learning_curve.figure == "accuracy"
    assert report.learning_curve.points[-1].value == pytest.approx(report.evaluation.accuracy)
    assert len(report.learning_curve.points) == 4
    assert sum(report.reliability.count) == 180
    assert (report.agreement, report.pairs, report.scores) == (None, (), None)
    assert report.provenance["hyper_parameters"]["C"] == single_label.fitted.hyper_parameters["C"]
    for suspect in report.suspects:
        assert suspect.id == single_label.data.ids[suspect.row]
        assert suspect.label == single_label.data.labels[suspect.row]
    assert "by class" in [table.title for table in tables(report)]


def test_calibration_before_is_told_from_the_temperature(single_label):
    """The undone temperature gives the probabilities whose calibration error the evaluation took."""
    report = single_label.report
    before = report.reliability_before
    ece = sum(
        count * abs(sure - right)
        for count, sure, right in zip(before.count, before.confidence, before.right, strict=True)
    )
    assert ece / 180 == pytest.approx(report.evaluation.ece_before, abs=0.02)


def test_a_multi_label_report_has_its_parts(multi_label):
    report = multi_label.report
    assert report.learning_curve.figure == "mean Jaccard index"
    assert [baseline.figure for baseline in report.baselines] == ["macro-F1"] * 3
    assert sum(report.reliability.count) == 180 * len(report.classes)
    assert all(isinstance(suspect.label, tuple) for suspect in report.suspects)
    assert report.estimated_errors is None


def test_a_regression_report_has_its_parts(regression):
    report = regression.report
    assert report.learning_curve.points[-1].value == pytest.approx(report.evaluation.r2, abs=0.01)
    assert report.baselines[0].value == pytest.approx(0, abs=0.1)
    assert [pairs.target for pairs in report.pairs] == ["height <mm>", "width"]
    assert report.pairs[0].true == tuple(regression.data.values()[:, 0].tolist())
    assert (report.reliability, report.suspects) == (None, ())


def test_an_anomaly_report_has_its_parts(anomaly):
    report = anomaly.report
    assert (sum(report.scores.normal), sum(report.scores.others)) == (60, 120)
    assert report.learning_curve is None
    assert report.baselines[0].figure == "AUROC"


def test_the_centroid_is_no_baseline_of_itself(clouds):
    rows, codes = clouds
    found = make("centroid", training_set(rows, [LABELS[k] for k in codes]), curve=False)
    assert [baseline.name for baseline in found.report.baselines] == ["largest class"]


def test_a_validation_split_is_judged_alone(clouds):
    rows, codes = clouds
    validation = np.arange(180) < 60
    found = make("logistic", training_set(rows, [LABELS[k] for k in codes], validation=validation))
    assert found.report.evaluation.n == 60
    assert sum(found.report.reliability.count) == 60
    assert all(suspect.row < 60 for suspect in found.report.suspects)
    assert found.report.learning_curve.points[-1].rows == 120


def test_a_class_without_company_in_a_part_counts_as_missed(clouds):
    """A class of two rows: held out with nothing left to learn from, it can't be recognised."""
    rows, codes = clouds
    labels = [LABELS[k] for k in codes]
    labels[:2] = ["rare", "rare"]
    found = make("logistic", training_set(rows, labels))
    assert "rare" in found.report.classes
    assert len(found.report.learning_curve.points) == 4


def test_progress_is_told_to_the_end(single_label):
    told = []
    build_report(
        single_label.data,
        single_label.fitted,
        single_label.folds,
        options=single_label.options,
        progress=told.append,
    )
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) == 3 * single_label.folds.count


def test_a_head_that_judged_nothing_keeps_what_it_has(single_label):
    bare = replace(single_label.fitted, out_of_fold=None)
    report = build_report(single_label.data, bare, single_label.folds)
    assert report.evaluation == bare.evaluation
    assert (report.suspects, report.baselines, report.learning_curve) == ((), (), None)


def previous_of(made, **changes):
    return PreviousHead(replace(card_of(made.fitted, version=2), **changes), made.fitted.network)


@pytest.mark.parametrize("task", TASKS)
def test_a_version_agrees_with_itself_but_for_what_was_held_out(made, task):
    found = made(task)
    report = build_report(
        found.data, found.fitted, found.folds, previous_of(found), options=found.options, curve=False
    )
    agreement = report.agreement
    assert agreement.previous == "flowers@2"
    assert agreement.rows == 180
    assert not agreement.held_out
    assert agreement.agreement > 0.7
    assert agreement.value == pytest.approx(report.evaluation.headline[1])
    assert agreement.previous_value >= agreement.value - 0.02
    assert "may have learned from them" in " ".join(findings(report))
    assert Report.loads(report.dumps()) == report


def test_a_test_split_compares_what_neither_has_seen(clouds):
    rows, codes = clouds
    labels = [LABELS[k] for k in codes]
    data = training_set(rows[:120], labels[:120]).with_test(rows[120:], labels[120:])
    options = FitOptions(folds=4, grid=(0.1,))
    old = fit("logistic", training_set(rows[:40], labels[:40]), options)
    new = fit("logistic", data, options)
    report = build_report(
        data, new, make_folds(data, 4, 0), PreviousHead(card_of(old, version=1), old.network), curve=False
    )
    agreement = report.agreement
    assert (agreement.rows, agreement.held_out) == (60, True)
    truth = data.test.codes()
    assert agreement.value == pytest.approx((new.network(rows[120:]).argmax(axis=1) == truth).mean())
    assert agreement.previous_value == pytest.approx((old.network(rows[120:]).argmax(axis=1) == truth).mean())
    assert agreement.only_this - agreement.only_previous == round(
        60 * (agreement.value - agreement.previous_value)
    )
    assert "test split, 60 rows" in [table.title for table in tables(report)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space_id": SPACE[:-1] + "0"}, "embeddings of another space"),
        ({"task": "multi-label"}, "its task is multi-label"),
    ],
)
def test_versions_that_can_not_be_compared_are_not(single_label, changes, words):
    report = build_report(
        single_label.data,
        single_label.fitted,
        single_label.folds,
        previous_of(single_label, **changes),
        curve=False,
    )
    assert report.agreement is None
    assert any(words in note for note in report.notes)


def test_a_previous_version_with_other_classes_is_compared_by_name(single_label):
    classes = tuple(reversed(single_label.fitted.classes))
    card = replace(card_of(single_label.fitted, version=2), classes=classes)
    turned = PreviousHead(card, lambda rows: single_label.fitted.network(rows)[:, ::-1])
    report = build_report(single_label.data, single_label.fitted, single_label.folds, turned, curve=False)
    assert report.agreement.previous_value > 0.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 9}, "schema_version 9"),
        ({"task": "poetry"}, "task is 'poetry'"),
        ({"extra": 1}, "unknown extra"),
        ({"suspects": [{"row": 1}]}, r"suspects\[0\] lacks"),
        ({"baselines": 3}, "baselines must be list"),
        ({"reliability": {"count": []}}, "reliability lacks"),
        ({"curves": {"loss": ["x"]}}, r"curves.loss\[0\] must be float"),
        ({"classes": [1]}, r"classes\[0\] must be str"),
    ],
)
def test_broken_documents_are_refused(single_label, change, message):
    document = json.loads(single_label.report.dumps()) | change
    with pytest.raises(ModelFileError, match=message):
        Report.from_json(document)


def test_findings_name_the_labels_as_they_are(single_label):
    true, predicted, rows = single_label.report.evaluation.mistakes()[0]
    assert {true, predicted} & {HOSTILE, LABELS[1]}
    assert findings(single_label.report)[-1] == (
        f"The commonest mistake: {true} taken for {predicted}, {rows} rows."
    )


def test_the_curve_can_be_left_out(single_label):
    report = build_report(single_label.data, single_label.fitted, single_label.folds, curve=False)
    assert report == replace(single_label.report, learning_curve=None)
