"""``trunkline bench``: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import dataclasses
import json

import click.testing
import numpy as np
import pytest

from trunkline_service.bench import raw, run
from trunkline_service.bench.calls import Failure
from trunkline_service.bench.dialect import TOO_LARGE, Served
from trunkline_service.bench.load import ClosedLoop, OpenLoop
from trunkline_service.bench.raw import Ceiling, Tried
from trunkline_service.bench.run import Point, Result
from trunkline_service.bench.tape import Figures
from trunkline_service.cli import app, bench_report
from trunkline_service.cli.app import trunkline_command
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.server.app import Server
from trunkline_service.settings import Settings

ABOUT = {
    "servers": ["10.0.0.1:50051"],
    "protocol": "trunkline",
    "images": 2000,
    "form": "encoded",
    "mean_image_bytes": 94_000,
    "images_per_call": 1,
    "channels": 8,
    "machine": {"cores": 2},
    "bad_images": {},
}
GOOD = Figures(2.0, 100, 400, 5.0, 6.0, 7.0, 8.0, {}, 0, 0.1, 0.05)
FOUR = ClosedLoop(4)
BEST = Tried(ExecutionPlan(2, 1, 16), 250.0)


@pytest.fixture(scope="module")
def home(tmp_path_factory, publish_tiny, png):
    root = tmp_path_factory.mktemp("bench")
    publish_tiny(root / "models")
    (root / "photos").mkdir()
    for value in (1, 2, 3):
        (root / "photos" / f"{value}.png").write_bytes(png(np.full((32, 32, 3), value, np.uint8)))
    return root


@pytest.fixture(scope="module")
def address(home):
    server = Server(
        Settings(
            models=str(home / "models"), data=str(home / "data"), default_model="tiny", listen="127.0.0.1:0",
            device="cpu", threads=1,
        )
    )  # fmt: skip
    server.start()
    yield str(server.address)
    server.stop()


@pytest.fixture
def bench(home, monkeypatch):
    monkeypatch.chdir(home)

    def invoke(*arguments):
        words = ["bench", *arguments, "--images", "photos", "--seconds", "0.5"]
        return click.testing.CliRunner().invoke(trunkline_command, words, standalone_mode=False)

    return invoke


def test_a_table_has_a_line_for_each_number_of_callers_and_the_share_of_raw(bench, address):
    done = bench(address, "--concurrency", "1,2", "--raw")
    assert done.exception is None
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"tiny@1 on {address} (cpu, decode exact), trunkline; 3 images (encoded)")
    assert lines[1].split()[-3:] == ["served", "/", "raw"]
    assert [line.split("  ")[0] for line in lines[2:4]] == ["1 caller", "2 callers"]
    assert all(float(line.split()[-1]) > 0 for line in lines[2:4])
    assert lines[4].startswith("client ms/call: ")
    assert lines[5].startswith("raw: ")
    assert "failed" not in done.stderr


@pytest.mark.parametrize("protocol", ["trunkline", "open-inference"])
def test_json_is_printed_and_nothing_else(bench, address, protocol):
    # A flag as that of the other commands: it takes no word, so that an address behind it is one.
    done = bench(
        "--model", "tiny", "--rate", "100", "--pixels", "--protocol", protocol, "--json", address
    )  # fmt: skip
    assert done.exception is None
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert (found["protocol"], found["form"], found["images"]) == (protocol, "pixels", 3)
    assert found["complete"] is True
    (point,) = found["points"]
    assert (point["loop"], point["rate"], point["errors"]) == ("open", 100.0, {})
    assert point["calls"] > 0


def test_an_interrupt_prints_what_was_measured_and_is_told_by_the_exit_status(bench, address, monkeypatch):
    asked = []

    def put_on(_calls, served, _loads, _periods, told):
        return Result(served, (Point(ClosedLoop(1), GOOD),), complete=False)

    monkeypatch.setattr(run, "put_on", put_on)
    monkeypatch.setattr(raw.RawLoop, "__call__", lambda *arguments: asked.append(arguments))
    done = bench(address, "--raw")
    assert isinstance(done.exception, click.Abort)
    assert "1 caller     200.0" in done.stdout
    assert "stopped early" in done.stderr
    assert not asked
    done = bench(address, "--raw", "--json")
    assert isinstance(done.exception, click.Abort)
    assert json.loads(done.stdout)["complete"] is False


def test_an_interrupt_of_raw_leaves_what_the_server_gave(bench, address, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(raw.RawLoop, "__call__", interrupted)
    done = bench(address, "--raw", "--concurrency", "1")
    assert isinstance(done.exception, click.Abort)
    assert "1 caller" in done.stdout
    assert "raw:" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--concurrency", "0"], "no list of positive numbers"),
        (["--concurrency", "1,,2"], "no list of positive numbers"),
        (["--rate", "0"], "not in the range"),
        (["--rate", "5", "--concurrency", "1"], "two kinds of load"),
        (["--tls-ca", "photos/1.png"], "--tls-ca photos/1.png holds no certificate"),
        (["--raw", "--models", "empty"], "no model 'tiny'"),
        (["--model", "gone"], "no model 'gone'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_load(bench, address, monkeypatch, arguments, words):
    monkeypatch.setattr(run, "put_on", None)
    assert words in str(bench(address, *arguments).exception.message)


def test_an_address_that_is_none_is_named(bench):
    assert "'localhost' is no HOST:PORT" in str(bench("localhost").exception)


def shown(capsys, figures, load=FOUR, local=True, ceiling=None, failures=None, bad_images=None):
    served = Served("tiny@1", decode="fast")
    result = Result(served, (Point(load, figures),), complete=True, failures=failures or {})
    bench_report.show(result, ceiling, ABOUT | {"bad_images": bad_images or {}}, local)
    return capsys.readouterr()


def test_the_head_says_what_was_sent_and_where(capsys):
    assert shown(capsys, GOOD).out.splitlines()[0] == (
        "tiny@1 on 10.0.0.1:50051 (decode fast), trunkline; 2,000 images (encoded) of 94.0 kB, 1 per call, "
        "8 channels, 2 cores here"
    )


def test_a_good_run_gives_no_cause_for_remarks(capsys):
    found = shown(capsys, GOOD, ceiling=Ceiling(BEST, (BEST,)))
    assert found.err == ""
    assert found.out.splitlines()[2].split() == [
        "4", "callers", "200.0", "50.0", "5.00", "6.00", "7.00", "8.00", "0", "0", "0.50", "0.80",
    ]  # fmt: skip
    assert "raw: 250.0 images/s" in found.out
    assert "1 run at once, 2 threads in a run, batch 16" in found.out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"errors": {"UNAVAILABLE": 2000, "NOT_FOUND": 1}}, "1 NOT_FOUND, 2,000 UNAVAILABLE"),
        ({"overflow": 3}, "3 calls not sent"),
        ({"late_p99_ms": 80.0}, "80.0 ms late"),
        ({"generator_s": 2.0}, "used 1.0 cores"),
    ],
)
def test_what_spoils_the_figures_is_said(capsys, changes, words):
    assert words in shown(capsys, dataclasses.replace(GOOD, **changes), OpenLoop(50)).err


def test_calls_that_failed_and_calls_that_were_not_sent_stand_apart(capsys):
    found = shown(capsys, dataclasses.replace(GOOD, errors={"NOT_FOUND": 1000}, overflow=3))
    assert found.out.splitlines()[2].split()[-3:] == ["1,000", "3", "0.50"]


def test_a_server_that_refuses_is_told_in_its_words_and_what_to_do(capsys):
    figures = dataclasses.replace(GOOD, errors={"RESOURCE_EXHAUSTED": 2})
    first = Failure(0, None, "128 calls are under way and no more are taken; try again")
    found = shown(capsys, figures, failures={"RESOURCE_EXHAUSTED": first}).err
    assert "above its bounds (128 calls are under way and no more are taken); fewer callers" in found
    assert "--images-per-call" not in found
    found = shown(capsys, dataclasses.replace(GOOD, errors={TOO_LARGE: 2})).err
    assert "fewer --images-per-call, or raise max_message_bytes" in found
    assert "above its bounds" not in found


def test_the_first_bad_image_is_named(capsys):
    figures = dataclasses.replace(GOOD, errors={"truncated_image": 2})
    found = shown(capsys, figures, bad_images={"truncated_image": "b/cut.jpg"}).err
    assert "2 truncated_image (first: b/cut.jpg)" in found


def test_a_window_in_which_no_call_ended_says_so(capsys):
    nothing = Figures(1.5, 0, 0, None, None, None, None, {}, 0, None, 0.05)
    assert "no call ended in the 1.5 s; give more --seconds" in shown(capsys, nothing).err
    failed = dataclasses.replace(nothing, errors={"UNAVAILABLE": 1})
    assert "no call ended" not in shown(capsys, failed).err


def test_raw_beside_another_machine_is_said_to_be_so(capsys):
    assert "another" in shown(capsys, GOOD, local=False, ceiling=Ceiling(BEST, (BEST,))).err


def test_nothing_answered_is_no_crash(capsys):
    nothing = Figures(2.0, 0, 0, None, None, None, None, {"UNAVAILABLE": 4}, 0, None, 0.05)
    assert "-" in shown(capsys, nothing).out


def test_a_run_that_was_stopped_in_its_warm_up_shows_no_empty_table(capsys):
    bench_report.show(Result(Served("tiny@1"), (), complete=False), None, ABOUT, local=True)
    found = capsys.readouterr()
    assert "p50" not in found.out
    assert "before anything was measured" in found.err


def test_the_command_is_among_the_commands():
    assert "bench" in app.trunkline_command.commands
