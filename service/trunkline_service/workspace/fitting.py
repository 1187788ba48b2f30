"""A collection's labels -> the next version of a head."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument, Overloaded
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fit import fit
from trunkline_service.heads.kinds.warm import Previous
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.serving.loaded import LoadedHead
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.heads.task import Task
from trunkline_service.heads.training.stored import training_set
from trunkline_service.workspace.reporting import make_report, save_report

Stage: TypeAlias = Literal["reading", "fitting", "reporting", "saving", "comparing"]
StageProgress: TypeAlias = Callable[[Stage, float], None]
"""Called with the stage and the share of it that is done. What it raises ends the fit, and nothing is saved."""

_RETRY_AFTER_S = 2.0


class OneAtATime:
    """Lets one fit in at a time: a fit takes all cores, and its rows may take most of the memory."""

    def __init__(self) -> None:
        self._free = threading.Lock()

    @contextmanager
    def turn(self, what: str) -> Iterator[None]:
        """Inside it nobody else is.

        Raises:
            Overloaded: Somebody is inside.
        """
        if not self._free.acquire(blocking=False):
            raise Overloaded(
                f"{what} has to wait: another head is being fitted here, or asked what to label, one at a time; "
                f"try again in {_RETRY_AFTER_S:.0f} s",
                retry_after_s=_RETRY_AFTER_S,
            )
        try:
            yield
        finally:
            self._free.release()


def fit_head(
    store: CollectionStore,
    heads: HeadRegistry,
    collection: str,
    name: str,
    kind: str,
    options: FitOptions,
    *,
    target: str,
    group: str | None,
    test_split: str,
    promote: bool,
    warm: bool,
    report: bool,
    progress: StageProgress | None,
) -> HeadCard:
    """See `Workspace.fit_head`."""
    told: StageProgress = progress or (lambda _stage, _share: None)
    # Before hours are spent: what can't be read now can't be moved then.
    heads.check_pointer(name)
    told("reading", 0.0)
    previous = _previous(heads.load(name)) if warm else None
    # An anomaly head needs no labels; what else is learned is told by the column.
    task: Task | None = "anomaly" if kind == "anomaly" else None
    data = training_set(store, collection, task=task, target=target, group=group, test_split=test_split)
    told("fitting", 0.0)
    fitted = fit(kind, data, options, lambda share: told("fitting", share), previous)
    fitted = dataclasses.replace(fitted, group=group or "", test_split=test_split)
    document = None
    if report:
        # Before it is saved: what is compared with is the version that serves until then.
        fitted, document = make_report(
            heads, name, data, fitted, options, warm=warm, progress=lambda share: told("reporting", share)
        )
    told("saving", 0.0)
    card = heads.save(fitted, name, promote=promote)
    return card if document is None else save_report(heads, card, document)


def _previous(head: LoadedHead) -> Previous:
    card, network = head.card, head.linear
    if network is None:
        raise InvalidArgument(
            f"head {card.ref} is of kind {card.kind!r}, which is always fitted afresh; leave the earlier version out"
        )
    return Previous(
        ref=card.ref,
        kind=card.kind,
        network=network,
        classes=card.classes,
        temperature=card.temperature,
        hyper_parameters=card.hyper_parameters,
        space_id=card.space_id,
    )
