"""How well one model's vectors of a folder can be learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.matrix import EmbeddingMatrix
from trunkline_service.errors import FailedPrecondition
from trunkline_service.heads.evaluation.evaluate import Evaluation, evaluate
from trunkline_service.heads.evaluation.paired import holm, mcnemar
from trunkline_service.heads.fit import fit
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.training.folds import make_folds
from trunkline_service.heads.training.training_set import TrainingSet
from trunkline_service.jobs.comparison.result import Paired
from trunkline_service.jobs.sources import SourceItem

KIND = "logistic"


@dataclass(frozen=True, eq=False)
class Judged:
    """A head on one model's vectors.

    Attributes:
        correct: bool (N,), whether the out-of-fold prediction of each image is its label.
        evaluation: Figures of the same predictions.
        data_notes: On the images and the folds: the same for every model that is judged by them.
        notes: On the fit and the collection, in sentences.
    """

    correct: NDArray[np.bool_]
    evaluation: Evaluation
    data_notes: tuple[str, ...]
    notes: tuple[str, ...]


def failed_images(collection: Collection, items: Sequence[SourceItem]) -> dict[str, str]:
    """The reasons of the folder's images that have no vector, by id."""
    wanted = {item.id for item in items}
    reasons: dict[str, str] = {}
    for batch in collection.scan(["id", "error"], where="status = 'error'"):
        ids, errors = (column.to_pylist() for column in batch.columns)
        found = zip(ids, errors, strict=True)
        reasons |= {row_id: error.partition(":")[0] for row_id, error in found if row_id in wanted}
    return reasons


def judge(
    collection: Collection,
    listed: Sequence[SourceItem],
    items: Sequence[SourceItem],
    folds: int,
    seed: int,
    progress: Callable[[float], None],
) -> Judged:
    """Fits a head to the vectors of these images; equal images, folds and seed give equal folds.

    Args:
        collection: Where the vectors are.
        listed: The images of the folder.
        items: Those of them to be judged by, all with a label; their order is that of the result.
        folds: Of the cross-validation.
        seed: Of the folds.
        progress: Told the share done.

    Raises:
        NotEnoughData: Too few of them are left.
        FailedPrecondition: The collection lost rows meanwhile.
    """
    matrix = collection.matrix()
    position = {row_id: index for index, row_id in enumerate(matrix.ids.to_pylist())}
    gone = [item.id for item in items if item.id not in position]
    if gone:
        raise FailedPrecondition(
            f"collection {collection.name!r} lost rows while it was compared ({gone[0]!r} and "
            f"{len(gone) - 1} more); run it again when nobody else changes it"
        )
    rows = [position[item.id] for item in items]
    data = TrainingSet(
        embeddings=matrix.embeddings[rows],
        labels=[_one_label(item) for item in items],
        space_id=matrix.spec.space_id,
        collection=collection.name,
        collection_version=matrix.version,
        model=matrix.spec.model,
        # What is equal or nearly so depends on the model, and the folds must not.
        duplicates=False,
    )
    head = fit(KIND, data, FitOptions(folds=folds, seed=seed), progress)
    assert head.out_of_fold is not None
    codes = data.codes()
    used = make_folds(data, folds, seed)
    data_notes = (*data.notes, *used.notes)
    return Judged(
        correct=head.out_of_fold.argmax(axis=1) == codes,
        # Of the very array that pairs are counted in, so that accuracies and pairs agree to the last image.
        evaluation=evaluate(codes, head.out_of_fold.astype(np.float64), data.classes, used.count),
        data_notes=data_notes,
        notes=(
            *(note for note in head.notes if note not in data_notes),
            *_notes(collection.name, matrix, listed, items, rows),
        ),
    )


def pair(corrects: Sequence[NDArray[np.bool_]]) -> list[Paired]:
    """Each of the others against the first, with McNemar's exact test and Holm's correction.

    The folds share training rows, and near duplicates repeat one another: both make the test a little
    surer than it should be.

    Args:
        corrects: bool (N,) of each model, the best one first.
    """
    best = corrects[0]
    counts = [(int((best & ~other).sum()), int((other & ~best).sum())) for other in corrects[1:]]
    p_values = [mcnemar(*pair) for pair in counts]
    return [
        Paired(only_best, only_this, p_value, corrected)
        for (only_best, only_this), p_value, corrected in zip(counts, p_values, holm(p_values), strict=True)
    ]


def merged(failures: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The images that failed with any model, each with the first model's reason."""
    every: dict[str, str] = {}
    for failed in reversed(failures):
        every |= failed
    return every


def _one_label(item: SourceItem) -> str:
    assert isinstance(item.label, str), "images without a label of their own were left out"
    return item.label


def _notes(
    name: str,
    matrix: EmbeddingMatrix,
    listed: Sequence[SourceItem],
    items: Sequence[SourceItem],
    rows: Sequence[int],
) -> list[str]:
    """Where a head fitted to the whole collection would learn from something else than this folder."""
    folder = {item.id for item in listed}
    labels = matrix.labels.to_pylist()
    ids = matrix.ids.to_pylist()
    others = sum(
        row_id not in folder and label is not None for row_id, label in zip(ids, labels, strict=True)
    )
    changed = sum(labels[row] != item.label for item, row in zip(items, rows, strict=True))
    notes = []
    if others:
        notes.append(
            f"collection {name!r} holds {others:,} labelled rows that are not in this folder; they were not "
            "used here, and 'trunkline heads fit' learns from them too"
        )
    if changed:
        notes.append(
            f"{changed:,} labels in collection {name!r} are not those of the folder; the folder's were used "
            "here, and 'trunkline heads fit' uses the collection's"
        )
    return notes
