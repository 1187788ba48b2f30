"""The page: whole in one file, nothing loaded, everything escaped, written whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.heads.report.conftest import HOSTILE

from trunkline_service.errors import StorageError
from trunkline_service.heads.evaluation.suspects import Suspect
from trunkline_service.heads.report.html import render, write_html
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.report.suspect_cards import page_data, separator
from trunkline_service.heads.task import TASKS


class Page(HTMLParser):
    """Elements, attributes, the texts of scripts and styles, and the text that people see."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.raw, self.seen = [], [], {"script": [], "style": []}, []
        self._inside = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside in self.raw:
            self.raw[self._inside].append(data)
        else:
            self.seen.append(data)

    @property
    def text(self):
        return " ".join(self.seen)


@pytest.fixture(scope="module")
def page(single_label, images):
    return Page(render(single_label.report, single_label.card, images))


def test_hostile_labels_and_ids_stay_text(page):
    assert page.elements.count("script") == 2
    assert HOSTILE in page.text
    assert not any("alert" in script and "suspects" not in script for script in page.raw["script"])
    assert all("<" not in script for script in page.raw["script"][:1])


def test_the_data_reads_back(page, single_label):
    data = json.loads(page.raw["script"][0])
    assert data == page_data(single_label.report)
    assert data["suspects"][0]["id"].startswith(HOSTILE)
    assert "</script" not in page.raw["script"][0]


def test_the_policy_allows_this_style_and_script_and_nothing_else(page):
    policy = next(
        value for tag, name, value in page.attributes if (tag, name) == ("meta", "content") and "src" in value
    )
    assert policy.startswith("default-src 'none'; img-src data:; ")

    def digest(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert f"style-src {digest(page.raw['style'][0])};" in policy
    assert f"script-src {digest(page.raw['script'][1])};" in policy
    assert "unsafe" not in policy
    # What the policy would block is not tried.
    assert not [name for _, name, _ in page.attributes if name == "style" or name.startswith("on")]


def test_nothing_is_loaded_from_anywhere(page):
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            assert value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value[:80])
    for text in (*page.raw["style"], *page.raw["script"]):
        assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp|WebSocket|localStorage", text)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_page(made, task):
    found = made(task)
    page = Page(render(found.report, found.card))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value[1:] for tag, name, value in page.attributes if (tag, name) == ("a", "href")}
    assert links <= set(ids)
    assert {"summary", "origin"} <= links
    assert "flowers@3" in page.text
    assert page.elements.count("h1") == 1
    assert ("suspects" in ids) == bool(found.report.suspects)


def test_every_control_has_a_name(page):
    labelled = {value for tag, name, value in page.attributes if name in ("aria-label", "alt") and value}
    assert any(label.startswith("Another label of") for label in labelled)
    assert page.elements.count("legend") == page.elements.count("fieldset") > 0
    assert page.elements.count("img") == sum(
        1 for tag, name, _ in page.attributes if (tag, name) == ("img", "alt")
    )


def test_thumbnails_are_shown_of_what_lies_in_the_folder(page, single_label, images, tmp_path):
    assert page.elements.count("img") == len(single_label.report.suspects)
    elsewhere = Page(render(single_label.report, single_label.card, tmp_path))
    assert elsewhere.elements.count("img") == 0
    assert "outside the image folder" in elsewhere.text


def test_rows_without_ids_can_be_seen_and_not_corrected(single_label):
    suspects = tuple(replace(suspect, id="") for suspect in single_label.report.suspects)
    page = Page(render(replace(single_label.report, suspects=suspects), single_label.card))
    assert f"row {suspects[0].row}" in page.text
    assert "save" not in [value for _, name, value in page.attributes if name == "id"]


def test_a_head_that_was_not_evaluated_still_has_a_page(single_label):
    page = Page(render(Report("single-label", ("a", "b")), single_label.card))
    assert page.elements.count("section") == 1


def test_curves_over_epochs_are_drawn(single_label):
    report = replace(single_label.report, curves={"loss": (2.0, 1.0), "validation_loss": (2.2, 1.4)})
    text = Page(render(report, single_label.card)).text
    assert "Training" in text
    assert "validation loss" in text


def test_many_classes_are_a_table_of_pairs(single_label):
    evaluation = single_label.report.evaluation
    wide = replace(evaluation, confusion=(), confused=((0, 1, 7),))
    page = Page(render(replace(single_label.report, evaluation=wide), single_label.card))
    assert "Most confused pairs" in page.text
    assert "What is taken for what" not in page.text


def test_the_separator_is_in_no_label(single_label):
    multi = Suspect(0, "x", "", ("a|b", "c"), ("c",), 0.1)
    report = Report("multi-label", ("a|b", "c"), suspects=(multi,))
    assert separator(report) == ";"
    assert page_data(report)["suspects"] == [{"id": "x", "label": "a|b;c", "suggested": "c"}]
    card = replace(single_label.card, task="multi-label")
    assert "--separator ';'" in Page(render(report, card)).text


def test_what_to_do_with_the_corrections_is_said(page, single_label):
    assert "trunkline collections relabel flowers --from corrections.csv" in page.text
    other = Page(render(single_label.report, replace(single_label.card, target="species")))
    assert "relabel" not in other.text
    assert "values of column species" in other.text


def test_hyper_parameters_are_written_for_people(page, single_label):
    chosen = single_label.card.hyper_parameters["C"]
    assert f"C {chosen:.4g}; " in page.text


def test_the_file_is_replaced_whole(single_label, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    write_html(single_label.report, single_label.card, path)
    assert path.read_text(encoding="utf-8") == render(single_label.report, single_label.card)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_file_that_can_not_be_written_leaves_the_old_one(single_label, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_html(single_label.report, single_label.card, path)
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_is_not_there_is_named(single_label, tmp_path):
    with pytest.raises(StorageError, match=r"nowhere/report\.html"):
        write_html(single_label.report, single_label.card, tmp_path / "nowhere" / "report.html")
