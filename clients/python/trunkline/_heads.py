"""What a client does with heads. `_heads_async` is its twin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Literal, overload

from numpy.typing import ArrayLike

from trunkline._sync import Calls
from trunkline._wire import heads as wire
from trunkline._wire.items import ImageInput
from trunkline._wire.job import Lane
from trunkline._wire.predict import PredictJob, Wishes, references
from trunkline._wire.queries import queries
from trunkline.exceptions import Internal
from trunkline.heads import HeadInfo, Migration, Unknown
from trunkline.predictions import PredictResult
from trunkline.results import EmbedResult
from trunkline_protos.v1 import heads_pb2

Progress = Callable[[str, float], None]
"""Called with the stage, ``"reading"``, ``"fitting"`` and the like, and the share of it that is done."""


class HeadMethods:
    """The part of `Client` that is about heads.

    A reference is a head's name (the version that serves), ``flowers@3`` (a version) or ``flowers@prod``
    (an alias).

    Every method raises `NotFound` where there is no such head or version, and another `TrunklineError`
    where the call failed.
    """

    _calls: Calls

    @overload
    def predict(
        self,
        images: ImageInput | Iterable[ImageInput] | None = None,
        *,
        head: str,
        heads: None = None,
        vectors: ArrayLike | EmbedResult | None = None,
        ids: str | Iterable[str] | None = None,
        collection: str = "",
        space_id: str | None = None,
        model: str = "",
        top_k: int | None = None,
        unknown: bool | Unknown = False,
        with_distances: bool | None = None,
        with_vectors: bool = False,
        neighbours: str = "",
        k: int = 10,
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> PredictResult: ...

    @overload
    def predict(
        self,
        images: ImageInput | Iterable[ImageInput] | None = None,
        *,
        head: None = None,
        heads: Iterable[str],
        vectors: ArrayLike | EmbedResult | None = None,
        ids: str | Iterable[str] | None = None,
        collection: str = "",
        space_id: str | None = None,
        model: str = "",
        top_k: int | None = None,
        unknown: bool | Unknown = False,
        with_distances: bool | None = None,
        with_vectors: bool = False,
        neighbours: str = "",
        k: int = 10,
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> dict[str, PredictResult]: ...

    def predict(
        self,
        images: ImageInput | Iterable[ImageInput] | None = None,
        *,
        head: str | None = None,
        heads: Iterable[str] | None = None,
        vectors: ArrayLike | EmbedResult | None = None,
        ids: str | Iterable[str] | None = None,
        collection: str = "",
        space_id: str | None = None,
        model: str = "",
        top_k: int | None = None,
        unknown: bool | Unknown = False,
        with_distances: bool | None = None,
        with_vectors: bool = False,
        neighbours: str = "",
        k: int = 10,
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> PredictResult | dict[str, PredictResult]:
        """What a head says of images, of vectors that are there already, or of stored rows.

        All items of one call are answered by the same version, also where another is promoted meanwhile.

        Args:
            images: One image or an iterable of them; see the class.
            head: A reference.
            heads: Several references instead, of one space: the images are embedded once, and the answer
                is a dict of results by reference.
            vectors: (N, dim) numbers, or an `EmbedResult`, instead of images.
            ids: Rows of ``collection``, whose stored vectors are taken.
            collection: Where the ids are.
            space_id: The space of the vectors; an `EmbedResult` knows its own.
            model: What embeds the images; empty for the model that the first head was fitted with.
            top_k: The k most probable classes of each item instead of all.
            unknown: When to rather say nothing: True for items that are further from the training rows
                than 99% of those held out, or an `Unknown` with bounds of your own.
            with_distances: Whether to measure how far items are from the training rows; None: where there
                is one head.
            with_vectors: Whether to bring the embeddings too.
            neighbours: A collection of the heads' space, to bring the nearest rows of it too.
            k: How many of these.
            lane: ``"interactive"`` or ``"bulk"``.
            timeout: Seconds for one request, instead of the client's.

        Raises:
            InvalidRequest: Not exactly one of images, vectors and ids, or not one of head and heads.
            SpaceMismatch: Vectors or heads of different spaces.
            TrunklineError: A request failed as a whole.
        """
        named, form = references(head, heads)
        asked = queries(images, vectors, space_id, ids, takes_ids=True)
        wishes = Wishes(top_k, unknown, with_distances, with_vectors, neighbours, k)
        found = self._calls.collect(
            PredictJob(named, model, lane, asked, collection, wishes), images, timeout
        )
        if form == "one":
            return found.of(0)
        return {name: found.of(position) for position, name in enumerate(named)}

    def fit_head(
        self,
        collection: str,
        name: str,
        kind: str = "logistic",
        *,
        target: str = "label",
        group: str | None = None,
        test_split: str = "test",
        candidate: bool = False,
        warm: bool = False,
        report: bool = True,
        folds: int | None = None,
        grid: Sequence[float] | None = None,
        seed: int | None = None,
        transform: Literal["standardise", "l2", "whiten", "none"] | None = None,
        class_weight: Literal["none", "balanced"] | None = None,
        precision: Literal["float32", "float64"] | None = None,
        device: str | None = None,
        max_iterations: int | None = None,
        normal: str | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> HeadInfo:
        """Fits a head on a collection and saves it as the next version of ``name``.

        A call that ends early, by an exception in ``progress`` for example, saves nothing.

        Args:
            collection: A reference.
            name: Of the head; what serves under a known name is replaced.
            kind: ``"logistic"``, ``"ridge"``, ``"centroid"``, ``"knn"``, ``"mlp"`` or ``"anomaly"``.
            target: The column to learn; several of numbers, parted by commas.
            group: A column whose equal values stay on one side of every split.
            test_split: Value of the split column of the rows to test on.
            candidate: Save it without letting it serve.
            warm: Start from the weights and hyper-parameters of the version that serves, which takes a
                fraction of the time where few rows have changed; for ``"logistic"``.
            report: Make a report too, see `head_report`; it can take longer than the fit.
            folds: Of the cross-validation.
            grid: Candidates of the kind's own hyper-parameter.
            seed: Of everything random.
            transform: What embeddings go through before the head.
            class_weight: ``"balanced"`` weighs every class alike.
            precision: Of the solver.
            device: ``"cpu"``, or a device such as ``"cuda"``.
            max_iterations: After which a solver stops.
            normal: For ``"anomaly"``: the label of what is normal.
            progress: Called with the stage and the share of it that is done.
            timeout: Seconds; None for no end.

        Raises:
            NotFound: No such collection.
            InvalidRequest: An option that can't be used.
            FailedPrecondition: Too few rows or classes, or the head could not be saved.
            Overloaded: Another head is being fitted.
        """
        request = heads_pb2.FitRequest(
            collection=collection,
            name=name,
            kind=kind,
            target=target,
            group=group or "",
            test_split=test_split,
            candidate=candidate,
            warm=warm,
            no_report=not report,
        )
        options = {
            "folds": folds,
            "grid": grid,
            "seed": seed,
            "transform": transform,
            "class_weight": class_weight,
            "precision": precision,
            "device": device,
            "max_iterations": max_iterations,
            "normal": normal,
        }
        with closing(self._calls.stream(wire.fit(request, options), timeout)) as messages:
            for message in messages:
                if message.HasField("head"):
                    return wire.head_info(message.head)
                if progress is not None:
                    progress(message.stage, message.share)
        raise Internal("the fit ended without a head")

    def migrate_head(
        self,
        head: str,
        collection: str,
        *,
        promote: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Migration:
        """Fits a head anew on the vectors that another collection holds of the same rows, by their ids.

        The new version is a candidate, unless it is promoted here.

        Args:
            head: A reference.
            collection: A reference to the other collection.
            promote: Whether the new version is to serve.
            progress: Called with the stage and the share of it that is done.
            timeout: Seconds; None for no end.

        Raises:
            FailedPrecondition: The two collections share too few rows, or the head can't be fitted.
        """
        with closing(self._calls.stream(wire.migrate(head, collection, promote), timeout)) as messages:
            for message in messages:
                if message.HasField("migration"):
                    return wire.migration(message.migration)
                if progress is not None:
                    progress(message.stage, message.share)
        raise Internal("the migration ended without a head")

    def heads(self, *, timeout: float | None = None) -> list[HeadInfo]:
        """The heads that the server can predict with, each at the version that serves."""
        return self._calls.ask(wire.heads(), timeout)

    def head(self, reference: str, *, timeout: float | None = None) -> HeadInfo:
        """One head; of a bare name the version that serves, or the newest where none does."""
        return self._calls.ask(wire.head(reference), timeout)

    def promote_head(self, name: str, version: int, *, timeout: float | None = None) -> HeadInfo:
        """Lets a version serve from now on; calls under way are answered by the version they began with."""
        return self._calls.ask(wire.promote(name, version), timeout)

    def rollback_head(self, name: str, *, timeout: float | None = None) -> HeadInfo:
        """Lets the version serve again that served before.

        Raises:
            FailedPrecondition: None did.
        """
        return self._calls.gather(wire.Rollback(name), timeout)

    def delete_head(self, reference: str, *, timeout: float | None = None) -> None:
        """Deletes a version, ``flowers@3``, or a whole head, ``flowers``, with its aliases.

        Raises:
            FailedPrecondition: The version serves, is the shadow, or an alias stands for it.
        """
        self._calls.ask(wire.delete(reference), timeout)

    def set_head_alias(self, alias: str, version: int, *, timeout: float | None = None) -> HeadInfo:
        """Makes or moves an alias, ``flowers@prod``; gives the head of the version that it stands for."""
        return self._calls.ask(wire.set_alias(alias, version), timeout)

    def delete_head_alias(self, alias: str, *, timeout: float | None = None) -> HeadInfo:
        """Deletes an alias; its version stays. Gives the head."""
        return self._calls.ask(wire.delete_alias(alias), timeout)

    def set_shadow(self, name: str, version: int | None, *, timeout: float | None = None) -> HeadInfo:
        """Lets a candidate run beside the serving version, or none any more; gives the head.

        What the two say is compared in the server's metrics, ``trunkline_shadow_rows_total`` and
        ``trunkline_shadow_disagreements_total``.

        Raises:
            FailedPrecondition: It is the version that serves.
        """
        return self._calls.ask(wire.set_shadow(name, version), timeout)
