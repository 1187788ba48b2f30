"""Whether a collection is still the one that an index is built of."""

from __future__ import annotations

from trunkline_service.collections.collection import Collection
from trunkline_service.errors import CollectionNotFound


def is_still(collection: Collection, uid: str) -> bool:
    """Whether the collection that has the name now is the one of this uid.

    Raises:
        StorageError: It can't be read.
    """
    try:
        return collection.revision.uid == uid
    except CollectionNotFound:
        return False
