"""The device as a process sees it that has only a link to it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.device import Learn
from trunkline_service.batching.link.connection import Claims, Connection
from trunkline_service.batching.link.messages import Failed, Found, Lead, Run
from trunkline_service.batching.link.wire import connect
from trunkline_service.batching.mailbox import Clock
from trunkline_service.batching.request import Request, Slot
from trunkline_service.errors import TrunklineError, Unavailable
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models import card as card_module
from trunkline_service.models.card import ModelCard

# How long a name may mean the version that it meant a moment ago.
_FRESH_S = 0.5


class LinkedModel:
    """A model that the device's process runs: a `Destination`, for as long as the connection lives."""

    def __init__(self, device: LinkedDevice, connection: Connection, number: int, card: ModelCard) -> None:
        self._device = device
        self.connection = connection
        self.card = card
        self.preprocess: Preprocess = card.preprocess
        self.number = number
        height, width = card.preprocess.input_size
        self._shape = (height, width, 3)
        # The vector is written where the pixels were.
        self._bytes = max(height * width * 3, card.dim * 4)

    def room(self, slot: Slot) -> NDArray[np.uint8]:
        """See `Destination`: memory that both processes map."""
        arena = self.connection.arena
        offset = arena.take(self._bytes)
        slot.vacate = partial(arena.give_back, offset, self._bytes)
        pixels: NDArray[np.uint8] = arena.view(offset, self._shape, np.uint8)
        slot.room = offset
        return pixels

    def accept(self, slot: Slot) -> None:
        """See `Destination`."""
        assert slot.room is not None
        assert isinstance(slot.request, Request)
        slot.number = slot.number or self._device.new_id()
        run = Run(slot.number, self.number, slot.room, slot.request.deadline, slot.lane)
        slot.request.when_cancelled(partial(self.connection.cancel, slot.number))
        self.connection.run(run, slot, self.card.dim)


class LinkedDevice:
    """Runs models in the process that listens on an address: a `Device`.

    It connects when it is needed, and anew after the connection has ended.

    Args:
        address: Of the Unix socket.
        arena_bytes: See `Connection`.
        clock: Monotonic seconds.
        learn: See `Connection`.
    """

    def __init__(self, address: Path, arena_bytes: int, clock: Clock, learn: Learn | None = None) -> None:
        self._address = address
        self._arena_bytes = arena_bytes
        self._clock = clock
        self._learn: Learn = learn or (lambda _images, _seconds: None)
        self._guard = threading.Lock()
        self._connection: Connection | None = None
        self._claims = Claims()
        self._ids = itertools.count(1)
        self._opened: dict[str, tuple[float, LinkedModel]] = {}
        self._closed = False

    def open(self, reference: str) -> LinkedModel:
        """See `Device`."""
        connection = self.connection()
        kept = self._opened.get(reference)
        now = self._clock()
        if kept is not None and kept[1].connection is connection and now - kept[0] < _FRESH_S:
            return kept[1]
        answer = connection.ask({"open": reference})
        if kept is not None and kept[1].connection is connection and kept[1].number == answer["model"]:
            model = kept[1]
        else:
            card = card_module.loads(answer["card"], "the device's process")
            model = LinkedModel(self, connection, answer["model"], card)
        self._opened[reference] = (now, model)
        return model

    def loaded(self) -> list[str]:
        """References of the models that are loaded there."""
        loaded: list[str] = self.connection().ask({"loaded": True})["loaded"]
        return loaded

    def trouble(self) -> str | None:
        """See `Device`."""
        try:
            trouble: str | None = self.connection().ask({"trouble": True})["trouble"]
        except TrunklineError as exc:
            return exc.message
        return trouble

    def queued(self) -> int:
        """See `Device`; the device's process counts what it has."""
        return 0

    def close(self, deadline: float) -> int:
        """See `Device`: nothing is decoded any more, so that what was sent is all there is to wait for."""
        with self._guard:
            self._closed = True
            connection = self._connection
        if connection is None:
            return 0
        left = connection.wait_empty(max(0.0, deadline - self._clock()))
        connection.end()
        return left

    def new_id(self) -> int:
        """A number for a slot, which no other has."""
        return next(self._ids)

    def when_claims_end(
        self, answered: Callable[[Found | Lead | Failed], None], all_failed: Callable[[Unavailable], None]
    ) -> None:
        """Has answers to claims told to ``answered``, and the end of a connection to ``all_failed``."""
        self._claims.answered, self._claims.all_failed = answered, all_failed

    def connection(self) -> Connection:
        """The one that lives, or a new one.

        Raises:
            Unavailable: The device's process is away.
        """
        connection = self._connection
        if connection is not None and connection.alive:
            return connection
        with self._guard:
            if self._closed:
                raise Unavailable("the server is shutting down; send the request to another one")
            if self._connection is None or not self._connection.alive:
                try:
                    self._connection = Connection(
                        connect(self._address), self._arena_bytes, self._learn, self._claims, self._ids
                    )
                except OSError as exc:
                    raise Unavailable("the device's process is away; try again in a second") from exc
            return self._connection


class LinkedModels:
    """The warm models of the device's process, as `Models`."""

    def __init__(self, device: LinkedDevice) -> None:
        self._device = device

    def get(self, reference: str = "") -> LinkedModel:
        """See `Models`."""
        return self._device.open(reference)

    def loaded(self) -> list[str]:
        """See `Models`."""
        return self._device.loaded()
