"""Real jobs in real processes, killed with SIGKILL at random instants and run again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading

import pytest
from tests.end_to_end import jobs_support as support

# More, and with real photographs, on request: TRUNKLINE_KILLS=20 pytest -k flowers
KILLS = int(os.environ.get("TRUNKLINE_KILLS", "3"))
# Every 0.2 s a commit, so that instants fall before, within and after commits.
OFTEN = ("--commit-seconds", "0.2", "--commit-rows", "64")


@pytest.mark.slow
def test_a_killed_job_ends_like_one_that_was_not(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    photos = support.make_photos(tmp_path / "photos", 600, bad_every=50)
    killed(tmp_path, photos, 600, ["--model", "tiny"], KILLS)


@pytest.mark.slow
@pytest.mark.skipif(
    "TRUNKLINE_KILLS" not in os.environ, reason="long; set TRUNKLINE_KILLS to a number of kills"
)
def test_a_killed_job_over_flowers(tmp_path, assets):
    flowers = assets / "images" / "flowers5"
    killed(tmp_path, flowers, sum(1 for _ in flowers.rglob("*.jpg")), [], KILLS)


def killed(home, photos, rows, more, kills):
    job = ["embed", str(photos), *more, *OFTEN, "--into"]
    support.run_to_its_end([*job, "straight"], home)
    # So few commits between two kills that the job outlives all its kills.
    most = support.commits_of(rows // kills)
    chance = random.Random(7)
    ends = [support.run_and_kill([*job, "killed"], home, chance, most) for _ in range(kills)]
    print(f"{ends.count(False)} of {kills} runs were killed")
    assert not any(ends), "a job was not killed before its end"
    support.run_to_its_end([*job, "killed"], home)
    wanted = support.rows_of(home / "data", "straight")
    support.assert_same_rows(support.rows_of(home / "data", "killed"), wanted)


@pytest.mark.slow
def test_four_shards_of_which_two_are_killed_and_run_again(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    photos = support.make_photos(tmp_path / "photos", 400, bad_every=40)
    job = ["embed", str(photos), "--model", "tiny", *OFTEN, "--into"]
    support.run_to_its_end([*job, "whole"], tmp_path)
    shards = [[*job, "shards", "--shard", f"{number}/4"] for number in (1, 2, 3, 4)]
    threads = [
        threading.Thread(target=support.run_and_kill, args=(shard, tmp_path, random.Random(seed), 1))
        for seed, shard in enumerate(shards[:2])
    ]
    for thread in threads:
        thread.start()
    for shard in shards[2:]:
        support.run_to_its_end(shard, tmp_path)
    for thread in threads:
        thread.join()
    for shard in shards[:2]:
        support.run_to_its_end(shard, tmp_path)
    wanted = support.rows_of(tmp_path / "data", "whole")
    support.assert_same_rows(support.rows_of(tmp_path / "data", "shards"), wanted)


@pytest.mark.slow
def test_two_jobs_with_overlapping_ids_and_a_reader(tmp_path, publish_tiny):
    """Two processes embed overlapping parts of one table; a reader looks on all the while."""
    from trunkline_service.collections.store import CollectionStore
    from trunkline_service.errors import CollectionNotFound

    publish_tiny(tmp_path / "models")
    photos = support.make_photos(tmp_path / "photos", 300)
    paths = sorted(photos.rglob("*.jpg"))
    tables = []
    for name, part in (("a", paths[:200]), ("b", paths[100:]), ("all", paths)):
        table = tmp_path / f"{name}.csv"
        table.write_text("id,path,label\n" + "".join(f"{p.stem},{p},{p.parent.name}\n" for p in part))
        tables.append(str(table))
    job = ["--model", "tiny", *OFTEN, "--into"]
    processes = [
        subprocess.Popen(
            [*support.CLI, "embed", table, *job, "both"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for table in tables[:2]
    ]
    seen = 0
    try:
        while any(process.poll() is None for process in processes):
            try:
                collection = CollectionStore(tmp_path / "data").open("both")
                matrix = collection.matrix()
            except CollectionNotFound:
                continue
            ids = matrix.ids.to_pylist()
            assert len(set(ids)) == len(ids), "a reader saw a row twice"
            # What was there once never goes away, and every row is whole.
            assert len(ids) >= seen
            assert all(matrix.labels.to_pylist())
            seen = len(ids)
        for process in processes:
            _, said = process.communicate()
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stderr.close()
    support.run_to_its_end(["embed", tables[2], *job, "straight"], tmp_path)
    wanted = support.rows_of(tmp_path / "data", "straight")
    support.assert_same_rows(support.rows_of(tmp_path / "data", "both"), wanted)


def test_interrupted_once_a_job_stores_what_it_began_and_says_how_to_go_on(tmp_path, publish_tiny):
    import signal

    publish_tiny(tmp_path / "models")
    photos = support.make_photos(tmp_path / "photos", 1500)
    job = ["embed", str(photos), "--model", "tiny", "--into", "c", "--json"]
    process = subprocess.Popen(
        [*support.CLI, *job], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if '"progress"' in line:
                break
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    result = json.loads(printed)
    if not result["stopped"]:
        pytest.skip("the job ended before the signal came")
    assert process.returncode == 130
    assert "To go on later: trunkline embed" in said
    stored = len(support.rows_of(tmp_path / "data", "c"))
    assert stored == result["embedded"]
    again = subprocess.run([*support.CLI, *job], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["unchanged"] == stored


SCRIPT = """
import subprocess, sys
home, photos, *command = sys.argv[1:]
def mount(*options):
    subprocess.run(["mount", *options], check=True)
mount("-t", "tmpfs", "-o", "size=700k", "tmpfs", home + "/data")
first = subprocess.run([*command, "embed", photos, "--model", "tiny", "--into", "c", "--commit-rows", "100"],
                       cwd=home, capture_output=True, text=True)
print(first.returncode, first.stderr.replace("\\n", " "), flush=True)
mount("-o", "remount,size=64m", home + "/data")
second = subprocess.run([*command, "embed", photos, "--model", "tiny", "--into", "c", "--json"],
                        cwd=home, capture_output=True, text=True)
print(second.returncode, second.stderr.replace("\\n", " "), flush=True)
subprocess.run(["cp", "-r", home + "/data/.", home + "/kept"], check=True)
"""


@pytest.mark.slow
def test_a_full_disk_is_said_and_after_room_is_made_the_result_is_whole(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    photos = support.make_photos(tmp_path / "photos", 1500)
    (tmp_path / "data").mkdir()
    (tmp_path / "kept").mkdir()
    # A mount of its own, seen by nobody else, gone with the process.
    inside = ["unshare", "--map-root-user", "--mount", sys.executable, "-c", SCRIPT]
    probe = subprocess.run([*inside[:3], "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this machine lets no user make a mount namespace")
    done = subprocess.run(
        [*inside, str(tmp_path), str(photos), *support.CLI], capture_output=True, text=True, check=False
    )
    if "permission denied" in done.stderr.lower():
        pytest.skip("this machine lets no user mount a tmpfs")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("1 "), first
    assert "full" in first
    assert second.startswith("0 "), second
    subprocess.run(
        [*support.CLI, "embed", str(photos), "--model", "tiny", "--into", "c", "--data", "straight"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    kept, straight = support.rows_of(tmp_path / "kept", "c"), support.rows_of(tmp_path / "straight", "c")
    support.assert_same_rows(kept, straight)
