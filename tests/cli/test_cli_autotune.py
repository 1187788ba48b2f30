"""``trunkline autotune``: what it measures, and what it writes into trunkline.toml."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from dataclasses import asdict

import click.testing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.cli.app import trunkline_command
from trunkline_service.cli.plans_file import with_plans, write_plans
from trunkline_service.errors import SettingsError
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.settings import PlanSettings, load

PLAN = ExecutionPlan(1, 2, 4)
FILE = """\
# How the lab runs it.
models = "zoo"   # shared

[plans.tiny] # by hand
# both cores
runs = 9 # too many
batch=1

[queue]
max_batch = 8
batch = 5
"""


@pytest.fixture
def place(tmp_path, publish_tiny, monkeypatch):
    publish_tiny(tmp_path / "models", name="tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRUNKLINE_CONFIG", raising=False)
    return tmp_path


def autotune(*words):
    command = ["autotune", *words, "--seconds", "0.05", "--threads", "2", "--device", "cpu"]
    return click.testing.CliRunner().invoke(trunkline_command, command, catch_exceptions=False)


def test_it_writes_a_plan_that_the_settings_read(place):
    found = autotune("tiny")
    assert found.exit_code == 0, found.output
    (chosen,) = (line.split() for line in found.output.splitlines() if line.endswith("chosen"))
    assert load(environ={}, cwd=place).plans == {"tiny": PlanSettings(*map(int, chosen[:3]))}
    assert "[plans.tiny]" in found.output
    cells = [line.split() for line in found.output.splitlines()]
    rows = [tuple(map(int, row[:3])) for row in cells if row[0].isdigit()]
    assert len(rows) == 6
    assert rows == sorted(rows)
    assert "images/s" in found.output
    assert "chosen: of the plans within 10% of the fastest" in found.output


def test_a_dry_run_writes_nothing_and_json_says_it_all(place):
    found = autotune("tiny", "--dry-run", "--json")
    (document,) = json.loads(found.stdout)
    assert not (place / "trunkline.toml").exists()
    assert document["model"] == "tiny@1"
    assert document["written_to"] is None
    tried = [{key: row[key] for key in ("threads", "runs", "batch")} for row in document["tried"]]
    assert document["plan"] in tried
    assert len(tried) == 6


def test_without_names_it_takes_every_model_a_server_would_load(place):
    found = autotune("--json")
    assert [document["model"] for document in json.loads(found.stdout)] == ["tiny@1", "trunkline-small@1"]
    assert set(load(environ={}, cwd=place).plans) == {"tiny", "trunkline-small"}


def test_a_model_named_twice_is_refused(place):
    found = autotune("tiny", "tiny@1")
    assert found.exit_code == 2
    assert "named twice" in found.output


def test_every_other_line_of_the_file_stays():
    changed = with_plans(FILE, {"tiny": PLAN, "with.dot": ExecutionPlan(2, 1, 16)})
    assert changed == (
        FILE.replace("# by hand\n", "# by hand\nthreads = 1\n")
        .replace("runs = 9 # too many", "runs = 2 # too many")
        .replace("batch=1\n", "batch=4\n")
        + '\n[plans."with.dot"]\nthreads = 2\nruns = 1\nbatch = 16\n'
    )
    assert tomllib.loads(changed)["plans"]["tiny"] == asdict(PLAN)


@pytest.mark.parametrize(
    "text", ["", "\n", "threads = 2", "[plans.tiny]", "[queue]\r\nmax_batch = 4\r\n", FILE]
)
def test_written_twice_is_written_once(text):
    once = with_plans(text, {"tiny": PLAN})
    assert with_plans(once, {"tiny": PLAN}) == once
    assert ("\r\n" in once) == ("\r\n" in text)
    assert tomllib.loads(once) == tomllib.loads(text) | {
        "plans": tomllib.loads(text).get("plans", {}) | {"tiny": asdict(PLAN)}
    }


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True),
        st.builds(ExecutionPlan, st.integers(1, 99), st.integers(1, 99), st.integers(1, 99)),
        max_size=4,
    )
)
def test_any_names_and_plans_read_as_they_were_meant(plans):
    read = tomllib.loads(with_plans(FILE, plans))
    assert read == tomllib.loads(FILE) | {
        "plans": tomllib.loads(FILE)["plans"] | {name: asdict(plan) for name, plan in plans.items()}
    }


@pytest.mark.parametrize(
    "text",
    [
        "plans = {tiny = {threads = 1, runs = 1, batch = 1}}",
        "plans.tiny = {threads = 1, runs = 1, batch = 1}",
        "[plans]\ntiny = {threads = 1, runs = 1, batch = 1}",
        "plans = 3",
        'models = """\n[plans.tiny]\n"""',
    ],
)
def test_plans_in_another_form_are_left_alone_with_an_error(tmp_path, text):
    path = tmp_path / "trunkline.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"trunkline\.toml .*\[plans\.NAME\]"):
        write_plans(path, {"tiny": PLAN})
    assert path.read_text() == text
    assert os.listdir(tmp_path) == ["trunkline.toml"]


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path):
    real = tmp_path / "real.toml"
    real.write_text("threads = 2\n")
    real.chmod(0o640)
    link = tmp_path / "trunkline.toml"
    link.symlink_to(real)
    write_plans(link, {"tiny": PLAN})
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert tomllib.loads(real.read_text())["plans"] == {"tiny": asdict(PLAN)}
