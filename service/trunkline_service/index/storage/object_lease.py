"""The right to build, as an object: written over by conditional writes, with an end that is put off.

Its document names the holder and when it ends. Whoever drops the index writes itself in as who ousted the
holder, and waits until that one has cleared away what it had stored, or until its time is over: by then it
has stopped, for a holder that could not put off its end counts itself out before.

Clocks of two machines are not trusted to agree: one that runs ahead would take the lease from who lives. A
lease whose time is over by this machine's clock is watched for as long as a lease lasts, and taken where nobody
wrote to it; who lives does so four times meanwhile. Who lets it go writes an end that is past for every clock.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from trunkline_service.errors import FailedPrecondition, IndexDamaged, StorageError
from trunkline_service.index.storage.bucket import Bucket, Found
from trunkline_service.index.storage.lease import ousted, taken
from trunkline_service.index.storage.strict_json import Kind, check_fields, parse_object

_log = logging.getLogger(__name__)
_SCHEMA = 1
_LASTS_S = 60.0
_RENEWED_S = 15.0
# A holder counts itself out so long before others do: clocks differ, and a piece may be on its way.
_MARGIN_S = 15.0
_POLL_S = 1.0
_TRIES = 20
_LET_GO = datetime.fromtimestamp(0, UTC).isoformat()
# Further apart no clocks are: object stores refuse requests of who is 15 minutes off.
_SKEW = timedelta(minutes=30)
_KINDS: dict[str, Kind] = {"holder": str, "shown": str, "ends": str, "ousted": bool}


@dataclass(frozen=True)
class _Document:
    """What the object says.

    Attributes:
        holder: A random word.
        shown: The holder's machine and process, for messages.
        ends: ISO 8601, UTC.
        ousted: The index was dropped; the holder is to clear away what it stored.
    """

    holder: str
    shown: str
    ends: str
    ousted: bool = False

    def dumps(self) -> bytes:
        """The bytes of the object."""
        return json.dumps({"schema_version": _SCHEMA, **asdict(self)}).encode()

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over, by a clock that may be wrong."""
        return datetime.fromisoformat(self.ends) <= now

    def is_free(self, now: datetime) -> bool:
        """Whether it was let go, or ended so long ago that no clock is as wrong as that."""
        return datetime.fromisoformat(self.ends) <= now - _SKEW


class ObjectLease:
    """See `Lease`; of one object, to be held once.

    Args:
        bucket: Where the object is.
        path: Of it.
        collection: For messages.
        clock: The time, with its zone; machines' clocks may differ by some minutes.
        pause: Waits for so many seconds.
        monotonic: Seconds.
    """

    def __init__(
        self,
        bucket: Bucket,
        path: str,
        collection: str,
        clock: Callable[[], datetime],
        pause: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bucket = bucket
        self._path = path
        self._collection = collection
        self._clock = clock
        self._pause = pause
        self._monotonic = monotonic
        self._holder = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._lost = False

    @contextmanager
    def hold(self) -> Iterator[ObjectLease]:
        """Holds it for the block; a thread puts off its end.

        Where somebody died who had it, this waits for a minute, to see that he is dead.

        Raises:
            FailedPrecondition: Somebody else does.
        """
        self._write_over(self._free())
        if self._lost:
            raise taken(self._collection)
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended,), name="index-lease", daemon=True)
        keeper.start()
        try:
            yield self
        finally:
            ended.set()
            keeper.join()
            self._let_go()

    def lost(self) -> bool:
        """See `Lease`."""
        return self._lost or self._monotonic() - self._renewed > _LASTS_S - _MARGIN_S

    def confirm(self) -> None:
        """See `Lease`; puts off its end."""
        if not self.lost():
            self.renew()
        if self.lost():
            raise ousted(self._collection)

    def renew(self) -> None:
        """Puts off its end; it is lost where somebody else wrote."""
        with self._lock:
            if not self._lost:
                self._write_over(self._found)

    def _free(self) -> Found | None:
        """The lease as it stands, which nobody has; None where there is none."""
        found = self._bucket.get(self._path)
        if found is None:
            return None
        document = _read(found, self._path)
        if document.is_free(self._clock()):
            return found
        if not document.is_over(self._clock()) or _changes(self._bucket, self._path, found, self._pause):
            raise taken(self._collection, document.shown)
        return found

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(_RENEWED_S) and not self._lost:
            try:
                self.renew()
            except StorageError as exc:
                _log.warning("%s; the right to build the index may run out", exc)

    def _write_over(self, found: Found | None) -> None:
        asked = self._monotonic()
        written = self._bucket.swap(self._path, self._document().dumps(), found)
        if written is None:
            # A write whose answer was lost is refused when it is tried again: it may be ours that stands.
            standing = self._bucket.get(self._path)
            document = None if standing is None else _read(standing, self._path)
            if document is None or document.holder != self._holder or document.ousted:
                self._lost = True
                return
            written = standing
        self._found: Found | None = written
        self._renewed = asked

    def _document(self) -> _Document:
        ends = self._clock() + timedelta(seconds=_LASTS_S)
        return _Document(self._holder, f"process {os.getpid()} of {socket.gethostname()}", ends.isoformat())

    def _let_go(self) -> None:
        """Ends it, and tells who ousted the holder that it has cleared away its own."""
        with contextlib.suppress(StorageError):
            # What can't be ended now runs out.
            found = self._bucket.get(self._path)
            if found is not None and _read(found, self._path).holder == self._holder:
                self._bucket.swap(self._path, replace(self._document(), ends=_LET_GO).dumps(), found)


def is_held(bucket: Bucket, path: str, now: datetime) -> bool:
    """Whether somebody has the lease, as far as this machine's clock can tell."""
    found = bucket.get(path)
    return found is not None and not _read(found, path).is_over(now)


def is_free(bucket: Bucket, path: str, now: datetime) -> bool:
    """Whether nobody has the lease, whatever the clocks say."""
    found = bucket.get(path)
    return found is None or _read(found, path).is_free(now)


def oust(bucket: Bucket, path: str, clock: Callable[[], datetime], pause: Callable[[float], None]) -> None:
    """Takes the lease from its holder, and waits until that one stores nothing any more.

    Raises:
        StorageError: Others kept writing first.
    """
    for _ in range(_TRIES):
        found = bucket.get(path)
        if found is None:
            return
        document = _read(found, path)
        # One that was let go is written over all the same, so that nobody goes on with it.
        marked = bucket.swap(path, replace(document, ousted=True).dumps(), found)
        if marked is None:
            continue
        if not document.is_free(clock()) and not _changes(bucket, path, marked, pause):
            # The holder is dead: nobody else need wait for him.
            bucket.swap(path, _Document("", "nobody", _LET_GO, ousted=True).dumps(), marked)
        return
    raise StorageError(f"{bucket.root}/{path} can't be written: others kept writing first. Do it again")


def _changes(bucket: Bucket, path: str, found: Found, pause: Callable[[float], None]) -> bool:
    """Whether somebody writes to the lease within the time that one lasts; waits until he does."""
    for _ in range(round(_LASTS_S / _POLL_S)):
        pause(_POLL_S)
        now = bucket.get(path)
        if now is None or now.mark != found.mark:
            return True
    return False


def _read(found: Found, path: str) -> _Document:
    try:
        document = _Document(**check_fields(parse_object(found.data, _SCHEMA, path), _KINDS, path))
        if datetime.fromisoformat(document.ends).tzinfo is None:
            raise ValueError("no time zone")
    except (IndexDamaged, ValueError) as exc:
        raise FailedPrecondition(
            f"{path} is no lease of an index that this Trunkline can read ({exc}); delete that object if nothing "
            "builds the index"
        ) from exc
    return document
