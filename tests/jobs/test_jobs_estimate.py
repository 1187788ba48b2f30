"""What a job would cost: the sample is fair, the sums are right, nothing is stored."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest

from trunkline_service.errors import NotEnoughData
from trunkline_service.jobs.estimate import SAMPLE, estimate, sample
from trunkline_service.jobs.plan import Listed, Task
from trunkline_service.jobs.sources import GivenSource, SourceItem


def task(name):
    return Task(SourceItem(name, name, lambda _limit: b""), False)


def test_every_item_has_the_same_chance():
    counts = Counter(
        item.id for seed in range(400) for item in sample((task(str(n)) for n in range(256)), seed)
    )
    # 400 draws of 64 of 256: 100 each, with a standard deviation below 9.
    assert len(counts) == 256
    assert 55 < min(counts.values()) <= max(counts.values()) < 145


def test_a_small_source_is_sampled_whole():
    assert [item.id for item in sample([task("a"), task("b")])] == ["a", "b"]
    assert len(sample(task(str(n)) for n in range(1000))) == SAMPLE


def test_times_add_up_and_the_bottleneck_is_named(workspace, solid_image):
    """A clock that advances one second at every look makes every stage's cost known."""
    ticks = itertools.count()
    items = list(GivenSource([(str(n), solid_image(n), {}) for n in range(4)]).items())
    listed = Listed(tasks=1000, unchanged=5, failed_before=2, complete=True)
    found = estimate(
        items,
        listed,
        workspace.models.get("tiny"),
        workspace.spec_for("c"),
        workspace.settings,
        readers=16,
        clock=lambda: float(next(ticks)),
    )
    # One second for four images in each stage: decoding on two threads, the model for all, one after the other.
    assert (found.read_ms, found.infer_ms) == (250, 250)
    assert found.modes["exact"].decode_ms == found.modes["fast"].decode_ms == 250
    assert found.modes["exact"].images_per_second == pytest.approx(1 / 0.375)
    assert found.modes["exact"].seconds == pytest.approx(375)
    assert found.modes["exact"].bottleneck == "device"
    assert (found.images, found.unchanged, found.failed_before, found.sampled) == (1000, 5, 2, 4)
    assert 1000 * 48 * 4 < found.collection_bytes < 1000 * 48 * 4 + 1000 * 500


def test_a_sample_of_which_nothing_can_be_used_is_said(workspace):
    items = list(GivenSource([("a", b"no image", {})]).items())
    with pytest.raises(NotEnoughData, match="unsupported_image"):
        estimate(
            items,
            Listed(tasks=1),
            workspace.models.get("tiny"),
            workspace.spec_for("c"),
            workspace.settings,
            readers=16,
        )


def test_a_dry_run_stores_nothing(photos, workspace, capsys):
    from trunkline_service.cli.app import trunkline_command

    arguments = ["embed", str(photos), "--into", "c", "--model", "tiny", "--dry-run", "--json"]
    places = ["--models", workspace.settings.models, "--data", workspace.settings.data]
    trunkline_command.main([*arguments, *places], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["sampled"]) == (5, 5)
    assert set(found["modes"]) == {"exact", "fast"}
    assert workspace.collections.names() == []
