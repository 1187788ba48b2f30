"""The page in a real browser: it renders, runs, loads nothing, and saves what `collections relabel` reads."""

from __future__ import annotations

import subprocess

import pytest
from tests.heads.report.browser import CHROMIUM, browser
from tests.heads.report.conftest import HOSTILE

from trunkline_service.cli.collections.relabelling import read_corrections
from trunkline_service.heads.report.html import write_html
from trunkline_service.heads.report.suspect_cards import SHOWN

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

NEW_LABEL = 'new, "quoted" <b>'


@pytest.fixture(scope="module")
def path(single_label, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_html(single_label.report, single_label.card, path, images)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


def test_the_dumped_page_keeps_hostile_labels_as_text(path, tmp_path):
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    page = done.stdout.decode()
    assert '<html lang="en" class="js">' in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<script") == 2
    assert HOSTILE not in page


def test_corrections_are_saved_as_the_command_reads_them(path, page, single_label, tmp_path):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    page.open(path, downloads)
    assert page.run("document.getElementById('save').disabled") is True
    assert page.run("document.querySelectorAll('.suspect:not([hidden])').length") == SHOWN
    page.run("document.getElementById('more').click()")
    total = len(single_label.report.suspects)
    assert page.run("document.querySelectorAll('.suspect:not([hidden])').length") == total > SHOWN

    # The first is kept; of others one is changed to the suggested label, one is typed, one taken away.
    last = total - 1
    for card, choice in ((1, "suggested"), (2, "other"), (last, "none")):
        page.run(
            f"document.querySelectorAll('.suspect')[{card}].querySelector('input[value={choice}]').click()"
        )
        if choice == "other":
            page.call("Input.insertText", text=NEW_LABEL)
    assert page.run("document.getElementById('count').textContent") == "3 labels to change."
    page.run("document.getElementById('save').click()")
    page.wait("Browser.downloadProgress", state="completed")
    assert page.run("document.getElementById('after').hidden") is False

    troubles = [event["params"] for event in page.events if event.get("method") == "Log.entryAdded"]
    raised = [event for event in page.events if event.get("method") == "Runtime.exceptionThrown"]
    loaded = {
        event["params"]["request"]["url"].partition(":")[0]
        for event in page.events
        if event.get("method") == "Network.requestWillBeSent"
    }
    dialogs = [event for event in page.events if event.get("method") == "Page.javascriptDialogOpening"]
    assert (troubles, raised, dialogs) == ([], [], [])
    assert loaded <= {"file", "data", "blob"}

    suspects = single_label.report.suspects
    assert read_corrections(downloads / "corrections.csv") == {
        suspects[1].id: suspects[1].suggested,
        suspects[2].id: NEW_LABEL,
        suspects[last].id: None,
    }


def test_tables_sort_and_the_page_fits_a_phone(path, page, tmp_path):
    page.open(path, tmp_path)
    column = "[...document.querySelectorAll('#classes table')].at(-1)"
    support = f"[...{column}.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.value))"
    press = f"{column}.querySelectorAll('th button')[1].click()"
    page.run(press)
    found = page.run(support)
    assert found == sorted(found, reverse=True)
    page.run(press)
    assert page.run(support) == sorted(found)
    assert page.run(f"{column}.querySelectorAll('th')[1].getAttribute('aria-sort')") == "ascending"

    page.call("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=True)
    assert page.run("document.documentElement.scrollWidth") <= 360
