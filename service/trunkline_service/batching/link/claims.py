"""The cache of the device's process, as another process sees it."""

from __future__ import annotations

import contextlib
import threading
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.cache import Claimant
from trunkline_service.batching.link.client import LinkedDevice
from trunkline_service.batching.link.connection import Connection
from trunkline_service.batching.link.messages import Cancel, Claim, Failed, Found, Lead, Resign
from trunkline_service.batching.request import Request, Slot
from trunkline_service.errors import TrunklineError, Unavailable


class SlotClaimant(Claimant, Protocol):
    """A claimant that claims for a slot."""

    @property
    def slot(self) -> Slot:
        """The slot."""


class LinkedCache:
    """Claims over a link, with the surface of an ``EmbeddingCache``.

    A slot is run under the number that it was claimed under, so that the device's process fills the cache
    itself, or lets the next one lead.
    """

    def __init__(self, device: LinkedDevice) -> None:
        self._device = device
        self._guard = threading.Lock()
        self._waiting: dict[int, tuple[Connection, SlotClaimant]] = {}
        device.when_claims_end(self._answered, self._all_failed)

    def claim(self, key: bytes, claimant: SlotClaimant) -> None:
        """See ``EmbeddingCache.claim``; the answer comes from the thread of the link."""
        slot = claimant.slot
        assert isinstance(slot.request, Request)
        # Once it is answered the slot belongs to nobody.
        slot.number = number = self._device.new_id()
        message = Claim(number, slot.request.deadline, slot.lane, key)
        try:
            connection = self._device.connection()
        except Unavailable as exc:
            claimant.failed(exc)
            return
        with self._guard:
            self._waiting[number] = (connection, claimant)
        try:
            connection.send(message)
        except Unavailable as exc:
            # Else the end of the connection has told it.
            if self._taken(number) is not None:
                claimant.failed(exc)

    def fill(self, key: bytes, vector: NDArray[np.float32]) -> None:
        """Nothing: the device's process computed the vector."""

    def resign(self, claimant: SlotClaimant, error: TrunklineError | None) -> None:  # noqa: ARG002
        """See ``EmbeddingCache.resign``; those who follow find the image's error by themselves."""
        self._tell(Resign(claimant.slot.number))

    def forget(self, claimant: SlotClaimant) -> bool:
        """See ``EmbeddingCache.forget``."""
        number = claimant.slot.number
        if self._taken(number) is None:
            return False
        self._tell(Cancel(number))
        return True

    def _answered(self, message: Found | Lead | Failed) -> None:
        claimant = self._taken(message.id)
        match message:
            case Found(_, vector):
                if claimant is not None:
                    claimant.found(np.frombuffer(vector, "<f4"))
            case Failed(_, error):
                if claimant is not None:
                    claimant.failed(error)
            case Lead():
                if claimant is None or not claimant.lead():
                    self._tell(Resign(message.id))

    def _all_failed(self, ended: Connection, why: str) -> None:
        with self._guard:
            # Others were made on the connection that took its place.
            numbers = [number for number, (connection, _) in self._waiting.items() if connection is ended]
            claimants = [self._waiting.pop(number)[1] for number in numbers]
        for claimant in claimants:
            claimant.failed(Unavailable(why))

    def _taken(self, number: int) -> SlotClaimant | None:
        with self._guard:
            return self._waiting.pop(number, (None, None))[1]

    def _tell(self, message: Resign | Cancel) -> None:
        # With a connection every claim on it has ended, so a new one has nothing to hear.
        if (connection := self._device.living()) is not None:
            with contextlib.suppress(Unavailable):
                connection.send(message)
