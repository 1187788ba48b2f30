"""The workspace: models and data opened together.

The one facade that servicers, jobs, CLI and notebooks use.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.engine import Caller, Embedded, Engine
from trunkline_service.batching.local import LocalEngine
from trunkline_service.batching.observer import Observer
from trunkline_service.batching.request import Timings
from trunkline_service.collections.arrivals import (
    NewRow,
    arriving_rows,
    brings_lists,
    check_labels,
    content_hash,
    could_lose,
)
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.info import CollectionInfo
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.purging import Purged
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import FailedPrecondition, InvalidArgument, SpaceMismatch, TrunklineError
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fit import fit
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.heads.training.stored import training_set
from trunkline_service.images.inputs import ImageInput
from trunkline_service.index.searcher import Searcher
from trunkline_service.models.card import ModelCard
from trunkline_service.models.registry import LiveModels
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.models.session import Device, ModelSession, parse_device
from trunkline_service.settings import Settings
from trunkline_service.workspace.answers import Added, Found, Predicted
from trunkline_service.workspace.switch import Switched, switch

_log = logging.getLogger(__name__)


class Workspace:
    """Models, collections and heads of one place.

    Args:
        settings: Where they are, and how to run.
        observer: Told what the stages measure.
        engine: Instead of one in this process.
    """

    def __init__(
        self, settings: Settings, observer: Observer | None = None, engine: Engine | None = None
    ) -> None:
        self.settings = settings
        self.device: Device = parse_device(settings.device)
        self.repository = ModelRepository(Path(settings.models))
        self.models = LiveModels(self.repository, self._open_session, settings.default_model)
        self.engine: Engine = engine or LocalEngine(self.models, settings, observer)
        self.collections = CollectionStore(settings.data)
        self.heads = HeadRegistry(settings.data, trunkline_version=importlib.metadata.version("trunkline"))
        self._searcher = Searcher(threads=settings.worker_threads)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finishes what was admitted and lets everything go."""
        self.engine.close(self.settings.drain_s)

    def warm(self, stopping: Callable[[], bool] = lambda: False) -> list[ModelCard]:
        """Loads the default model and the newest version of every other; returns their cards.

        Args:
            stopping: Asked before each model; True ends the loading.

        Raises:
            ModelFileError, ModelNotFound, SettingsError: The default model can't be loaded.
        """
        cards, problems = self.repository.cards()
        for problem in problems:
            _log.error("%s", problem)
        warm = [self.models.get().card]
        for name in sorted({card.name for card in cards} - {warm[0].name}):
            if stopping():
                break
            try:
                warm.append(self.models.get(name).card)
            except TrunklineError as exc:
                # The others serve; a call that names this one reads why it can't.
                _log.error("%s", exc)
        return warm

    # Embedding -----------------------------------------------------------------------------------------

    def embed(
        self,
        images: Sequence[ImageInput],
        model: str = "",
        caller: Caller | None = None,
        expect_space: str = "",
    ) -> Embedded:
        """Embeds images, in order; a bad one fails alone.

        Raises:
            SpaceMismatch: The model's space is not the expected one.
            TrunklineError: See ``Engine.embed``.
        """
        if expect_space:
            self._check_space(model, expect_space, "the caller expects")
        embedded = self.engine.embed(model, images, caller or Caller())
        if expect_space:
            # Once more: a newer version may have taken over between the two.
            _same_space(embedded.card, expect_space, "the caller expects")
        return embedded

    def add(
        self, collection: str, rows: Sequence[NewRow], model: str = "", caller: Caller | None = None
    ) -> Added:
        """Embeds images and stores them by id; when it returns they are searchable.

        A bad image becomes an error row with its reason, unless a good row of its id is there already: that
        one stays. Label, split and metadata that are not given leave earlier ones as they are. JPEG is
        decoded in the collection's mode. A new collection is multi-label where the labels are tuples.

        Raises:
            SpaceMismatch: The collection holds other vectors than this model makes.
            InvalidArgument: A label or a value that the collection can't hold, naming the row.
            TrunklineError: See ``Engine.embed``.
        """
        target = self.open_for(collection, model, multi_label=brings_lists(rows))
        check_labels(rows, target.spec.multi_label)
        embedded = self.embed_for(target, [row.image for row in rows], model, caller)
        hashes = [content_hash(row.image) for row in rows]
        ids = tuple(row.id or hashed[:32] for row, hashed in zip(rows, hashes, strict=True))
        own_columns = [name for name in target.columns() if name not in COLUMNS]
        known = target.find([ids[index] for index in could_lose(rows, embedded, own_columns)])
        stored = arriving_rows(rows, ids, hashes, embedded, known)
        version = target.upsert(stored, space_id=embedded.card.space_id, decode=embedded.decode)
        return Added(ids, embedded, version)

    def open_for(self, name: str, model: str = "", *, multi_label: bool = False) -> Collection:
        """The collection, made in the space of ``model`` if it does not exist.

        An empty model means the one that made the collection, or for a new one the default.

        Args:
            name: Of the collection.
            model: ``name`` or ``name@version``.
            multi_label: Whether a new one holds lists of labels.

        Raises:
            SpaceMismatch: It exists, in another space.
        """
        if self.collections.exists(name) and not model:
            return self.collections.open(name)
        spec = dataclasses.replace(self._spec_of(self.models.get(model).card), multi_label=multi_label)
        return self.collections.open_or_create(name, spec)

    def spec_for(self, name: str, model: str = "") -> CollectionSpec:
        """The identity that `open_for` would find or make; nothing is made."""
        if self.collections.exists(name):
            return self.collections.open(name).spec
        return self._spec_of(self.models.get(model).card)

    def _spec_of(self, card: ModelCard) -> CollectionSpec:
        return CollectionSpec(
            space_id=card.space_id,
            dim=card.dim,
            model=card.reference,
            artifact_id=card.artifact.artifact_id,
            decode=self.settings.decode,
            pretrained=card.pretrained,
        )

    def list_collections(self) -> list[CollectionInfo]:
        """All collections, by name; one that can't be read is logged and left out."""
        found: list[CollectionInfo] = []
        for name in self.collections.names():
            try:
                found.append(self.collections.open(name).info())
            except TrunklineError as exc:
                _log.warning("collection %s: %s", name, exc)
        return found

    def purge(
        self,
        collection: str,
        ids: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        *,
        exclusive: bool = False,
    ) -> Purged:
        """Deletes rows such that neither a file nor this process's memory holds them; see `Collection.purge`.

        The index of the collection is made anew by its next search. Other processes keep theirs until
        they search the collection again.
        """
        target = self.collections.open(collection)
        try:
            return target.purge(ids, where, parameters, exclusive=exclusive)
        finally:
            # A purge that failed may have deleted the rows already.
            self._searcher.forget(target)

    # Heads ---------------------------------------------------------------------------------------------

    def fit_head(self, collection: str, name: str, kind: str = "logistic", folds: int = 5) -> HeadCard:
        """Fits a head on a collection's labels and saves it as the next version of ``name``.

        Raises:
            CollectionNotFound, NotEnoughData, InvalidArgument: What is missing, and what to do.
            StorageError: It could not be saved; earlier versions are as they were.
        """
        return self.heads.save(fit(kind, training_set(self.collections, collection), folds=folds), name)

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
        """
        return switch(self.collections, self.heads, old, new)

    def list_heads(self) -> list[HeadCard]:
        """The newest version of every head, by name; one that can't be read is logged and left out."""
        found: list[HeadCard] = []
        for name in self.heads.names():
            try:
                found.append(self.heads.card(name))
            except TrunklineError as exc:
                _log.warning("head %s: %s", name, exc)
        return found

    def predict(
        self, head: str, images: Sequence[ImageInput], model: str = "", caller: Caller | None = None
    ) -> Predicted:
        """Embeds images with the backbone of the head's space and applies the head.

        Raises:
            HeadNotFound, SpaceMismatch: No such head, or a model of another space.
            TrunklineError: See ``Engine.embed``.
        """
        loaded = self.heads.load(head)
        chosen = model or loaded.card.model
        self._check_space(
            chosen, loaded.card.space_id, f"head {loaded.card.name}@{loaded.card.version} takes"
        )
        embedded = self.engine.embed(chosen, images, caller or Caller())
        probabilities = loaded.probabilities(embedded.vectors, embedded.card.space_id)
        return Predicted(probabilities, loaded.card, embedded)

    def predict_vectors(self, head: str, vectors: NDArray[np.float32], space_id: str) -> Predicted:
        """Applies a head to vectors that the caller has.

        Raises:
            HeadNotFound: No such head.
            SpaceMismatch: The vectors lie in another space than the head's.
        """
        loaded = self.heads.load(head)
        return Predicted(loaded.probabilities(vectors, space_id), loaded.card, None)

    # Search --------------------------------------------------------------------------------------------

    def search(
        self,
        collection: str,
        images: Sequence[ImageInput],
        k: int = 10,
        where: str | None = None,
        caller: Caller | None = None,
    ) -> Found:
        """The k nearest rows of each image, embedded with the collection's own model.

        Raises:
            CollectionNotFound, InvalidArgument: See ``Searcher.search``.
            TrunklineError: See ``Engine.embed``.
        """
        target = self.collections.open(collection)
        embedded = self.embed_for(target, images, "", caller)
        usable = [index for index in range(len(images)) if index not in embedded.errors]
        outcome = self._searcher.search(target, embedded.vectors[usable], k, where)
        hits = dict(zip(usable, outcome.hits, strict=True))
        spread = [hits.get(index, []) for index in range(len(images))]
        outcome = dataclasses.replace(outcome, hits=spread)
        return Found(outcome, embedded.errors, target.spec.space_id, embedded.timings)

    def search_vectors(
        self,
        collection: str,
        vectors: NDArray[np.float32],
        space_id: str,
        k: int = 10,
        where: str | None = None,
    ) -> Found:
        """The k nearest rows of each vector, [Q, dim] float32.

        Raises:
            SpaceMismatch: The vectors lie in another space than the collection's.
        """
        target = self.collections.open(collection)
        if space_id != target.spec.space_id:
            raise SpaceMismatch(
                f"the query vectors are of space {space_id or '(not stated)'}; collection {collection!r} "
                f"holds space {target.spec.space_id} ({target.spec.model}): embed the queries with that model"
            )
        return Found(self._searcher.search(target, vectors, k, where), {}, target.spec.space_id, Timings())

    def search_ids(self, collection: str, ids: Sequence[str], k: int = 10, where: str | None = None) -> Found:
        """The k nearest other rows of each row.

        Raises:
            RowNotFound: An id that the collection does not hold.
            InvalidArgument: A row without an embedding.
        """
        target = self.collections.open(collection)
        rows = target.get(ids)
        vectors = [row.embedding for row in rows if row.embedding is not None]
        if len(vectors) != len(rows):
            failed = next(row for row in rows if row.embedding is None)
            raise InvalidArgument(f"row {failed.id!r} has no embedding ({failed.error}); it can't be a query")
        queries = np.stack(vectors) if vectors else np.empty((0, target.spec.dim), np.float32)
        outcome = self._searcher.search(target, queries, k, where, exclude_ids=list(ids))
        return Found(outcome, {}, target.spec.space_id, Timings())

    # Shared --------------------------------------------------------------------------------------------

    def embed_for(
        self, target: Collection, images: Sequence[ImageInput], model: str = "", caller: Caller | None = None
    ) -> Embedded:
        """Vectors that may meet those of a collection: of its space, decoded in its mode.

        Raises:
            SpaceMismatch: The model makes vectors of another space.
            TrunklineError: See ``Engine.embed``.
        """
        spec = target.spec
        who = f"collection {target.name!r} holds"
        if spec.decode == "unknown":
            raise FailedPrecondition(
                f"collection {target.name!r} holds vectors that were brought in: no model here makes vectors of its "
                f"declared space {spec.space_id}; ask it with vectors or ids"
            )
        self._check_space(model or spec.model, spec.space_id, who)
        caller = dataclasses.replace(caller or Caller(), decode=spec.decode)
        embedded = self.engine.embed(model or spec.model, images, caller)
        _same_space(embedded.card, spec.space_id, who)
        return embedded

    def _check_space(self, model: str, wanted: str, who: str) -> None:
        """Before anything is spent; the vectors' own space is compared again when they are there."""
        _same_space(self.models.get(model).card, wanted, who)

    def _open_session(self, folder: ModelFolder) -> ModelSession:
        if not folder.card.pretrained:
            _log.info("model %s has random weights; its vectors mean nothing", folder.card.reference)
        session = ModelSession(folder, self.device, self.settings.worker_threads)
        session.warm(self.settings.queue.buckets)
        _log.info("model %s is warm on %s", folder.card.reference, self.device)
        return session


def _same_space(card: ModelCard, wanted: str, who: str) -> None:
    if card.space_id != wanted:
        raise SpaceMismatch(
            f"model {card.reference} makes vectors of space {card.space_id}; {who} space {wanted}: "
            "name the model of that space"
        )
