"""A condition's rows, as masks over a view."""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.filters import bind
from trunkline_service.collections.metadata import Scalar
from trunkline_service.errors import StorageError
from trunkline_service.index.view import Mask, View

_KEPT = 64
_MIB = 1024 * 1024


class _Key(NamedTuple):
    """A condition of a version; its digest, since its values may have many megabytes."""

    uid: str
    version: int
    condition: bytes


class _Kept(NamedTuple):
    """Masks, and the view that they are of: not kept for them, since it holds all the vectors."""

    view: weakref.ref[View]
    masks: tuple[Mask, ...]
    nbytes: int


class Selector:
    """Resolves conditions by the store, and keeps the latest answers; safe to share among threads.

    Lance reads the condition's columns of every row (some tens of milliseconds of a million rows), so a
    condition that is asked again of the same version is answered from memory. All who ask it of one view get
    the same tuple, by which callers are gathered.

    Args:
        max_bytes: Of masks that are kept, of the conditions asked last; a byte for each row of a view. Those of
            one condition that take more alone are not kept.
    """

    def __init__(self, max_bytes: int = 256 * _MIB) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._known: OrderedDict[_Key, _Kept] = OrderedDict()

    def masks(
        self, collection: Collection, view: View, where: str | None, parameters: Sequence[Scalar]
    ) -> tuple[Mask, ...] | None:
        """For each part of the view the rows that the condition lets through; None for no condition.

        Raises:
            InvalidArgument: A condition that can't be used, or a version that was removed meanwhile.
            StorageError: Another collection took the name meanwhile.
        """
        if where is None:
            bind(where, parameters)
            return None
        key = _Key(view.uid, view.version, _digest(where, parameters))
        with self._lock:
            known = self._find(key, view)
        if known is not None:
            return known
        # Bound only here: 10,000 parameters take some 100 ms. What does not pass is never kept.
        row_ids = collection.row_ids(bind(where, parameters), version=view.version)
        # Rows of another collection have the same numbers. A uid never comes back, so all was read of this one.
        check_same(view, collection.name, collection.revision.uid)
        masks = view.masks_of(row_ids)
        with self._lock:
            # Who asked at the same time may have been faster.
            return self._find(key, view) or self._keep(key, view, masks)

    def forget(self, uid: str) -> None:
        """Lets go of what is known of a collection."""
        with self._lock:
            for key in [key for key in self._known if key.uid == uid]:
                del self._known[key]

    def _find(self, key: _Key, view: View) -> tuple[Mask, ...] | None:
        """The masks that are kept; the lock is held."""
        kept = self._known.get(key)
        # A view may have been put together anew, of the same version.
        if kept is None or kept.view() is not view:
            return None
        self._known.move_to_end(key)
        return kept.masks

    def _keep(self, key: _Key, view: View, masks: tuple[Mask, ...]) -> tuple[Mask, ...]:
        """Keeps masks, and forgets what is of no use or too much; the lock is held."""
        for old, kept in list(self._known.items()):
            if kept.view() is None or (old.uid == view.uid and old.version < view.version):
                del self._known[old]
        self._known[key] = _Kept(weakref.ref(view), masks, sum(mask.nbytes for mask in masks))
        self._known.move_to_end(key)
        while len(self._known) > _KEPT or sum(kept.nbytes for kept in self._known.values()) > self._max_bytes:
            self._known.popitem(last=False)
        return masks


def _digest(where: str, parameters: Sequence[Scalar]) -> bytes:
    """SHA-256 of a condition and its parameters, another one for values of other types.

    Raises:
        InvalidArgument: A parameter that is no value.
    """
    kinds = [type(value).__name__ for value in parameters]
    try:
        text = json.dumps([where, kinds, list(parameters)], ensure_ascii=False, default=datetime.isoformat)
    except (TypeError, ValueError):
        # Of no type that a value has, which this says.
        bind(where, parameters)
        raise
    # Text that is no Unicode is told apart as well, and refused when it is bound.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def check_same(view: View, name: str, uid: str) -> None:
    """Does nothing where the store still has the collection that a view is of.

    Raises:
        StorageError: Another one took its name.
    """
    if uid != view.uid:
        raise StorageError(f"collection {name!r} was dropped and made anew during the search; search again")
