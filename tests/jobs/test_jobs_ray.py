"""Jobs on Ray: the rows of the local engine, also when a worker is killed midway."""

from __future__ import annotations

import os
import signal
import threading
import warnings

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument, JobStopped
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
