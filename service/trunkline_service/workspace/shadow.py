"""Candidates beside the heads that serve: asked the same, told to nobody, counted where they differ."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.storage.reader import HeadReader
from trunkline_service.workspace.agreement import agree
from trunkline_service.workspace.answers import Prediction
from trunkline_service.workspace.observer import ShadowObserver

_log = logging.getLogger(__name__)
# Requests that may wait for a candidate; beyond these it is left out, so that a slow one costs no memory.
_WAITING = 64


class Shadows:
    """Compares candidates with what was answered, after the answer and in another thread.

    Args:
        heads: Where they are.
        observer: Told how they do; without one nothing is compared.
        executor: Runs the comparisons.
    """

    def __init__(self, heads: HeadReader, observer: ShadowObserver | None, executor: Executor) -> None:
        self._heads = heads
        self._observer = observer
        self._executor = executor
        self._room = threading.BoundedSemaphore(_WAITING)
        self._told: set[tuple[str, int]] = set()

    def follow(self, predictions: Sequence[Prediction], vectors: NDArray[np.float32]) -> None:
        """Asks the candidates of the heads whose serving version answered. Never raises, never waits.

        Args:
            predictions: What they said.
            vectors: (N, dim) what they were asked.
        """
        observer = self._observer
        if observer is None:
            return
        # However a head was named: clients name the version that answered first from then on.
        for prediction in {prediction.card.ref: prediction for prediction in predictions}.values():
            candidate = self._candidate(prediction.card, observer)
            if candidate is None or not self._room.acquire(blocking=False):
                continue
            try:
                self._executor.submit(self._run, candidate, prediction, vectors, observer)
            except RuntimeError:
                # The workspace is closing.
                self._room.release()

    def _candidate(self, card: HeadCard, observer: ShadowObserver) -> int | None:
        try:
            return self._heads.shadow(card.name, card.version)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the answer must go out
            self._failed(card.name, 0, exc, observer)
            return None

    def _run(
        self, candidate: int, serving: Prediction, vectors: NDArray[np.float32], observer: ShadowObserver
    ) -> None:
        name, version = serving.card.name, serving.card.version
        try:
            usable = np.isfinite(vectors).all(axis=1)
            head = self._heads.load(f"{name}@{candidate}")
            theirs = head.outputs(vectors[usable], serving.card.space_id)
            same = agree(serving.card, serving.outputs[usable], head.card, theirs)
            observer.shadow(name, version, candidate, len(same), int((~same).sum()))
        except Exception as exc:  # noqa: BLE001 - a candidate harms nobody
            self._failed(name, candidate, exc, observer)
        finally:
            self._room.release()

    def _failed(self, name: str, candidate: int, exc: Exception, observer: ShadowObserver) -> None:
        observer.shadow_failed(name)
        # Once, for it fails at every request.
        if (name, candidate) not in self._told:
            self._told.add((name, candidate))
            _log.warning("the shadow of head %s can't be asked: %s", name, exc, exc_info=exc)
