"""The part of the workspace that is about heads: fitting, moving, predicting."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.engine import Caller
from trunkline_service.collections.store import CollectionStore
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.storage.reader import HeadEntry
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.images.inputs import ImageInput
from trunkline_service.models.repository import ModelRepository
from trunkline_service.workspace.answers import Predicted
from trunkline_service.workspace.exporting import ExportedHead, export_head
from trunkline_service.workspace.fitting import OneAtATime, StageProgress, fit_head
from trunkline_service.workspace.migrate import Migrated, migrate
from trunkline_service.workspace.predicting import Images, Items, PredictOptions, Predictor, Rows, Vectors
from trunkline_service.workspace.reporting import read_report
from trunkline_service.workspace.suggesting import Suggested, suggest_rows
from trunkline_service.workspace.switch import Switched, switch

_log = logging.getLogger(__name__)


class HeadWork:
    """Methods of `Workspace`, which makes what they use.

    Attributes:
        collections: What heads are fitted on.
        heads: Where heads are.
        repository: Where models are.
    """

    collections: CollectionStore
    heads: HeadRegistry
    repository: ModelRepository
    _predictor: Predictor
    _fits: OneAtATime

    def fit_head(
        self,
        collection: str,
        name: str,
        kind: str = "logistic",
        options: FitOptions | None = None,
        *,
        target: str = "label",
        group: str | None = None,
        test_split: str = "test",
        promote: bool = True,
        warm: bool = False,
        report: bool = True,
        progress: StageProgress | None = None,
    ) -> HeadCard:
        """Fits a head on a collection and saves it as the next version of ``name``. One fit runs at a time.

        A report that can't be made or saved does not lose the head: the card's notes then say why.

        Args:
            collection: A reference.
            name: Of the head.
            kind: One of ``heads.fit.KINDS``.
            options: How; by default the kind's own choices.
            target: The column to learn; several of numbers, parted by commas.
            group: A column whose equal values stay on one side of every split.
            test_split: Value of ``split`` of the rows to test on.
            promote: Whether the new version serves from then on.
            warm: Whether to start from the weights and hyper-parameters of the version that serves, which
                takes a fraction of the time where few rows have changed; for ``logistic``.
            report: Whether to make a report too, which can take longer than the fit: its learning curve
                fits again. That of a warm fit, or of more than 200,000 rows, has no such curve, and is quick.
            progress: Told of stages. What it raises ends the fit, and nothing is saved.

        Raises:
            CollectionNotFound, NotEnoughData, InvalidArgument: What is missing, and what to do.
            Overloaded: Another head is being fitted.
            StorageError: It could not be saved; what served before still does.
        """
        with self._fits.turn(f"head {name!r}"):
            return fit_head(
                self.collections,
                self.heads,
                collection,
                name,
                kind,
                options or FitOptions(),
                target=target,
                group=group,
                test_split=test_split,
                promote=promote,
                warm=warm,
                report=report,
                progress=progress,
            )

    def head_report(self, head: str) -> tuple[HeadCard, Report]:
        """The report that was made when a head was fitted, and the head's card.

        Args:
            head: A reference; of a bare name of which no version serves, the newest.

        Raises:
            HeadNotFound: No such head, version or alias.
            FailedPrecondition: It has no report; says how to get one.
            ModelFileError: The report or the card is broken.
        """
        return read_report(self.heads, head)

    def suggest_labels(self, head: str, collection: str, count: int = 20) -> Suggested:
        """The rows of a collection that lack a label, and whose label would teach the head most.

        Those of which the head is unsure, and which differ from one another. What "lacks a label" means is
        told by the column that the head learned.

        Args:
            head: A reference to a head that classifies.
            collection: A reference to a collection of its space.
            count: Rows wanted, 1 to 1,000.

        Raises:
            HeadNotFound, CollectionNotFound: No such thing.
            InvalidArgument: A head that does not classify; a collection without the head's column.
            SpaceMismatch: The collection is of another space than the head.
            Overloaded: A head is being fitted.
        """
        with self._fits.turn(f"asking head {head!r} what to label"):
            return suggest_rows(self.collections, self.heads, head, collection, count)

    def export_head(
        self, head: str, path: Path, *, fused: bool = False, replace: bool = False
    ) -> ExportedHead:
        """Writes a head to an ONNX file, which appears whole or not at all.

        Args:
            head: A reference.
            path: The file.
            fused: Whether to put the backbone before it: from image tensor to probabilities. The model is
                the one that the head was fitted with.
            replace: Whether to replace a file that is there.

        Raises:
            HeadNotFound, ModelNotFound: No such head; its model is not in the repository.
            InvalidArgument: ``path`` can't be written to, or stands already.
            SpaceMismatch, ModelFileError, ExportError: See `heads.serving.fused.fuse`.
            StorageError: The file can't be written.
        """
        return export_head(self.heads, self.repository, head, path, fused=fused, replace=replace)

    def migrate_head(
        self, head: str, collection: str, *, promote: bool = False, progress: StageProgress | None = None
    ) -> Migrated:
        """Fits a head anew on the vectors that another collection holds of the same rows, by their ids.

        Labels are those of the collection that it was fitted on. The new version is a candidate unless
        it is promoted here.

        Raises:
            InvalidArgument: A head that was not fitted on a collection.
            CollectionNotFound: Either collection is not there.
            FailedPrecondition: They share no rows; the head can't be fitted.
            Overloaded: Another head is being fitted.
        """
        with self._fits.turn(f"head {head!r}"):
            return migrate(self.collections, self.heads, head, collection, promote=promote, progress=progress)

    def switch(self, old: str, new: str) -> Switched:
        """Moves what depends on a collection to another that holds the same rows in another space.

        Labels, splits and users' columns are copied from ``old`` where ``new`` has others. The heads that
        were fitted on ``old`` are fitted on ``new`` and saved as their next versions, then the aliases that
        stand for ``old`` are moved. The index follows by itself. No head and no alias changes unless
        every head could be fitted; ``old`` stays as it is, and the same call the other way round goes back.

        Raises:
            CollectionNotFound: There is no such collection.
            FailedPrecondition: ``new`` does not hold every row of ``old``.
            InvalidArgument: A column of ``new`` can't hold what that of ``old`` holds.
            NotEnoughData: A head can't be fitted; none was saved, and no alias was moved.
            Overloaded: Another head is being fitted.
        """
        with self._fits.turn(f"the switch from {old!r} to {new!r}"):
            return switch(self.collections, self.heads, old, new)

    def list_heads(self) -> list[HeadEntry]:
        """Every head by name, see `HeadReader.list`; one that can't be read is logged and left out."""
        return self.heads.list(lambda name, exc: _log.warning("head %s: %s", name, exc))

    def predict(
        self,
        heads: str | Sequence[str],
        images: Sequence[ImageInput],
        model: str = "",
        caller: Caller | None = None,
        options: PredictOptions | None = None,
    ) -> Predicted:
        """Embeds images with the backbone of the heads' space, once, and applies the heads.

        Args:
            heads: A reference, or several to heads of one space.
            images: N of them; a bad one fails alone.
            model: What embeds them; empty for the model that the first head was fitted with.
            caller: Who waits.
            options: What else to tell.

        Raises:
            HeadNotFound, SpaceMismatch: No such head; heads or a model of different spaces.
            TrunklineError: See ``Engine.embed``.
        """
        return self._predict(heads, Images(images, model, caller), options)

    def predict_vectors(
        self,
        heads: str | Sequence[str],
        vectors: NDArray[np.float32],
        space_id: str,
        options: PredictOptions | None = None,
    ) -> Predicted:
        """Applies heads to vectors that the caller has.

        Raises:
            HeadNotFound: No such head.
            SpaceMismatch: The vectors lie in another space than the heads'.
        """
        return self._predict(heads, Vectors(vectors, space_id), options)

    def predict_ids(
        self,
        heads: str | Sequence[str],
        collection: str,
        ids: Sequence[str],
        options: PredictOptions | None = None,
    ) -> Predicted:
        """Applies heads to the stored vectors of rows.

        Raises:
            HeadNotFound, CollectionNotFound, RowNotFound: No such thing.
            SpaceMismatch: The collection is of another space than the heads.
        """
        return self._predict(heads, Rows(collection, ids), options)

    def _predict(self, heads: str | Sequence[str], items: Items, options: PredictOptions | None) -> Predicted:
        refs = [heads] if isinstance(heads, str) else heads
        return self._predictor.predict(refs, items, options or PredictOptions())
