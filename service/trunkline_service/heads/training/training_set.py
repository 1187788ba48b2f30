"""What a head is fitted on: embeddings of one space, with their labels."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.task import Task
from trunkline_service.heads.training import checks
from trunkline_service.heads.training.arrow_texts import ArrowTexts
from trunkline_service.heads.training.duplicates import Grouping, group_rows
from trunkline_service.heads.training.hashing import training_hash
from trunkline_service.heads.training.targets import Cleaned, clean
from trunkline_service.names import near


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labelled embeddings, checked and cleaned as they come in.

    Rows whose label is ``None`` or blank are left out (but for ``anomaly``, which needs no labels). So
    are classes of a single row: held out, such a row could not have been learned from, so nothing honest
    could be said of its class; and one mistyped label should not forbid the fit of all others. Both are
    said in ``notes``.

    Attributes:
        embeddings: (N, dim) float32, finite, C-contiguous. Copied, unless they are read-only and no row
            is left out.
        labels: N labels, kept as they were written; ``None`` may go in, and comes out for ``anomaly``
            only. For ``multi-label`` tuples of them, where ``()`` has none of the classes. For
            ``regression`` numbers, (N,) or (N, M), NaN for none; they come out as float64 (N, M).
        space_id: The space that all embeddings are of.
        collection: Name of the collection that they come from.
        collection_version: Its version at the time of reading.
        model: ``name@version`` of the model that embedded them.
        task: What is learned.
        target: The column, or columns parted by commas, that the labels were read from.
        targets: Names of the M values, for ``regression``; ``target`` alone where left out.
        ids: N ids, or none.
        sources: N sources, or none.
        groups: For each row what it must stay together with, such as a patient; None for nothing.
        weights: (N,) float64, positive: how much a row counts.
        validation: (N,) bool, rows that hyper-parameters are chosen and figures computed by, instead of
            folds; None where there are none.
        decode: How the images were decoded.
        test: Rows of a test split, which nothing is chosen by; see :meth:`with_test`.
        duplicates: Whether equal and nearly equal embeddings stay on one side of every split. False where
            several models are judged on the same images, which then have the same folds.
        known_classes: For rows that are judged and not learned from: the classes that there are. Rows
            of others are left out, and no class is too small. None for rows to learn from.
        cleaned: Of who cleaned the rows before reading their embeddings (see `targets.clean`): what came of
            it, and no row is left out here. ``labels`` are then those of ``cleaned``.
        notes: What was left out and what looks odd, in sentences.

    Raises:
        InvalidArgument: Arrays of a wrong shape or dtype, values that are not finite, labels that are
            not text.
        NotEnoughData: For ``single-label`` fewer than two classes with at least two rows each; for
            ``multi-label`` no class that two rows have and two do not; otherwise fewer than four rows, or
            a value that is the same in all.
    """

    embeddings: npt.NDArray[np.float32]
    labels: Sequence[str | tuple[str, ...] | None] | npt.NDArray[np.float64]
    space_id: str
    collection: str
    collection_version: int
    model: str
    task: Task = "single-label"
    target: str = "label"
    targets: tuple[str, ...] = ()
    ids: Sequence[str] = ()
    sources: Sequence[str] = ()
    groups: Sequence[str | None] | None = None
    weights: npt.NDArray[np.float64] | None = None
    validation: npt.NDArray[np.bool_] | None = None
    decode: str = "exact"
    test: TrainingSet | None = None
    duplicates: bool = True
    known_classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(init=False, default=())
    _classes: tuple[str, ...] = field(init=False, default=(), repr=False)
    cleaned: InitVar[Cleaned | None] = None

    def __post_init__(self, cleaned: Cleaned | None) -> None:
        checks.check_task(self.task)
        checks.check_arrays(self.embeddings, self.labels)
        rows = len(self.embeddings)
        checks.check_lengths(rows, groups=self.groups, weights=self.weights, validation=self.validation)
        checks.check_lengths(rows, ids=self.ids or None, sources=self.sources or None)
        targets = (self.targets or (self.target,)) if self.task == "regression" else ()
        done = cleaned or clean(self.task, self.labels, targets, self.collection, self.known_classes)
        kept = done.kept if cleaned is None else np.ones(rows, np.bool_)
        embeddings = _rows(self.embeddings, kept)
        checks.check_finite(embeddings, kept, self.ids)
        self._set(
            embeddings=embeddings,
            labels=done.labels,
            targets=targets,
            notes=done.notes,
            _classes=done.classes,
            **self._sides(kept),
        )
        if self.test is not None:
            self._check_test(self.test)

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def dim(self) -> int:
        """Length of one embedding."""
        return int(self.embeddings.shape[1])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of a head's outputs, in their order.

        The distinct labels, sorted by code point; for ``regression`` the targets; empty for ``anomaly``.
        """
        return self._classes

    def codes(self) -> npt.NDArray[np.int64]:
        """(N,) for each row, the position of its label in ``classes``; for ``single-label``."""
        self._check_task("single-label")
        return self._codes.copy()

    def indicator(self) -> npt.NDArray[np.bool_]:
        """(N, K) which of ``classes`` each row has; for ``single-label`` and ``multi-label``."""
        self._check_task("single-label", "multi-label")
        found = np.zeros((len(self), len(self._classes)), np.bool_)
        if self.task == "single-label":
            found[np.arange(len(self)), self._codes] = True
            return found
        position = {label: i for i, label in enumerate(self._classes)}
        rows: Any = self.labels
        counts = np.fromiter(map(len, rows), np.int64, len(self))
        flat = itertools.chain.from_iterable(rows)
        columns = np.fromiter((position[label] for label in flat), np.int64, int(counts.sum()))
        found[np.repeat(np.arange(len(self)), counts), columns] = True
        return found

    def values(self) -> npt.NDArray[np.float64]:
        """(N, M) what each row is to give; for ``regression``."""
        self._check_task("regression")
        return np.array(self.labels, dtype=np.float64)

    def normal(self, label: str | None) -> npt.NDArray[np.bool_]:
        """(N,) which rows have this label, or all of them for None.

        Rows without a label (see :meth:`labelled`) are then not normal, and not known to be anomalies.

        Raises:
            InvalidArgument: No row to learn from has it; names labels that come near.
        """
        if label is None:
            return np.ones(len(self), np.bool_)
        has = (label == row or (isinstance(row, tuple) and label in row) for row in self.labels)
        found = np.fromiter(has, np.bool_, len(self))
        if not found.any() and self.known_classes is None:
            known = {row for row in self.labels if isinstance(row, str)}
            known |= {name for row in self.labels if isinstance(row, tuple) for name in row}
            raise InvalidArgument(
                f"no row of collection {self.collection!r} has {self.target} = {label!r}{near(label, known)}"
            )
        return found

    def labelled(self) -> npt.NDArray[np.bool_]:
        """(N,) which rows have a label; without one are rows for ``anomaly`` alone."""
        return np.fromiter((row is not None for row in self.labels), np.bool_, len(self))

    def group_codes(self) -> npt.NDArray[np.int64]:
        """(N,) which rows must stay on one side of every split: equal numbers, from 0 on.

        Those of one of ``groups``, of equal embeddings and of nearly equal embeddings, and what these join.
        """
        return self.grouping.codes.copy()

    @cached_property
    def grouping(self) -> Grouping:
        """The groups behind ``group_codes``, with notes; found when first asked for."""
        codes = self._codes if self.task == "single-label" else None
        return group_rows(self.embeddings, self.groups, codes, duplicates=self.duplicates)

    def with_test(
        self,
        embeddings: npt.NDArray[np.float32],
        labels: Sequence[str | tuple[str, ...] | None] | npt.NDArray[np.float64],
        *,
        ids: Sequence[str] = (),
        sources: Sequence[str] = (),
        groups: Sequence[str | None] | None = None,
        cleaned: Cleaned | None = None,
    ) -> TrainingSet:
        """The same with a test split, whose rows are cleaned by the classes of this one.

        Rows that can't be judged (no label, a class that was not learned) are left out, with a note.

        Args:
            embeddings: As for the constructor.
            labels: As for the constructor.
            ids: As for the constructor.
            sources: As for the constructor.
            groups: As for the constructor.
            cleaned: As for the constructor; by the classes of this one.

        Raises:
            InvalidArgument: As the constructor.
        """
        test = TrainingSet(
            embeddings=embeddings,
            labels=labels,
            space_id=self.space_id,
            collection=self.collection,
            collection_version=self.collection_version,
            model=self.model,
            task=self.task,
            target=self.target,
            targets=self.targets,
            ids=ids,
            sources=sources,
            groups=groups,
            decode=self.decode,
            known_classes=self.classes,
            cleaned=cleaned,
        )
        notes = [f"test split: {note}" for note in test.notes]
        if not len(test):
            given = len(embeddings) if cleaned is None else len(cleaned.kept)
            notes.append(f"none of the {given} rows of the test split can be judged")
        made = copy.copy(self)
        made._check_test(test)
        made._set(test=test if len(test) else None, notes=(*self.notes, *notes))
        return made

    def training_hash(self) -> str:
        """SHA-256 (hex) over all that is learned from, in row order; see :mod:`.hashing`."""
        return training_hash(self)

    @cached_property
    def _codes(self) -> npt.NDArray[np.int64]:
        position = {label: i for i, label in enumerate(self._classes)}
        return np.fromiter((position[str(label)] for label in self.labels), np.int64, len(self))

    def _check_task(self, *tasks: str) -> None:
        if self.task not in tasks:
            raise InvalidArgument(
                f"the training set of collection {self.collection!r} is for {self.task}, and this is for "
                f"{' or '.join(tasks)}; choose a kind of head that learns {self.task}"
            )

    def _sides(self, kept: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """What comes with the rows, of those that are kept."""
        chosen = None if kept.all() else kept.tolist()
        named = {"ids": self.ids, "sources": self.sources, "groups": self.groups}
        sides: dict[str, Any] = {
            name: _frozen(values, chosen) for name, values in named.items() if values is not None
        }
        if self.weights is not None:
            sides["weights"] = checks.checked_weights(self.weights)[kept]
        if self.validation is not None:
            left = checks.checked_mask("validation", self.validation)[kept]
            sides["validation"] = left if left.any() else None
        return sides

    def _check_test(self, test: TrainingSet) -> None:
        own = (self.task, self.space_id, self.dim, self.classes)
        if (test.task, test.space_id, test.dim, test.classes) != own:
            raise InvalidArgument(
                "a test set must be of the same task, space and classes as the rows learned from; "
                "give its rows to with_test"
            )

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _frozen(values: Sequence[Any], chosen: list[bool] | None) -> Sequence[Any]:
    """Those of the values that are chosen, or all for None, which nobody can change any more."""
    if isinstance(values, ArrowTexts) and chosen is None:
        return values
    return tuple(values if chosen is None else itertools.compress(values, chosen))


def _rows(embeddings: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The rows kept, which nobody can change any more."""
    if not embeddings.flags.writeable and embeddings.flags.c_contiguous and kept.all():
        return embeddings
    rows = np.ascontiguousarray(embeddings[kept])
    rows.setflags(write=False)
    return rows
