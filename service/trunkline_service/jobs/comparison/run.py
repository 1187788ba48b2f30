"""Compares models as backbones for one folder: same images, same folds, same kind of head."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.jobs.comparison.judge import KIND, Judged, failed_images, judge, merged, pair
from trunkline_service.jobs.comparison.pick import Standing, pick, ranked, reason
from trunkline_service.jobs.comparison.plan import Contender, check_labels, has_label, line_up, same_files
from trunkline_service.jobs.comparison.result import Compared, Comparison, LeftOut, Paired
from trunkline_service.jobs.comparison.speed import images_per_second, read_sample
from trunkline_service.jobs.local import LocalTarget
from trunkline_service.jobs.options import JobOptions, JobResult
from trunkline_service.jobs.pipeline import IN_FLIGHT
from trunkline_service.jobs.run import run
from trunkline_service.jobs.sources import Source, SourceItem
from trunkline_service.workspace import Workspace


@dataclass(frozen=True)
class Step:
    """How far a comparison is.

    Attributes:
        stage: What is being done.
        model: With which model, ``name@version``; empty where all take turns.
        done: Models, images, percent or passes.
        total: Of so many.
    """

    stage: Literal["loading", "embedding", "evaluating", "timing"]
    model: str
    done: int
    total: int


@dataclass(frozen=True, eq=False)
class _Entry:
    """All about one model, before the ranking."""

    contender: Contender
    job: JobResult
    failed: Mapping[str, str]
    judged: Judged
    images_per_second: float

    @property
    def standing(self) -> Standing:
        card = self.contender.card
        return Standing(
            card.reference, self.judged.evaluation.accuracy, self.images_per_second, card.artifact.bytes
        )


def compare(
    workspace: Workspace,
    source: Source,
    models: Sequence[str],
    into: str,
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[Step], None] = lambda _step: None,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Comparison:
    """Embeds a folder with each model and evaluates the same head on the same folds of the same images.

    The vectors stay, in a collection ``<into>-<model>`` for each model, so that a second run embeds only
    what is new. Splits are not used: every image is judged once, by a head that had not seen it.

    Args:
        workspace: Models and data.
        source: The folder; its labels are what is learned.
        models: ``name`` or ``name@version``, each once.
        into: Beginning of the collections' names.
        folds: Of the cross-validation; fewer are used, with a note, if the smallest class is smaller.
        seed: Of the folds.
        progress: Told how far it is.
        clock: Monotonic seconds.
        pause: Waits so many seconds; asked when others fill the engine's queue.

    Raises:
        InvalidArgument, ModelNotFound, NotEnoughData, FailedPrecondition: See ``line_up``; nothing was
            embedded.
        ModelFileError, SettingsError: A model can't be loaded; nothing was embedded.
        TrunklineError: See ``jobs.run.run``; what was stored stays.
    """
    # All of it at once: a comparison judges every model by every image. By id, as the sample is spread.
    listed = sorted(source.items(), key=lambda item: item.id)
    contenders = line_up(workspace, listed, models, into, folds)
    references = [contender.card.reference for contender in contenders]
    for number, reference in enumerate(references):
        progress(Step("loading", reference, number, len(references)))
        workspace.models.get(reference)

    jobs = [
        _embed(workspace, source, len(listed), contender, progress, clock, pause) for contender in contenders
    ]
    collections = [workspace.collections.open(contender.collection) for contender in contenders]
    failures = [failed_images(collection, listed) for collection in collections]
    failed = merged(failures)
    items = [item for item in listed if has_label(item) and item.id not in failed]
    # Said here in terms of the models; a fit would speak of one collection.
    check_labels(items, folds, f"the images that every model embedded ({_who_failed(references, failures)})")

    judged = [
        judge(collection, listed, items, folds, seed, _percent(progress, reference))
        for collection, reference in zip(collections, references, strict=True)
    ]
    sample = read_sample(items, [contender.card for contender in contenders], workspace.settings.queue)
    speeds = images_per_second(
        workspace,
        references,
        sample,
        clock,
        pause,
        lambda done, total: progress(Step("timing", "", done, total)),
    )
    entries = list(map(_Entry, contenders, jobs, failures, judged, speeds))
    return _comparison(workspace, listed, into, seed, entries, len(sample))


def _embed(
    workspace: Workspace,
    source: Source,
    images: int,
    contender: Contender,
    progress: Callable[[Step], None],
    clock: Callable[[], float],
    pause: Callable[[float], None],
) -> JobResult:
    reference = contender.card.reference
    progress(Step("embedding", reference, 0, images))
    target = LocalTarget(workspace, contender.collection, reference, in_flight=IN_FLIGHT, pause=pause)
    return run(
        target,
        source,
        # Images that fail are left out of the comparison, however many. That a collection holds this
        # folder's images was checked for all models before the first one began.
        JobOptions(max_error_rate=1.0, replace=True),
        progress=lambda step: progress(
            Step("embedding", reference, step.done, images if step.total is None else step.total)
        ),
        clock=clock,
    )


def _comparison(
    workspace: Workspace,
    listed: Sequence[SourceItem],
    into: str,
    seed: int,
    entries: Sequence[_Entry],
    timed: int,
) -> Comparison:
    same = same_files([entry.contender for entry in entries])
    entries = [entries[position] for position in ranked([entry.standing for entry in entries])]
    paired = [None, *pair([entry.judged.correct for entry in entries])]
    standings = [
        dataclasses.replace(entry.standing, p_value=against.p_corrected if against else None)
        for entry, against in zip(entries, paired, strict=True)
    ]
    best = entries[0].judged
    splits = Counter(item.split for item in listed if item.split is not None)
    return Comparison(
        results=tuple(
            _compared(entry, against, standing.worse, entries)
            for entry, against, standing in zip(entries, paired, standings, strict=True)
        ),
        picked=pick(standings),
        reason=reason(standings, best.evaluation.n),
        into=into,
        kind=KIND,
        folds=best.evaluation.folds,
        seed=seed,
        rows=best.evaluation.n,
        labels=len(best.evaluation.per_class),
        left_out=_left_out(listed, merged([entry.failed for entry in entries]), best.evaluation.n),
        splits=dict(splits),
        device=str(workspace.device),
        threads=workspace.settings.worker_threads,
        timed=timed,
        notes=(*best.data_notes, *same, *_overall_notes(best.evaluation, splits)),
    )


def _left_out(listed: Sequence[SourceItem], failed: Mapping[str, str], rows: int) -> LeftOut:
    labelled = [item for item in listed if has_label(item)]
    reasons = Counter(failed[item.id] for item in labelled if item.id in failed)
    return LeftOut(
        unlabelled=len(listed) - len(labelled),
        failed=dict(reasons),
        single=len(labelled) - reasons.total() - rows,
    )


def _compared(entry: _Entry, paired: Paired | None, worse: bool, entries: Sequence[_Entry]) -> Compared:
    card = entry.contender.card
    notes = list(entry.judged.notes)
    alone = sum(any(row_id not in other.failed for other in entries) for row_id in entry.failed)
    if alone:
        notes.append(f"{alone:,} images failed that another model embedded; no model was judged by them")
    return Compared(
        model=card.reference,
        collection=entry.contender.collection,
        space_id=card.space_id,
        artifact_id=card.artifact.artifact_id,
        pretrained=card.pretrained,
        dim=card.dim,
        precision=card.artifact.precision,
        size_bytes=card.artifact.bytes,
        images_per_second=entry.images_per_second,
        evaluation=entry.judged.evaluation,
        paired=paired,
        worse=worse,
        embedded=entry.job.embedded,
        unchanged=entry.job.unchanged,
        failed=dict(Counter(entry.failed.values())),
        notes=tuple(notes),
    )


def _overall_notes(best: Evaluation, splits: Mapping[str, int]) -> list[str]:
    notes = []
    if splits:
        shown = ", ".join(f"{name} {count:,}" for name, count in sorted(splits.items()))
        notes.append(
            f"the folder's splits ({shown}) were not used: each image was judged once, by a head that had not "
            "seen it"
        )
    if best.accuracy_interval[0] <= best.baseline_accuracy:
        notes.append(
            "even the best is not surely better than always naming the largest label "
            f"({best.baseline_accuracy:.3f})"
        )
    return notes


def _who_failed(references: Sequence[str], failures: Sequence[Mapping[str, str]]) -> str:
    said = [
        f"{reference} failed on {len(failed):,}, mostly {Counter(failed.values()).most_common(1)[0][0]}"
        for reference, failed in zip(references, failures, strict=True)
        if failed
    ]
    return "; ".join(said) or "none failed"


def _percent(progress: Callable[[Step], None], reference: str) -> Callable[[float], None]:
    return lambda share: progress(Step("evaluating", reference, round(100 * share), 100))
