"""The same job with its collection, and its source, in an object store; killed and run again."""

from __future__ import annotations

import random

import pytest
from tests.end_to_end import jobs_support as support

OFTEN = ("--commit-seconds", "0.2", "--commit-rows", "64")


@pytest.mark.slow
def test_a_job_into_s3_is_killed_and_goes_on(tmp_path, publish_tiny, s3_bucket, s3_environment):
    publish_tiny(tmp_path / "models")
    photos = support.make_photos(tmp_path / "photos", 300, bad_every=50)
    job = ["embed", str(photos), "--model", "tiny", *OFTEN, "--into", "c"]
    support.run_to_its_end([*job, "--data", "straight"], tmp_path)
    chance = random.Random(11)
    away = [*job, "--data", f"{s3_bucket}/data"]
    # The first job has the most to do; there may be less for the others than they are to die of.
    most = support.commits_of(300)
    ends = [support.run_and_kill(away, tmp_path, chance, most, env=s3_environment) for _ in range(3)]
    assert not ends[0], "the first job was not killed before its end"
    support.run_to_its_end(away, tmp_path, env=s3_environment)
    wanted = support.rows_of(tmp_path / "straight", "c")
    support.assert_same_rows(support.rows_of(f"{s3_bucket}/data", "c"), wanted)


@pytest.mark.slow
def test_a_source_in_s3_gives_the_rows_of_the_same_folder(tmp_path, publish_tiny, s3_bucket, s3_environment):
    from pyarrow import fs

    publish_tiny(tmp_path / "models")
    photos = support.make_photos(tmp_path / "photos", 60, bad_every=20)
    store, bucket = fs.FileSystem.from_uri(s3_bucket)
    for path in photos.rglob("*.jpg"):
        with store.open_output_stream(f"{bucket}/p/{path.relative_to(photos).as_posix()}") as stream:
            stream.write(path.read_bytes())
    job = ["--model", "tiny", "--into", "c", "--data"]
    support.run_to_its_end(["embed", f"{s3_bucket}/p", *job, "away"], tmp_path, env=s3_environment)
    support.run_to_its_end(["embed", str(photos), *job, "here"], tmp_path)
    away, here = (support.rows_of(tmp_path / data, "c") for data in ("away", "here"))
    for row in (*away, *here):
        # Where it lies and when it was put there differ.
        assert row.pop("source").endswith(row["id"])
        del row["mtime"], row["etag"]
    support.assert_same_rows(away, here)
