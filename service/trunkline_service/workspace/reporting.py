"""A head's report: made when the head is fitted, saved beside its card, and read again."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from trunkline_service.errors import FailedPrecondition, HeadNotFound, TrunklineError
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.report.build import build_report
from trunkline_service.heads.report.previous import PreviousHead
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.heads.training.folds import make_folds
from trunkline_service.heads.training.training_set import TrainingSet

_log = logging.getLogger(__name__)

NO_REPORT = "it has no report"
"""How the note of a head begins whose report could not be made or saved."""

CURVE_ROWS = 200_000
"""With more rows there is no learning curve: its fits would take long, and more labels bring little."""


def make_report(
    heads: HeadRegistry,
    name: str,
    data: TrainingSet,
    fitted: FittedHead,
    options: FitOptions,
    *,
    warm: bool,
    progress: Callable[[float], None],
) -> tuple[FittedHead, bytes | None]:
    """The report of a head that is to be saved, or where none can be made, the head with a note that says why.

    Args:
        heads: Holds the version that serves, to compare with.
        name: Of the head.
        data: What it was fitted on.
        fitted: The head.
        options: Of the fit.
        warm: Whether it started from an earlier version: then there is no learning curve, whose fits would
            take many times as long.
        progress: Told the share that is done. What it raises is raised here.
    """
    told = _Told(progress)
    told(0.0)
    try:
        previous, notes = _serving(heads, name)
        report = build_report(
            data,
            dataclasses.replace(fitted, notes=(*fitted.notes, *notes)),
            make_folds(data, options.folds, options.seed),
            previous,
            options=options,
            curve=not warm and len(data) <= CURVE_ROWS,
            progress=told,
        )
        if told.raised is not None:
            raise told.raised
        if warm:
            left_out = "no learning curve: it is left out where a fit starts from an earlier version"
            report = dataclasses.replace(report, notes=(*report.notes, left_out))
        document = report.dumps().encode()
    except (TrunklineError, MemoryError) as exc:
        if exc is told.raised:
            raise
        return dataclasses.replace(fitted, notes=(*fitted.notes, f"{NO_REPORT}: {_why(exc)}")), None
    told(1.0)
    return fitted, document


def save_report(heads: HeadRegistry, card: HeadCard, report: bytes) -> HeadCard:
    """Puts a report beside its card; gives the card, with a note where that failed: the head itself stays."""
    try:
        heads.write_report(card.ref, report)
    except TrunklineError as exc:
        _log.warning("head %s was saved without its report: %s", card.ref, exc)
        return dataclasses.replace(card, notes=(*card.notes, f"{NO_REPORT}: {exc}"))
    return card


def read_report(heads: HeadRegistry, head: str) -> tuple[HeadCard, Report]:
    """See `Workspace.head_report`."""
    card = heads.entry(head).card
    document = heads.read_report(card.ref)
    if document is None:
        raise FailedPrecondition(f"head {card.ref} has no report: {_missing(card)}")
    return card, Report.loads(document, f"the report of head {card.ref}")


class _Told:
    """Passes shares on, and remembers what that raised: it ends the fit, and is no fault of the report's."""

    def __init__(self, progress: Callable[[float], None]) -> None:
        self.raised: BaseException | None = None
        self._progress = progress

    def __call__(self, share: float) -> None:
        try:
            self._progress(share)
        except BaseException as exc:
            self.raised = exc
            raise


def _serving(heads: HeadRegistry, name: str) -> tuple[PreviousHead | None, tuple[str, ...]]:
    """The version that serves, if there is one; and a note where it can't be asked."""
    try:
        if heads.pointer(name).serving is None:
            return None, ()
        head = heads.load(name)
    except HeadNotFound:
        return None, ()
    except FailedPrecondition as exc:
        return None, (f"not compared with the version that serves: {exc}",)
    return PreviousHead(head.card, lambda rows: head.outputs(rows, head.card.space_id)), ()


def _missing(card: HeadCard) -> str:
    if not card.collection:
        return "it was not fitted on a collection; a report is made when a head is"
    again = f"trunkline heads fit {card.collection} --name {card.name} --kind {card.kind}"
    target = "" if card.target == "label" else f" --target {card.target}"
    return (
        "it was fitted without one, or by an older Trunkline, or its notes say why ('trunkline heads show'); fit it "
        f"again: {again}{target}"
    )


def _why(exc: Exception) -> str:
    # Python's own MemoryError says nothing.
    return str(exc) or "not enough memory"
