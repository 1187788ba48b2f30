"""Fitting in a workspace: options, candidates, one at a time, and ending early."""

from __future__ import annotations

import threading

import pytest

from trunkline_service.errors import (
    Cancelled,
    CollectionNotFound,
    HeadNotFound,
    InvalidArgument,
    ModelFileError,
    NotEnoughData,
    Overloaded,
    StorageError,
)
from trunkline_service.heads.options import FitOptions


@pytest.fixture
def shades(store_rows):
    return store_rows("shades")


def test_a_fit_is_saved_and_serves(workspace, shades):
    steps = []
    card = workspace.fit_head("shades", "h", progress=lambda *step: steps.append(step))
    assert (card.ref, card.kind, card.collection, card.target) == ("h@1", "logistic", "shades", "label")
    assert card.metrics.accuracy == 1.0
    assert workspace.heads.card("h") == card
    assert list(dict.fromkeys(stage for stage, _ in steps)) == ["reading", "fitting", "reporting", "saving"]
    shares = [share for stage, share in steps if stage == "fitting"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_options_and_columns_reach_the_fit(workspace, shades):
    card = workspace.fit_head(
        "shades", "price", "ridge", FitOptions(folds=3, transform="none"), target="price", group="label"
    )
    assert (card.task, card.target, card.classes) == ("regression", "price", ("price",))
    assert card.hyper_parameters["transform"] == "none"
    assert workspace.fit_head("shades", "odd", "anomaly").task == "anomaly"


def test_a_test_split_is_left_for_the_end(workspace, shades):
    shades.relabel({f"r{index}": "held" for index in range(4)}, "split")
    card = workspace.fit_head("shades", "h", "centroid", test_split="held")
    assert (card.rows, card.test_metrics.n) == (16, 4)
    assert workspace.fit_head("shades", "h", "centroid").rows == 20


def test_a_candidate_is_saved_beside_what_serves(workspace, shades):
    workspace.fit_head("shades", "h", "centroid")
    card = workspace.fit_head("shades", "h", "centroid", promote=False)
    assert card.version == 2
    assert workspace.heads.card("h").version == 1
    assert [entry.versions for entry in workspace.list_heads()] == [(1, 2)]


def test_a_warm_fit_starts_from_what_serves(workspace, shades):
    first = workspace.fit_head("shades", "h")
    shades.relabel({"r0": "light"})
    again = workspace.fit_head("shades", "h", warm=True)
    assert again.version == 2
    assert again.hyper_parameters["C"] == first.hyper_parameters["C"]
    assert again.training_hash != first.training_hash
    with pytest.raises(HeadNotFound):
        workspace.fit_head("shades", "unknown", warm=True)


def test_what_progress_raises_ends_the_fit_and_nothing_is_saved(workspace, shades):
    before = workspace.fit_head("shades", "h")

    def stop_at(stage, least):
        def stop(now, share):
            if now == stage and share >= least:
                raise Cancelled("enough")

        return stop

    for stage, share in (("reading", 0.0), ("fitting", 0.0), ("fitting", 0.3), ("saving", 0.0)):
        with pytest.raises(Cancelled, match="enough"):
            workspace.fit_head("shades", "h", progress=stop_at(stage, share))
        assert workspace.heads.versions("h") == [1]
        assert workspace.heads.load("h").card == before
    assert workspace.fit_head("shades", "h").version == 2


def test_one_fit_runs_at_a_time(workspace, shades):
    inside, go = threading.Event(), threading.Event()

    def hold(stage, share):
        inside.set()
        assert go.wait(60)

    slow = threading.Thread(target=lambda: workspace.fit_head("shades", "slow", "centroid", progress=hold))
    slow.start()
    try:
        assert inside.wait(60)
        with pytest.raises(Overloaded, match="head 'h' has to wait") as caught:
            workspace.fit_head("shades", "h", "centroid")
        assert caught.value.retry_after_s > 0
        with pytest.raises(Overloaded):
            workspace.switch("shades", "shades")
    finally:
        go.set()
        slow.join()
    assert workspace.fit_head("shades", "h", "centroid").version == 1
    assert workspace.heads.names() == ["h", "slow"]


def test_a_fit_that_failed_lets_the_next_one_in(workspace, shades):
    with pytest.raises(CollectionNotFound):
        workspace.fit_head("absent", "h")
    with pytest.raises(InvalidArgument, match="can't name a head"):
        workspace.fit_head("shades", "../h")
    with pytest.raises(InvalidArgument, match="no kind of head is called 'magic'"):
        workspace.fit_head("shades", "h", "magic")
    shades.relabel_where("same", "true")
    with pytest.raises(NotEnoughData):
        workspace.fit_head("shades", "h")
    assert workspace.heads.names() == []


def test_a_full_disk_leaves_what_serves(workspace, shades, monkeypatch):
    import errno
    import os

    before = workspace.fit_head("shades", "h", "centroid")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        workspace.fit_head("shades", "h", "centroid")
    monkeypatch.undo()
    assert workspace.heads.load("h").card == before
    assert workspace.fit_head("shades", "h", "centroid").version == 2


def test_a_broken_head_is_left_out_of_the_list(workspace, shades, tmp_path, caplog):
    workspace.fit_head("shades", "good", "centroid")
    workspace.fit_head("shades", "bad", "centroid")
    (tmp_path / "data" / "heads" / "bad" / "1" / "card.json").write_text("{")
    assert [entry.card.name for entry in workspace.list_heads()] == ["good"]
    assert "head bad" in caplog.text


def test_a_broken_pointer_ends_a_fit_before_it_begins(workspace, shades, tmp_path):
    workspace.fit_head("shades", "h", "centroid")
    (tmp_path / "data" / "heads" / "h" / "pointer.json").write_text("{")
    steps = []
    with pytest.raises(ModelFileError, match=r"Or delete heads/h/pointer\.json"):
        workspace.fit_head("shades", "h", "centroid", progress=lambda *step: steps.append(step))
    assert steps == []


def test_a_switch_promotes_no_candidate_and_stops_at_no_broken_head(
    workspace, store_rows, shades, tmp_path, caplog
):
    store_rows("doubled", model="double")
    workspace.fit_head("shades", "candidate", "centroid", promote=False)
    workspace.fit_head("shades", "serving", "centroid", group="label", test_split="held", report=False)
    workspace.fit_head("shades", "broken", "centroid")
    (tmp_path / "data" / "heads" / "broken" / "pointer.json").write_text("{")
    done = workspace.switch("shades", "doubled")
    assert {head.after.ref for head in done.heads} == {"candidate@2", "serving@2"}
    assert workspace.heads.pointer("candidate").serving is None
    card = workspace.heads.card("serving")
    assert (card.version, card.group, card.test_split) == (2, "label", "held")
    assert "head broken is left as it is" in caplog.text
