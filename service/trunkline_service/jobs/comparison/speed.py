"""How fast models embed a folder's images on this machine, decoding included."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from trunkline_service.batching.engine import Caller
from trunkline_service.batching.request import cost_of
from trunkline_service.errors import ImageError, Overloaded, UnreadableFile
from trunkline_service.images.inputs import EncodedImage
from trunkline_service.jobs.sources import SourceItem
from trunkline_service.models.card import ModelCard
from trunkline_service.settings import QueueLimits
from trunkline_service.workspace import Workspace

_SAMPLE = 64
_ROUNDS = 3
# More than any limit of images: every model embedded these.
_MOST_BYTES = 2**31
# Of both bounds of the queue; bulk work is admitted to more than that, so a sample is one request.
_QUEUE_SHARE = 0.5


def read_sample(
    items: Sequence[SourceItem], cards: Sequence[ModelCard], limits: QueueLimits
) -> list[EncodedImage]:
    """A few images from the beginning to the end of the folder, in memory: disks are not what is compared.

    Args:
        items: Images that every model could embed.
        cards: Of the models.
        limits: Of the engine's queue, which the sample must fit into.

    Raises:
        UnreadableFile: Not one of them can be read any more.
    """
    most = min(_SAMPLE, len(items), max(1, int(limits.max_images * _QUEUE_SHARE)))
    room = int(limits.max_bytes * _QUEUE_SHARE)
    sample: list[EncodedImage] = []
    for number in range(most):
        item = items[number * len(items) // most]
        try:
            image = EncodedImage(item.read(_MOST_BYTES))
        except ImageError:
            continue
        room -= max(cost_of(image, card.preprocess) for card in cards)
        if room < 0 and sample:
            break
        sample.append(image)
    if not sample:
        raise UnreadableFile(
            f"none of {most} images can be read again to time the models; leave the folder as it is until the end"
        )
    return sample


def images_per_second(
    workspace: Workspace,
    references: Sequence[str],
    images: Sequence[EncodedImage],
    clock: Callable[[], float],
    pause: Callable[[float], None],
    progress: Callable[[int, int], None],
) -> list[float]:
    """Images a second of each model, one request at a time, through the workspace's engine.

    The models take turns, so that whatever else the machine does meanwhile slows them all. The median of
    the rounds counts, after one that does not.

    Args:
        workspace: Models and engine.
        references: ``name@version`` of each model.
        images: At least one.
        clock: Monotonic seconds.
        pause: Waits so many seconds; asked when others fill the engine's queue.
        progress: Called with the passes done and to do.
    """
    seconds: list[list[float]] = [[] for _ in references]
    for turn in range(1 + _ROUNDS):
        for position, reference in enumerate(references):
            seconds[position].append(_pass(workspace, reference, images, clock, pause))
            progress(turn * len(references) + position + 1, (1 + _ROUNDS) * len(references))
    return [len(images) / statistics.median(taken[1:]) for taken in seconds]


def _pass(
    workspace: Workspace,
    reference: str,
    images: Sequence[EncodedImage],
    clock: Callable[[], float],
    pause: Callable[[float], None],
) -> float:
    while True:
        began = clock()
        try:
            embedded = workspace.engine.embed(reference, images, Caller(lane="bulk"))
            seconds = clock() - began
        except Overloaded as busy:
            pause(busy.retry_after_s)
            continue
        for error in embedded.errors.values():
            # All of these were embedded before; an image that fails is no image embedded fast.
            raise error
        return seconds
