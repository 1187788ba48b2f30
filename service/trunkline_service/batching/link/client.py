"""The device as a process sees it that has only a link to it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
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
from trunkline_service.errors import DeadlineExpired, InternalError, TrunklineError, Unavailable
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
        try:
            offset = arena.take(self._bytes, self._device.seconds_left(slot))
        except TimeoutError:
            raise DeadlineExpired(
                "the deadline passed while the image waited for a place in memory; "
                "allow more time, send fewer images per call, or slow down"
            ) from None
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
        # Once it is settled the slot belongs to nobody.
        request, number = slot.request, slot.number
        self.connection.run(run, slot, self.card.dim)
        # After it was sent: what is cancelled before would never be taken back.
        request.when_cancelled(partial(self.connection.cancel, number))


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
        self._opening: dict[tuple[Connection, str], Future[LinkedModel]] = {}
        self._closed = False

    def open(self, reference: str) -> LinkedModel:
        """See `Device`."""
        connection = self.connection()
        kept = self._opened.get(reference)
        now = self._clock()
        if kept is not None and kept[1].connection is connection and now - kept[0] < _FRESH_S:
            return kept[1]
        with self._guard:
            asked = self._opening.get((connection, reference))
            if joins := asked is not None:
                future = asked
            else:
                future = self._opening[connection, reference] = Future()
        # Whoever waits for a model to be loaded takes one place there, however many callers want it.
        if joins:
            return future.result()
        try:
            model = self._ask_for(connection, reference, kept and kept[1])
            self._opened[reference] = (now, model)
            future.set_result(model)
            return model
        except BaseException as exc:
            future.set_exception(exc if isinstance(exc, TrunklineError) else InternalError())
            raise
        finally:
            with self._guard:
                del self._opening[connection, reference]

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

    def _ask_for(self, connection: Connection, reference: str, known: LinkedModel | None) -> LinkedModel:
        answer = connection.ask({"open": reference})
        if known is not None and known.connection is connection and known.number == answer["model"]:
            return known
        card = card_module.loads(answer["card"], "the device's process")
        return LinkedModel(self, connection, answer["model"], card)

    def new_id(self) -> int:
        """A number for a slot, which no other has."""
        return next(self._ids)

    def seconds_left(self, slot: Slot) -> float | None:
        """Until the slot's deadline; None for no limit."""
        assert isinstance(slot.request, Request)
        deadline = slot.request.deadline
        return None if deadline is None else max(0.0, deadline - self._clock())

    def when_claims_end(
        self,
        answered: Callable[[Found | Lead | Failed], None],
        all_failed: Callable[[Connection, str], None],
    ) -> None:
        """Has answers to claims told to ``answered``, and the end of a connection to ``all_failed``."""
        self._claims.answered, self._claims.all_failed = answered, all_failed

    def living(self) -> Connection | None:
        """The connection that lives, if one does."""
        connection = self._connection
        return connection if connection is not None and connection.alive else None

    def connection(self) -> Connection:
        """The one that lives, or a new one.

        Raises:
            Unavailable: The device's process is away.
        """
        if (connection := self.living()) is not None:
            return connection
        with self._guard:
            if self._closed:
                raise Unavailable("the server is shutting down; send the request to another one")
            if self._connection is None or not self._connection.alive:
                # They hold the memory of the connection that has ended.
                self._opened = {}
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
