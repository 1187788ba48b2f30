"""Settings: who wins, and what is refused."""

from __future__ import annotations

import pytest

from trunkline_service.errors import SettingsError
from trunkline_service.settings import Settings, load


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
        ('threads = "many"', "no int"),
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
        ({"index_refresh_s": -1.0}, "^--refresh: .*at least 0"),
        ({"index_refresh_s": float("nan")}, "^--refresh: .*at least 0"),
        ({"drain_s": "nan"}, "^--drain-s: .*at least 0"),
        ({"threads": float("inf")}, "^--threads: .*no int"),
    ],
)
def test_a_bad_flag_is_named_as_it_was_given(tmp_path, flags, message):
    with pytest.raises(SettingsError, match=message):
        load(flags, environ={}, cwd=tmp_path)
