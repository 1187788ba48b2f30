"""A condition's rows, as masks over a view."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.filters import bind
from trunkline_service.collections.metadata import Scalar
from trunkline_service.errors import StorageError
from trunkline_service.index.view import Mask, View

_KEPT = 64


class Selector:
    """Resolves conditions by the store, and keeps the latest answers; safe to share among threads.

    Lance reads the condition's columns of every row (some tens of milliseconds of a million rows), so a
    condition that is asked again of the same version is answered from memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A view is not kept for its masks: it holds all the vectors.
        self._known: OrderedDict[tuple[str, int, str], tuple[weakref.ref[View], tuple[Mask, ...]]] = (
            OrderedDict()
        )

    def masks(
        self, collection: Collection, view: View, where: str | None, parameters: Sequence[Scalar]
    ) -> tuple[Mask, ...] | None:
        """For each part of the view the rows that the condition lets through; None for no condition.

        Raises:
            InvalidArgument: A condition that can't be used, or a version that was removed meanwhile.
            StorageError: Another collection took the name meanwhile.
        """
        condition = bind(where, parameters)
        if condition is None or where is None:
            return None
        key = (view.uid, view.version, condition)
        with self._lock:
            known = self._known.get(key)
            # A view may have been put together anew, of the same version.
            if known is not None and known[0]() is view:
                self._known.move_to_end(key)
                return known[1]
        row_ids = collection.row_ids(where, version=view.version, parameters=parameters)
        # Rows of another collection have the same numbers. A uid never comes back, so all was read of this one.
        check_same(view, collection.name, collection.revision.uid)
        masks = view.masks_of(row_ids)
        with self._lock:
            for old in [old for old in self._known if old[0] == view.uid and old[1] < view.version]:
                del self._known[old]
            self._known[key] = (weakref.ref(view), masks)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return masks

    def forget(self, uid: str) -> None:
        """Lets go of what is known of a collection."""
        with self._lock:
            for key in [key for key in self._known if key[0] == uid]:
                del self._known[key]


def check_same(view: View, name: str, uid: str) -> None:
    """Does nothing where the store still has the collection that a view is of.

    Raises:
        StorageError: Another one took its name.
    """
    if uid != view.uid:
        raise StorageError(f"collection {name!r} was dropped and made anew during the search; search again")
