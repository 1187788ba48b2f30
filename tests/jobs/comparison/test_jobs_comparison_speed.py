"""The timing of a comparison: rounds in turn, full queues, the sample."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.jobs.comparison.conftest import card

from trunkline_service.errors import CorruptImage, Overloaded, UnreadableFile
from trunkline_service.jobs.comparison.speed import images_per_second, read_sample
from trunkline_service.jobs.sources import FolderSource
from trunkline_service.settings import QueueLimits


class Ticks:
    """A clock that passes so many seconds between the two looks at it that make a pass."""

    def __init__(self, *passes):
        self._looks = iter(
            [*itertools.accumulate(itertools.chain.from_iterable((0, taken) for taken in passes))]
        )

    def __call__(self):
        return next(self._looks)


def listed(folder):
    return sorted(FolderSource(folder).items(), key=lambda item: item.id)


def test_models_take_turns_and_the_median_round_after_the_first_counts(workspace, photos):
    images = read_sample(listed(photos), [card(workspace, "tiny")], workspace.settings.queue)
    done = []
    measured = images_per_second(
        workspace,
        ["tiny@1", "double@1"],
        images,
        # tiny, double, tiny, double, ...: 100 s of warming up, then rounds.
        Ticks(100, 100, 1, 10, 4, 40, 2, 20),
        pytest.fail,
        lambda *step: done.append(step),
    )
    assert measured == [len(images) / 2, len(images) / 20]
    assert done == [(number, 8) for number in range(1, 9)]


def test_a_full_queue_is_waited_for_and_the_wait_is_not_timed(workspace, photos, monkeypatch):
    images = read_sample(listed(photos), [card(workspace, "tiny")], workspace.settings.queue)
    real, waits = workspace.engine.embed, []

    def embed(*arguments):
        if not waits:
            raise Overloaded("full", retry_after_s=3.0)
        return real(*arguments)

    monkeypatch.setattr(workspace.engine, "embed", embed)
    # The refused attempt looks at the clock once.
    looks = iter([0, 50, 51, 51, 52, 52, 53, 53, 54])
    assert images_per_second(
        workspace, ["tiny@1"], images, lambda: next(looks), waits.append, lambda done, total: None
    ) == [len(images)]
    assert waits == [3.0]


def test_a_sample_is_spread_over_the_folder_and_fits_the_queue(workspace, photos):
    cards = [card(workspace, "tiny")]
    items = listed(photos)
    few = read_sample(items, cards, QueueLimits(max_images=8))
    assert [image.data for image in few] == [Path(item.source).read_bytes() for item in items[::10]]
    # An image waits in the queue decoded, 32 x 32 x 3 bytes, or as it came, whichever is more.
    cost = max(32 * 32 * 3, *(item.size for item in items))
    assert len(read_sample(items, cards, QueueLimits(max_bytes=6 * cost))) == 3
    assert len(read_sample(items, cards, QueueLimits(max_bytes=1))) == 1


def test_a_sample_does_without_files_that_are_gone(workspace, photos):
    items = listed(photos)
    for item in items[1:]:
        Path(item.source).unlink()
    cards = [card(workspace, "tiny")]
    assert len(read_sample(items, cards, QueueLimits())) == 1
    Path(items[0].source).unlink()
    with pytest.raises(UnreadableFile, match="none of 40 images"):
        read_sample(items, cards, QueueLimits())


def test_an_image_that_fails_while_being_timed_ends_the_comparison(workspace, photos, monkeypatch):
    failing = SimpleNamespace(errors={0: CorruptImage("on purpose")})
    monkeypatch.setattr(workspace.engine, "embed", lambda *_: failing)
    images = read_sample(listed(photos), [card(workspace, "tiny")], workspace.settings.queue)
    with pytest.raises(CorruptImage, match="on purpose"):
        images_per_second(workspace, ["tiny"], images, Ticks(*range(1, 9)), pytest.fail, lambda *_: None)
