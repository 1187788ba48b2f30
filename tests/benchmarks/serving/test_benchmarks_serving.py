"""The arithmetic of the table, and that a server that hangs loses nothing but its own row."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.benchmarks.serving import made, report
from tests.benchmarks.serving.bench import with_restarts
from tests.benchmarks.serving.processes import Ended, Hung, said

Row = dict[str, Any]
FIGURES = {
    "p50": 2.0,
    "p99": 3.0,
    "server_ms_img": 1.0,
    "server_cores": 1.0,
    "peak_rss_mb": 1.0,
    "pss_mb": 1.0,
}


def raw(number: int, decode: str = "exact", **ways: float) -> Row:
    """A ceiling of ways by their images a second."""
    about = {"kind": "raw", "part": "table", "network": "free", "decode": decode, "round": number}
    return about | {"alone_ms": 1.5, "ways": {way: {"img_s": rate} for way, rate in ways.items()}}


def served(number: int, img_s: float, server: str = "trunkline", **more: Any) -> Row:
    """A load at 16 callers."""
    about = {"kind": "served", "part": "table", "network": "free", "server": server, "decode": "exact"}
    cell = {"c": 16, "images": 1, "round": number, "grpc": True, "other_cores": 0.0, "errors": 0, "n": 1}
    return about | FIGURES | cell | {"img_s": img_s} | more


def cells(line: str) -> dict[str, str]:
    """A row of the table, by column."""
    return dict(zip(report.COLUMNS, [cell.strip() for cell in line.strip("|").split("|")], strict=True))


@given(rate=st.floats(1, 1e5), call_ms=st.floats(0, 10), images=st.integers(1, 64), cores=st.integers(1, 128))
def test_a_charged_ceiling_spends_the_time_of_raw_and_of_the_call(
    rate: float, call_ms: float, images: int, cores: int
) -> None:
    found = report.charged(rate, call_ms, images, cores)
    # In a second all cores together do so many images' raw work and their calls.
    spent = found * (cores / rate + call_ms / 1000 / images)
    assert spent == pytest.approx(cores)
    assert found <= rate * (1 + 1e-12)


def test_the_ceiling_is_the_way_with_the_best_median_and_shares_are_of_their_own_round() -> None:
    raws = [raw(0, lucky=900, steady=400), raw(1, lucky=100, steady=420), raw(2, lucky=110, steady=500)]
    assert report.best_way(raws) == "steady"
    rows = [*raws, served(0, 200), served(1, 210), served(2, 250)]
    line = cells(list(report.served_table(rows, "table", 2))[2])
    assert line["of raw"] == "0.50"
    assert line["asked"] == "0.76 / 0.97"


def test_a_share_is_of_raw_with_the_same_decode_and_http_is_not_charged_with_a_grpc_call() -> None:
    rows = [raw(0, way=400), raw(0, decode="peers", way=1000)]
    null = {"kind": "null", "part": "table", "c": 16, "images": 1, "round": 0}
    rows.append(null | {"server_ms_img": 0.4, "gen_ms_img": 0.6, "p50": 1.0})
    rows.append(served(0, 300))
    rows.append(served(0, 500, server="other", decode="peers", grpc=False))
    other, own = [cells(line) for line in list(report.served_table(rows, "table", 2))[2:]]
    assert (other["server"], other["of raw"], other["of raw + call"]) == ("other", "0.50", "")
    # 400 images/s on 2 cores are 5 ms of processor each; with the call 6.
    assert (own["of raw"], own["of raw + call"]) == ("0.75", "0.90")


def test_a_disturbed_load_counts_only_where_no_other_is_left() -> None:
    rows = [raw(0, way=100), raw(1, way=100), served(0, 10, other_cores=0.9), served(1, 90)]
    (line,) = list(report.served_table(rows, "table", 2))[2:]
    assert cells(line)["img/s"] == "90.0"
    assert "noisy" not in line
    (line,) = list(report.served_table(rows[:3], "table", 2))[2:]
    assert "noisy" in line


def test_a_server_that_never_answered_stands_in_the_table_with_its_reason() -> None:
    rows = [raw(0, way=100), served(0, 10) | {"failed": "hung: nothing for 60 s"}]
    (line,) = list(report.served_table(rows, "table", 2))[2:]
    assert "hung: nothing for 60 s" in line
    # With one good round the row stays, and says how many failed.
    (line,) = list(report.served_table([*rows, raw(1, way=100), served(1, 50)], "table", 2))[2:]
    assert cells(line)["errors"] == "0, 1 rounds failed"


def test_a_hung_load_is_said_and_the_others_follow_after_a_restart() -> None:
    starts: list[list[int]] = []

    def attempt(left: Sequence[int]) -> Iterator[Row]:
        starts.append(list(left))
        for c in left:
            yield {"c": c, "begins": True}
            if c == 16:
                raise Hung("nothing for 60 s")
            yield {"c": c, "img_s": 1.0}

    rows = list(with_restarts((1, 16, 64), attempt))
    assert [(row["c"], "failed" in row) for row in rows] == [(1, False), (16, True), (64, False)]
    assert starts == [[1, 16, 64], [64]]


def test_a_server_that_does_not_start_fails_every_load_once() -> None:
    def attempt(left: Sequence[int]) -> Iterator[Row]:
        raise Ended("ended with 1: no such model")
        yield {}

    rows = list(with_restarts((1, 16), attempt))
    assert [row["c"] for row in rows] == [1, 16]
    assert all("no such model" in row["failed"] for row in rows)


def test_a_process_that_says_nothing_is_ended(tmp_path: Path) -> None:
    silent = "import sys, threading; print('{\"pid\": ' + str(__import__('os').getpid()) + '}', flush=True); "
    silent += "threading.Event().wait()"
    rows = said([sys.executable, "-c", silent], tmp_path / "log", patience=1.0)
    pid = next(rows)["pid"]
    with pytest.raises(Hung):
        next(rows)
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_failed_leaves_its_reason(tmp_path: Path) -> None:
    with pytest.raises(Ended, match="no peers here"):
        list(
            said([sys.executable, "-c", "raise SystemExit('no peers here')"], tmp_path / "log", patience=60.0)
        )


@given(images=st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=9), count=st.integers(1, 20))
def test_every_image_stands_in_as_many_calls(images: list[bytes], count: int) -> None:
    groups = made.groups(images, count)
    assert {len(group) for group in groups} == {count}
    every = [data for group in groups for data in group]
    assert sorted(every) == sorted(images * count)
