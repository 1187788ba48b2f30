"""Jobs on Ray: the rows of the local engine, also when a worker is killed midway."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from trunkline_service.errors import InternalError, InvalidArgument, JobStopped, ModelNotFound
from trunkline_service.jobs.options import JobOptions
from trunkline_service.jobs.sources import GivenSource, resolve

pytest.importorskip("ray", reason="ray is not installed: pip install 'trunkline[ray]'")
psutil = pytest.importorskip("psutil")

# Ray's own warnings about its future are not ours to mend.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def rows_of(workspace, name):
    rows = [row for batch in workspace.collections.open(name).scan() for row in batch.to_pylist()]
    for row in rows:
        row["embedding"] = None if row["embedding"] is None else tuple(row["embedding"])
        del row["job"], row["embedded_at"]
    return sorted(rows, key=lambda row: row["id"])


@pytest.fixture(scope="module")
def cluster():
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        yield ray
        ray.shutdown()


@pytest.fixture
def many(tmp_path, png):
    root = tmp_path / "many"
    for number in range(300):
        folder = root / f"class{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        bad = number % 30 == 0
        data = b"no image" if bad else png(np.full((32, 32, 3), number % 250, np.uint8))
        (folder / f"{number}.png").write_bytes(data)
    return root


def start(workspace, source, into, **values):
    from trunkline_service.jobs.ray import run_on_ray

    options = JobOptions(commit_rows=20, **values.pop("options", {}))
    return run_on_ray(workspace, source, into, options=options, workers=2, **values)


def test_two_workers_give_the_rows_of_the_local_engine(cluster, workspace, job, many):
    local = job(many, "local")
    steps = []
    result = start(workspace, resolve(str(many)), "ray", progress=steps.append)
    assert rows_of(workspace, "ray") == rows_of(workspace, "local")
    assert (result.embedded, result.errors) == (local.embedded, local.errors)
    assert steps[-1].done == 300
    again = start(workspace, resolve(str(many)), "ray")
    assert (again.embedded, again.unchanged, again.failed_before) == (0, 290, 10)


def test_a_worker_that_is_killed_midway_loses_nothing(cluster, workspace, job, many):
    job(many, "local")
    killed = threading.Event()

    def kill_one(_step):
        if killed.is_set():
            return
        for process in psutil.process_iter(["cmdline"]):
            if "ray::" in " ".join(process.info["cmdline"] or []) and "Map(_Worker)" in " ".join(
                process.info["cmdline"] or []
            ):
                os.kill(process.pid, signal.SIGKILL)
                killed.set()
                return

    start(workspace, resolve(str(many)), "ray", progress=kill_one)
    assert killed.is_set(), "no worker was found to be killed"
    assert rows_of(workspace, "ray") == rows_of(workspace, "local")


def test_a_source_that_fails_stops_the_job(cluster, workspace):
    items = [(f"{n}.png", b"no image", {}) for n in range(400)]
    with pytest.raises(JobStopped):
        start(workspace, GivenSource(items), "c")


def test_what_this_engine_does_not_do_is_said(workspace, photos):
    with pytest.raises(InvalidArgument, match="local engine"):
        start(workspace, resolve(str(photos)), "c", options={"prune": True})


def test_lists_of_labels_are_stored_as_such(cluster, workspace, solid_image):
    items = [(f"{n}.png", solid_image(n), {"label": ("x", "y")[: n + 1]}) for n in range(2)]
    start(workspace, GivenSource(items), "c")
    collection = workspace.collections.open("c")
    assert collection.spec.multi_label
    assert [row.label for row in collection.get(["0.png", "1.png"])] == [("x",), ("x", "y")]


def test_a_touched_file_keeps_its_vector_and_its_label(cluster, workspace, photos):
    start(workspace, resolve(str(photos)), "c")
    collection = workspace.collections.open("c")
    collection.relabel({"train/ants/1.png": "by hand"})
    for path in photos.rglob("*.png"):
        os.utime(path, (1, 1))
    again = start(workspace, resolve(str(photos)), "c")
    assert (again.embedded, again.touched, again.unchanged) == (0, 5, 0)
    assert collection.get(["train/ants/1.png"])[0].label == "by hand"


def test_a_refusal_inside_a_worker_comes_out_as_itself(cluster, workspace, solid_image):
    items = [("a.png", solid_image(1), {"score": "much"})]
    start(workspace, GivenSource(items), "c")
    items = [("b.png", solid_image(2), {"score": 5})]
    with pytest.raises(InvalidArgument) as caught:
        start(workspace, GivenSource(items), "c")
    assert type(caught.value) is InvalidArgument
    assert caught.value.message.startswith("row 'b.png', column 'score': 5 is of type int64")
    assert "\n" not in str(caught.value)


def broken(_limit):
    raise KeyError("something of ours")


def test_a_defect_inside_a_worker_is_logged_and_hidden(cluster, workspace, caplog):
    class Broken(GivenSource):
        def items(self):
            for item in super().items():
                yield dataclasses.replace(item, read=broken)

    with pytest.raises(InternalError) as caught:
        start(workspace, Broken([("a.png", b"x", {})]), "c")
    assert "\n" not in str(caught.value)
    assert "something of ours" in caplog.text


def test_a_worker_that_can_not_begin_says_why(cluster, workspace, photos, tmp_path):
    class Withdrawn(GivenSource):
        def items(self):
            shutil.move(tmp_path / "models", tmp_path / "withdrawn")
            yield from super().items()

    with pytest.raises(ModelNotFound, match="tiny"):
        start(workspace, Withdrawn([("a.png", b"x", {})]), "c")


def test_a_stop_is_heard_within_a_group_of_shards(cluster, workspace, many):
    stop = threading.Event()
    steps = []

    def first(step):
        steps.append(step.done)
        stop.set()

    result = start(workspace, resolve(str(many)), "c", progress=first, stop=stop)
    assert result.stopped
    assert steps == [20]
    again = start(workspace, resolve(str(many)), "c")
    assert not again.stopped
    assert again.unchanged + again.embedded + again.failed_before + sum(again.errors.values()) == 300


def test_a_job_of_the_command_line_says_nothing_of_ray(workspace, photos, tmp_path):
    place = ("--models", workspace.settings.models, "--data", workspace.settings.data)
    command = ["-m", "trunkline_service.cli.entry", "embed", str(photos), "--into", "c", "--engine", "ray"]
    done = subprocess.run(
        [sys.executable, *command, "--workers", "1", "--model", "tiny", *place],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert "5 embedded" in done.stdout
    assert [line for line in done.stderr.splitlines() if not line.startswith("next: ")] == []
