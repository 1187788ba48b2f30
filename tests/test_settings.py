"""Settings: who wins, and what is refused."""

from __future__ import annotations

import pytest

from trunkline_service.errors import SettingsError
from trunkline_service.settings import PlanSettings, Settings, cache_folder, file_of, load


def test_flag_beats_environment_beats_file_beats_default(tmp_path):
    (tmp_path / "trunkline.toml").write_text(
        'models = "file"\ndata = "file"\ndevice = "cpu"\n[queue]\nmax_batch = 8\n'
    )
    found = load(
        {"models": "flag", "data": None},
        environ={"TRUNKLINE_MODELS": "env", "TRUNKLINE_DATA": "env", "TRUNKLINE_QUEUE_MAX_IMAGES": "7"},
        cwd=tmp_path,
    )
    assert (found.models, found.data, found.device, found.decode) == ("flag", "env", "cpu", "exact")
    assert (found.queue.max_batch, found.queue.max_images) == (8, 7)


def test_defaults_without_anything(tmp_path):
    assert load(environ={}, cwd=tmp_path) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modles = 1", "unknown setting 'modles'"),
        ("threads = -1", "at least 0"),
        ("[queue]\nmax_batch = 0", "at least 1"),
        ('threads = "many"', "threads is 'many', which is not a whole number"),
        ("frontends = 2.5", "frontends is 2.5, which is not a whole number"),
        ("frontends = 2.0", "frontends is 2.0, which is not a whole number"),
        ("frontends = true", "frontends is True, which is not a whole number"),
        ("drain_s = true", "drain_s is True, which is not a number"),
        ("frontends = 65", "frontends is 65; it must be at most 64"),
        ("[queue]\nmax_bach = 2", "unknown setting 'queue.max_bach'"),
        ("[plan.free]\nthreads = 1", r"unknown table \[plan\.free\]; .*a table \[plans\.NAME\]"),
        ('decode = "quick"', "'exact' or 'fast'"),
        ("models = [", "not valid TOML"),
    ],
)
def test_a_bad_file_says_where_and_what(tmp_path, text, message):
    (tmp_path / "trunkline.toml").write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load(environ={}, cwd=tmp_path)
    assert "trunkline.toml" in str(caught.value)


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(SettingsError, match="TRUNKLINE_CONFIG"):
        load(environ={"TRUNKLINE_CONFIG": str(tmp_path / "no.toml")}, cwd=tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"index_refresh_s": -1.0}, "^--refresh is -1.0; it must be at least 0$"),
        ({"index_refresh_s": float("nan")}, "^--refresh is nan; .*at least 0$"),
        ({"drain_s": "nan"}, "^--drain-s is 'nan'; .*at least 0$"),
        ({"cache_mb": -5}, "^--cache-mb is -5; it must be at least 0$"),
        ({"threads": float("inf")}, "^--threads is inf, which is not a whole number$"),
        ({"max_connection_age_s": -1.0}, "^--max-connection-age is -1.0; .*at least 0$"),
    ],
)
def test_a_bad_flag_is_named_as_it_was_given(tmp_path, flags, message):
    with pytest.raises(SettingsError, match=message):
        load(flags, environ={}, cwd=tmp_path)


@pytest.mark.parametrize("text", ["2.5", "two", ""])
def test_a_bad_variable_is_named(tmp_path, text):
    with pytest.raises(SettingsError, match=r"^environment TRUNKLINE_FRONTENDS is .*not a whole number$"):
        load(environ={"TRUNKLINE_FRONTENDS": text}, cwd=tmp_path)


def test_plans_are_tables_of_the_file_alone(tmp_path):
    (tmp_path / "trunkline.toml").write_text(
        '[plans.tiny]\nthreads = 1\nruns = 2\nbatch = 4\n[plans."a.b"]\nthreads = 2\nruns = 1\nbatch = 1\n'
    )
    found = load(environ={"TRUNKLINE_PLANS": "1"}, cwd=tmp_path)
    assert found.plans == {"tiny": PlanSettings(1, 2, 4), "a.b": PlanSettings(2, 1, 1)}
    with pytest.raises(SettingsError, match=r"unknown setting 'plans'.*\[plans\.NAME\]"):
        load({"plans": {}}, environ={}, cwd=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plans = 1", "plans is 1"),
        ("[plans]\ntiny = 1", "plans.tiny has 1; it needs threads, runs, batch"),
        ("[plans.tiny]\nthreads = 1\nruns = 1", "plans.tiny has runs, threads; it needs"),
        ("[plans.tiny]\nthreads = 1\nruns = 1\nbatch = 1\nspeed = 1", "plans.tiny has batch, runs, speed"),
        ("[plans.tiny]\nthreads = 0\nruns = 1\nbatch = 1", "plans.tiny.threads is 0"),
        ("[plans.tiny]\nthreads = 1\nruns = 1.5\nbatch = 1", "plans.tiny.runs is 1.5"),
        ("[plans.tiny]\nthreads = 1\nruns = 1\nbatch = true", "plans.tiny.batch is True"),
        ("[plans.a.b]\nthreads = 1\nruns = 1\nbatch = 1", "plans.a has b; it needs"),
        ('[plans."free@1"]\nthreads = 1', r"by name, without a version: \[plans\.free\]$"),
        ('[plans."a.b@1"]\nthreads = 1', r'by name, without a version: \[plans\."a\.b"\]$'),
        ('[plans."a b"]\nthreads = 1\nruns = 1\nbatch = 1', "plans.a b is no model's name"),
    ],
)
def test_a_bad_plan_names_its_key(tmp_path, text, message):
    (tmp_path / "trunkline.toml").write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load(environ={}, cwd=tmp_path)
    assert "trunkline.toml" in str(caught.value)


def test_where_the_file_and_the_cache_are(tmp_path, monkeypatch):
    assert file_of(environ={}, cwd=tmp_path) == tmp_path / "trunkline.toml"
    assert file_of(environ={"TRUNKLINE_CONFIG": "other.toml"}, cwd=tmp_path).name == "other.toml"
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "trunkline"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for nothing in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert cache_folder(nothing) == tmp_path / "home" / ".cache" / "trunkline"
