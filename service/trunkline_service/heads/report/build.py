"""Everything that a report shows, worked out from a fitted head and the rows it learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import NotEnoughData
from trunkline_service.heads.evaluation.agreement import Agreement
from trunkline_service.heads.evaluation.learning_curve import SHARES, LearningCurve, RowErrors, learning_curve
from trunkline_service.heads.evaluation.measures import reliability
from trunkline_service.heads.evaluation.suspects import (
    Suspect,
    estimated_errors,
    suspects,
    suspects_multi_label,
)
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.options import FitOptions, Progress
from trunkline_service.heads.report.parts import Pairs, Reliability, Scores
from trunkline_service.heads.report.previous import PreviousHead, compare, is_comparable
from trunkline_service.heads.report.refit import FIGURES, output_errors, row_errors
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.report.simple_rules import simple_rules
from trunkline_service.heads.training.folds import Folds
from trunkline_service.heads.training.training_set import TrainingSet

Rows = NDArray[np.int64]
Outputs = NDArray[np.float32]

SUSPECTS = 100
# A scatter of more points is a blot; a card of them is large.
_PAIRS = 1000
_SCORE_BINS = 40
_TINY = 1e-12
# Probabilities raised to a power at a time.
_HELD = 1 << 22
# Where a fit is slow or held-out rows are plenty, the learning curve takes fewer folds.
_SLOW_KINDS = ("mlp",)
_MANY_ROWS = 20_000
_FEW_FOLDS = 2


def build_report(
    data: TrainingSet,
    fitted: FittedHead,
    folds: Folds,
    previous: PreviousHead | None = None,
    *,
    options: FitOptions | None = None,
    curve: bool = True,
    progress: Progress | None = None,
) -> Report:
    """The report of a head.

    All of it is told from rows that were held out: nothing is judged by what had seen it, but for the
    previous version, which may have (the report says so).

    Args:
        data: What was learned from.
        fitted: What was learned.
        folds: Those of the fit.
        previous: The version before, to compare with.
        options: Those of the fit.
        curve: Whether to fit again on parts of the rows for the learning curve: about the work of one more
            fit. All else is quick.
        progress: Told the share of that which is done.
    """
    options = options or FitOptions()
    facts = _provenance(fitted)
    held_out = _held_out(fitted, folds)
    if fitted.out_of_fold is None or not len(held_out):
        return Report(
            task=fitted.task,
            classes=fitted.classes,
            evaluation=fitted.evaluation,
            test_evaluation=fitted.test_evaluation,
            curves=fitted.curves,
            notes=fitted.notes,
            provenance=facts,
        )
    outputs = fitted.out_of_fold.reshape(len(data), -1)
    normal = data.normal(options.normal) if data.task == "anomaly" else None
    notes = list(fitted.notes)
    agreement = _agreement(data, fitted, held_out, outputs, previous, options, notes)
    known = held_out if normal is None else held_out[(normal | data.labelled())[held_out]]
    after = _chosen(outputs, held_out)
    learned = _learning_curve(data, fitted, folds, options, progress, notes) if curve else None
    return Report(
        task=fitted.task,
        classes=fitted.classes,
        evaluation=fitted.evaluation,
        test_evaluation=fitted.test_evaluation,
        baselines=simple_rules(
            data, folds.assigned, known, _chosen(outputs, known), normal, centroid=fitted.kind != "centroid"
        ),
        reliability=_reliability(data, held_out, after),
        reliability_before=(
            None if fitted.temperature == 1 else _reliability(data, held_out, after, fitted.temperature)
        ),
        learning_curve=learned,
        suspects=_suspects(data, outputs),
        estimated_errors=estimated_errors(data.codes(), outputs) if data.task == "single-label" else None,
        agreement=agreement,
        pairs=_pairs(data, held_out, after, options.seed),
        scores=None if normal is None else _scores(normal[known], outputs[known, 0]),
        curves=fitted.curves,
        notes=tuple(notes),
        provenance=facts,
    )


def _held_out(fitted: FittedHead, folds: Folds) -> Rows:
    """The rows that models that had not seen them spoke of."""
    if fitted.out_of_fold is None:
        return np.empty(0, np.int64)
    said = ~np.isnan(fitted.out_of_fold.reshape(len(fitted.out_of_fold), -1)[:, 0])
    return np.flatnonzero(said & (folds.assigned >= 0))


def _provenance(fitted: FittedHead) -> Mapping[str, Any]:
    return {
        "kind": fitted.kind,
        "target": fitted.target,
        "model": fitted.model,
        "space_id": fitted.space_id,
        "dim": fitted.dim,
        "decode": fitted.decode,
        "collection": fitted.collection,
        "collection_version": fitted.collection_version,
        "rows": fitted.rows,
        "training_hash": fitted.training_hash,
        "hyper_parameters": dict(fitted.hyper_parameters),
        "temperature": fitted.temperature,
        "convergence": vars(fitted.convergence).copy(),
    }


def _agreement(
    data: TrainingSet,
    fitted: FittedHead,
    held_out: Rows,
    outputs: Outputs,
    previous: PreviousHead | None,
    options: FitOptions,
    notes: list[str],
) -> Agreement | None:
    """On the test split, which neither learned from; without one, on the rows held out here."""
    if previous is None:
        return None
    obstacle = is_comparable(data, previous)
    if obstacle is not None:
        notes.append(obstacle)
        return None
    judged = data if data.test is None else data.test
    rows = held_out if data.test is None else np.arange(len(data.test))
    normal = None
    if judged.task == "anomaly":
        normal = judged.normal(options.normal)
        rows = rows[(normal | judged.labelled())[rows]]
    said = _chosen(outputs, rows) if data.test is None else fitted.network(judged.embeddings[rows])
    said = said.reshape(len(rows), -1)
    return compare(judged, rows, said, previous, held_out=data.test is not None, normal=normal)


def _learning_curve(
    data: TrainingSet,
    fitted: FittedHead,
    folds: Folds,
    options: FitOptions,
    progress: Progress | None,
    notes: list[str],
) -> LearningCurve | None:
    if data.task not in FIGURES:
        return None
    held_out = _held_out(fitted, folds)
    whole = np.full(len(data), np.nan)
    assert fitted.out_of_fold is not None
    whole[held_out] = output_errors(data, held_out, _chosen(fitted.out_of_fold, held_out))
    few = fitted.kind in _SLOW_KINDS or len(data) > _MANY_ROWS
    count = min(folds.count, _FEW_FOLDS) if few else folds.count
    judged = np.isin(np.arange(len(data)), held_out) & (folds.assigned < count)
    assigned = np.where(judged, folds.assigned, -1)
    strata = data.codes() if data.task == "single-label" else np.zeros(len(data), np.int64)
    errors = _told(row_errors(data, fitted, options), len(SHARES) * count, progress)
    try:
        return learning_curve(strata, assigned, errors, whole, figure=FIGURES[data.task], seed=options.seed)
    except NotEnoughData as exc:
        notes.append(f"no learning curve: {exc}")
        return None


def _told(errors: RowErrors, calls: int, progress: Progress | None) -> RowErrors:
    """The same, telling after each call how much is done."""
    if progress is None:
        return errors
    done = 0

    def told(learned: Rows, judged: Rows) -> NDArray[np.float64]:
        nonlocal done
        found = errors(learned, judged)
        done += 1
        progress(min(1.0, done / calls))
        return found

    return told


def _reliability(
    data: TrainingSet, rows: Rows, probabilities: Outputs, temperature: float = 1.0
) -> Reliability | None:
    """Of (H, K) probabilities, after the division of their logits by a temperature is undone."""
    if data.task == "single-label":
        right = probabilities.argmax(axis=1) == data.codes()[rows]
        confidence = _confidence(probabilities, temperature)
    elif data.task == "multi-label":
        given = probabilities >= 0.5
        right = (given == data.indicator()[rows]).ravel()
        sure = np.where(given, probabilities, 1 - probabilities).ravel().astype(np.float64)
        # A decision has two outcomes, as probabilities of two classes that sum to 1.
        confidence = _confidence(np.column_stack([sure, 1 - sure]), temperature)
    else:
        return None
    counts, means, hits = reliability(confidence, right)
    return Reliability(tuple(counts.tolist()), tuple(means.tolist()), tuple(hits.tolist()))


def _confidence(probabilities: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """(H,) the largest probability of each row, in parts: of many classes there is no room for a second matrix."""
    confidence = np.empty(len(probabilities))
    step = max(1, _HELD // probabilities.shape[1])
    for start in range(0, len(probabilities), step):
        part = np.clip(probabilities[start : start + step].astype(np.float64), _TINY, 1.0)
        powers = part**temperature
        confidence[start : start + step] = powers.max(axis=1) / powers.sum(axis=1)
    return confidence


def _chosen(outputs: Outputs, rows: Rows) -> Outputs:
    """``outputs[rows]``, without a copy where those are all."""
    return outputs if len(rows) == len(outputs) else outputs[rows]


def _suspects(data: TrainingSet, outputs: Outputs) -> tuple[Suspect, ...]:
    named = {"ids": data.ids, "sources": data.sources}
    if data.task == "single-label":
        return suspects(data.codes(), outputs, data.classes, limit=SUSPECTS, **named)
    if data.task == "multi-label":
        return suspects_multi_label(data.indicator(), outputs, data.classes, limit=SUSPECTS, **named)
    return ()


def _pairs(data: TrainingSet, rows: Rows, outputs: Outputs, seed: int) -> tuple[Pairs, ...]:
    if data.task != "regression":
        return ()
    chosen = np.arange(len(rows))
    if len(chosen) > _PAIRS:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, _PAIRS, replace=False))
    values = data.values()[rows[chosen]]
    return tuple(
        Pairs(target, tuple(values[:, m].tolist()), tuple(outputs[chosen, m].astype(np.float64).tolist()))
        for m, target in enumerate(data.targets)
    )


def _scores(normal: NDArray[np.bool_], scores: NDArray[np.float32]) -> Scores:
    # A few far outliers would press everything else into one bin.
    low, high = np.quantile(scores, (0.0, 0.995))
    edges = np.linspace(low, high if high > low else low + 1.0, _SCORE_BINS + 1)
    clipped = np.clip(scores, edges[0], edges[-1])
    counts = [np.histogram(clipped[which], bins=edges)[0].astype(float) for which in (normal, ~normal)]
    return Scores(tuple(edges.tolist()), tuple(counts[0].tolist()), tuple(counts[1].tolist()))
