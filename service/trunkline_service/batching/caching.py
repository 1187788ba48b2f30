"""What stands between admission and decoding where a cache is kept: known images are answered there."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.mailbox import Clock
from trunkline_service.batching.observer import NullObserver, Observer
from trunkline_service.batching.request import Lane, Request, Slot
from trunkline_service.errors import Cancelled, ImageError, InternalError, TrunklineError
from trunkline_service.images.inputs import ImageInput, PixelTensor
from trunkline_service.models.card import ModelCard
from trunkline_service.settings import DecodeMode

Decode = Callable[[Sequence[Slot]], None]
_log = logging.getLogger(__name__)


def key_of(image: ImageInput, card: ModelCard, decode: DecodeMode) -> bytes:
    """What makes two images of two calls one: their bytes, the model's file and space, the decode mode.

    SHA-256, as the key must not be forged: a crafted collision would hand one caller's vector to another. It
    is the fastest of hashlib's where the processor has instructions for it, and lets other threads run.

    Args:
        image: The same pixels as a file and as a tensor, or in another shape, are two keys.
        card: Of the model that embeds it.
        decode: How it would be decoded.

    Returns:
        32 bytes.
    """
    form = (image.dtype, image.shape) if isinstance(image, PixelTensor) else "encoded"
    # `repr` quotes, so that no two heads run together; the line break ends the head.
    head = repr((card.artifact.artifact_id, card.space_id, decode, form))
    digest = hashlib.sha256(f"{head}\n".encode())
    digest.update(image.data)
    return digest.digest()


@dataclass(eq=False, slots=True)
class _SlotClaim:
    """A slot as a `Claimant`.

    Attributes:
        key: Of its image.
        slot: What it claims for.
        later: Sees to it that the slot is decoded, by others.
        start: Asked to pass the slot on; False if the slot has ended instead.
        observer: Told if the image can't be used.
        leads: Whether it was passed on.
    """

    key: bytes
    slot: Slot
    later: Decode
    start: Callable[[_SlotClaim], bool]
    observer: Observer
    leads: bool = False

    @property
    def lane(self) -> Lane:
        """See `Claimant`."""
        return self.slot.lane

    def found(self, vector: NDArray[np.float32]) -> None:
        """See `Claimant`."""
        self.slot.store(vector)
        self.slot.settle(None)

    def lead(self) -> bool:
        """See `Claimant`."""
        return self.start(self)

    def failed(self, error: TrunklineError) -> None:
        """See `Claimant`."""
        if isinstance(error, ImageError):
            self.observer.image_failed(error.reason)
        self.slot.settle(error)


class Claims(Protocol):
    """An ``EmbeddingCache``, of this process or another; see there."""

    def claim(self, key: bytes, claimant: _SlotClaim) -> None:
        """The answer may come later, from another thread."""

    def fill(self, key: bytes, vector: NDArray[np.float32]) -> None:
        """A vector, [dim] float32, was computed."""

    def resign(self, claimant: _SlotClaim, error: TrunklineError | None) -> None:
        """A leader gives up."""

    def forget(self, claimant: _SlotClaim) -> bool:
        """A follower goes away; whether it waited."""


class _Own(threading.local):
    """Of each thread: slots that lead and are not on their way yet; None outside of a collection."""

    starts: list[_SlotClaim] | None = None


class CachingGate:
    """Lets only those slots through to decoding whose vector is neither known nor on its way.

    Every call is safe from any thread.

    Args:
        cache: Where vectors are kept, and equal images find each other.
        clock: Monotonic seconds; the engine's.
        observer: Told of slots that were dropped while they waited for another's vector.
    """

    def __init__(self, cache: Claims, clock: Clock, observer: Observer | None = None) -> None:
        self._cache = cache
        self._clock = clock
        self._observer: Observer = observer or NullObserver()
        # By the slot's identity, which holds as long as the claim refers to it.
        self._claims: dict[int, _SlotClaim] = {}
        self._own = _Own()

    def claim(self, slots: Sequence[Slot], decode: Decode, later: Decode) -> None:
        """Settles slots whose vector is known, and passes on those that nobody else is at work on.

        A slot that follows another's is settled with it, or decoded later if the other one's caller goes
        away.

        Args:
            slots: Admitted slots of a `Request`.
            decode: Sees to it that slots are decoded, and settled sooner or later. Called at most once, before this
                returns; may do the work itself.
            later: The same for slots that followed. Called from whatever thread settled the one they followed,
                a stage's own most likely, so it must leave the work to others.
        """
        with _Collection(self._own) as starts:
            for slot in slots:
                key = _key_of_slot(slot)
                claim = _SlotClaim(key, slot, later, self._start, self._observer)
                self._claims[id(slot)] = claim
                self._cache.claim(key, claim)
            mine = [claim.slot for claim in starts if claim.slot.request is slots[0].request]
            # What else leads now followed a slot of an earlier call that had gone away.
            starts[:] = [claim for claim in starts if claim.slot.request is not slots[0].request]
        if mine:
            _pass_on(decode, mine)

    def settled(self, slot: Slot, error: TrunklineError | None) -> None:
        """Must be told of each slot that was claimed and has ended, before its caller is.

        The caller may write into the vectors that it gets.
        """
        claim = self._claims.pop(id(slot), None)
        if claim is None or not claim.leads:
            return
        assert isinstance(slot.request, Request)
        if error is None:
            self._cache.fill(claim.key, slot.request.vectors[slot.index])
        else:
            with _Collection(self._own):
                self._cache.resign(claim, error)

    def leave(self, slots: Sequence[Slot]) -> None:
        """The caller of these slots went away: those that wait for another's vector end at once.

        The others are in the hands of the stages, which drop them at their turn.
        """
        for slot in slots:
            claim = self._claims.get(id(slot))
            if claim is not None and self._cache.forget(claim):
                verdict = slot.request.verdict(self._clock())
                self._drop(slot, verdict or Cancelled("the caller cancelled the request"))

    def _start(self, claim: _SlotClaim) -> bool:
        verdict = claim.slot.request.verdict(self._clock())
        if verdict is not None:
            self._drop(claim.slot, verdict)
            return False
        claim.leads = True
        with _Collection(self._own) as starts:
            starts.append(claim)
        return True

    def _drop(self, slot: Slot, verdict: TrunklineError) -> None:
        self._observer.dropped(verdict.reason)
        slot.settle(verdict)


class _Collection:
    """Gathers the claims of this thread that are asked to lead, and sends them on their way at its end.

    A slot that is sent on may fail at once and make the next follower lead. Collections within others only
    add to them, so that a thousand followers of a broken device fail in a loop and not in a recursion.
    """

    def __init__(self, own: _Own) -> None:
        self._own = own
        self._outermost = own.starts is None

    def __enter__(self) -> list[_SlotClaim]:
        if self._own.starts is None:
            self._own.starts = []
        return self._own.starts

    def __exit__(self, *_: object) -> None:
        if not self._outermost:
            return
        starts = self._own.starts
        assert starts is not None
        try:
            while starts:
                claim = starts.pop(0)
                _pass_on(claim.later, [claim.slot])
        finally:
            self._own.starts = None


def _key_of_slot(slot: Slot) -> bytes:
    assert isinstance(slot.request, Request)
    assert slot.image is not None
    return key_of(slot.image, slot.request.destination.card, slot.request.decode)


def _pass_on(decode: Decode, slots: list[Slot]) -> None:
    try:
        decode(slots)
    except Exception:  # noqa: BLE001 - followers, of other callers, wait for these slots; it is logged
        _log.exception("%d images could not be passed on to decoding", len(slots))
        for slot in slots:
            if not slot.settled:
                slot.settle(InternalError())
