"""Real processes with roles that do nothing: started, watched, killed for real, ended in order."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

import pytest

from trunkline_service.errors import ModelFileError, SettingsError, Unavailable
from trunkline_service.server.listening import parse_address
from trunkline_service.server.processes import board
from trunkline_service.server.processes import supervisor as module
from trunkline_service.server.processes.port import reserve

from .events import PATIENCE_S, Events
from .fake_supervisor import supervisor_in

PARTS = {"device", "data", "front-0", "front-1"}
CALLS = 'trunkline_calls_total{code="OK",method="/trunkline.v1.Fake/Call"}'


@pytest.fixture
def home(tmp_path_factory, monkeypatch):
    """A folder with a short path, in which the folders of servers are made too."""
    made = tmp_path_factory.mktemp("s")
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    monkeypatch.setenv("TMPDIR", str(made))
    return made


@pytest.fixture
def events(home):
    opened = Events(home)
    yield opened
    opened.close()


@pytest.fixture
def supervisor(home, events):
    made = supervisor_in(home, metrics_listen="127.0.0.1:0")
    yield made
    made.stop()


def nothing_is_left(home, address):
    """Neither a folder nor a process that has the port."""
    reserve(parse_address(str(address))).close()
    return not list(home.glob("trunkline-serve-*"))


def wait_for_the_end(pids):
    """Until none of these processes, that are nobody's children here, is there any more."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([handle], [], [], PATIENCE_S)[0], f"process {pid} goes on"
        os.close(handle)


def page(supervisor):
    with urllib.request.urlopen(f"http://{supervisor.metrics_address}/metrics") as response:
        lines = response.read().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def test_it_starts_all_and_ends_them_in_order_and_leaves_nothing(home, events, supervisor):
    served = supervisor.start()
    assert dict(served.models) == {"tiny@1": True}
    assert served.device == "cpu"
    pids = supervisor.pids()
    assert set(pids) == PARTS
    supervisor.stop()
    assert supervisor.pids() == {}
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert nothing_is_left(home, supervisor.address)
    stopped = [part for part, kind, _ in events.rest() if kind == "stopped"]
    assert set(stopped[:2]) == {"front-0", "front-1"}
    assert stopped[2:] == ["data", "device"]
    # It is told before the fronts are waited for; when it hears of it is its own affair.
    own = [kind for part, kind, _ in events.seen if part == "data"]
    assert own.index("ending") < own.index("stopped")


@pytest.mark.parametrize(
    ("part", "what", "kind", "words"),
    [
        ("device", "error", ModelFileError, "the card does not match"),
        ("data", "crash", Unavailable, "data process was ended by signal 9"),
        ("front-1", "defect", Unavailable, "internal error"),
    ],
)
def test_one_that_can_not_start_fails_the_whole_with_its_own_error(
    home, events, supervisor, part, what, kind, words
):
    (home / part).write_text(what)
    with pytest.raises(kind, match=words):
        supervisor.start()
    supervisor.stop()
    assert nothing_is_left(home, supervisor.address)
    assert len([1 for found, event, _ in events.rest() if (found, event) == (part, "started")]) == 1


def test_interrupted_while_models_load_it_ends_at_once(home, events, supervisor):
    (home / "device").write_text("loads")
    starting = threading.Thread(target=supervisor.start)
    starting.start()
    events.until("device", "loads")
    supervisor.interrupt()
    starting.join()
    # The fake role is told by a signal, as it has nothing else to wake up for.
    os.kill(supervisor.pids()["device"], signal.SIGTERM)
    supervisor.stop()
    assert nothing_is_left(home, supervisor.address)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_killed_process_is_started_anew_and_the_fronts_know(events, supervisor, part):
    supervisor.start()
    before = supervisor.pids()
    assert page(supervisor)[CALLS] == len(PARTS)
    events.rest()
    os.kill(before[part], signal.SIGKILL)
    if not part.startswith("front"):
        while part not in events.until("front-0", "parts"):
            pass
    pid = events.until(part, "started")["pid"]
    # The others are told when it is well again, and one that is new is told of the others.
    while events.until(part if part.startswith("front") else "front-0", "parts"):
        pass
    after = supervisor.pids()
    assert after == {**before, part: pid}
    with pytest.raises(ProcessLookupError):
        os.kill(before[part], 0)
    role = part.partition("-")[0]
    found = page(supervisor)
    assert found[f'trunkline_restarts_total{{role="{role}"}}'] == 1
    # What the killed one had counted stays; the new one counts on.
    assert found[CALLS] == len(PARTS) + 1


def test_metrics_of_the_whole(supervisor):
    supervisor.start()
    found = page(supervisor)
    assert found["trunkline_ready"] == 1
    assert found['trunkline_processes{role="front"}'] == 2
    assert found['trunkline_processes{role="device"}'] == 1
    assert found['trunkline_restarts_total{role="data"}'] == 0


def test_one_that_does_not_end_is_killed(home, events, monkeypatch):
    (home / "data-hangs").touch()
    supervisor = supervisor_in(home, drain_s=0.01)
    supervisor.start()
    pids = supervisor.pids()
    monkeypatch.setattr(module, "_MARGIN_S", 0.5)
    supervisor.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pids["data"], 0)
    assert nothing_is_left(home, supervisor.address)


def test_two_servers_on_one_port_are_refused(home, supervisor):
    with pytest.raises(SettingsError, match="another server"):
        supervisor_in(home, listen=str(supervisor.address))
    assert len(list(home.glob("trunkline-serve-*"))) == 1


@pytest.fixture
def process(home, events):
    """A supervisor in a process of its own: (process, address, pids of its children)."""
    script = Path(__file__).with_name("fake_supervisor.py")
    started = subprocess.Popen(
        [sys.executable, str(script), str(home)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    address = started.stdout.readline().strip()
    # Events of starts are told before the supervisor is ready.
    pids = {}
    while len(pids) < len(PARTS):
        part, kind, details = events.next()
        if kind == "started":
            pids[part] = details["pid"]
    yield started, address, pids
    started.kill()
    started.wait()
    started.stdout.close()


def test_a_killed_supervisor_takes_all_with_it(home, process):
    supervisor, address, pids = process
    supervisor.kill()
    supervisor.wait()
    wait_for_the_end(pids.values())
    assert nothing_is_left(home, address)


def test_all_killed_at_once_leave_nothing_but_what_the_next_one_sweeps(home, process):
    supervisor, address, pids = process
    os.killpg(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    wait_for_the_end(pids.values())
    next_one = supervisor_in(home, listen=address)
    assert len(list(home.glob("trunkline-serve-*"))) == 1
    next_one.stop()
    assert nothing_is_left(home, address)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_ends_all_in_order(home, events, process, number):
    supervisor, address, _ = process
    os.killpg(supervisor.pid, number)
    assert supervisor.wait(PATIENCE_S) == 0
    stopped = [part for part, kind, _ in events.rest() if kind == "stopped"]
    assert set(stopped[:2]) == {"front-0", "front-1"}
    assert stopped[2:] == ["data", "device"]
    assert nothing_is_left(home, address)


def test_a_child_that_is_told_to_end_by_somebody_else_ends_in_order_and_is_started_anew(events, supervisor):
    supervisor.start()
    before = supervisor.pids()["data"]
    os.kill(before, signal.SIGTERM)
    events.until("data", "stopped")
    assert events.until("data", "started")["pid"] != before


def test_one_that_hangs_is_said_to_the_fronts_until_it_goes_on(events, supervisor, monkeypatch):
    # Above the second in which each says how it is, so that the others are not doubted.
    monkeypatch.setattr(board, "_SILENCE_S", 3.0)
    supervisor.start()
    events.rest()
    os.kill(supervisor.pids()["data"], signal.SIGSTOP)
    while "said nothing" not in events.until("front-0", "parts").get("data", ""):
        pass
    assert page(supervisor)["trunkline_ready"] == 0
    os.kill(supervisor.pids()["data"], signal.SIGCONT)
    while "data" in events.until("front-0", "parts"):
        pass


def test_one_that_hangs_for_good_is_killed_and_started_anew(events, supervisor, monkeypatch, caplog):
    monkeypatch.setattr(board, "_SILENCE_S", 2.5)
    monkeypatch.setattr(board, "_HUNG_S", 3.5)
    supervisor.start()
    before = supervisor.pids()["data"]
    events.rest()
    os.kill(before, signal.SIGSTOP)
    while "said nothing" not in events.until("front-0", "parts").get("data", ""):
        pass
    assert events.until("data", "started")["pid"] != before
    while "data" in events.until("front-0", "parts"):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    assert page(supervisor)['trunkline_restarts_total{role="data"}'] == 1
    assert "data goes on to say nothing" in caplog.text
    assert "data was ended by signal 9" in caplog.text
