"""Which of the builds that are stored is the newest, by their cards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import datetime

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import IndexDamaged, StorageError
from trunkline_service.index.card import IndexCard
from trunkline_service.index.storage import card_json
from trunkline_service.index.storage.keys import CARD_FILE, version_of

_log = logging.getLogger(__name__)


class Cards:
    """The cards of builds; safe to share among threads.

    Args:
        read: A small file by its path; None where there is none.
        root: Its name, for messages.
    """

    def __init__(self, read: Callable[[str], bytes | None], root: str) -> None:
        self._read = read
        self._root = root
        self._told: set[str] = set()

    def newest(
        self, key: str, builds: Collection[str], spec: CollectionSpec, at_most: int | None
    ) -> IndexCard | None:
        """See `IndexStore.newest`.

        Args:
            key: ``<collection>/<uid>``.
            builds: Ids of those that there are.
            spec: Of the vectors.
            at_most: Builds of later versions are passed over.
        """
        versions = {version_of(build) for build in builds}
        for version in sorted(versions, reverse=True):
            if at_most is not None and version > at_most:
                continue
            cards = [self._card(key, build, spec) for build in builds if version_of(build) == version]
            found = [card for card in cards if card is not None]
            if found:
                return max(found, key=lambda card: (datetime.fromisoformat(card.created_at), card.build))
        return None

    def _card(self, key: str, build: str, spec: CollectionSpec) -> IndexCard | None:
        path = f"{key}/{build}/{CARD_FILE}"
        try:
            text = self._read(path)
            if text is None:
                # Swept away since it was listed, or, on a disk, damaged.
                raise IndexDamaged(f"{self._root}/{path} is missing")
            card = card_json.loads(text, f"{self._root}/{path}")
        except StorageError as exc:
            self._tell(path, exc.message)
            return None
        given = f"{card.collection}/{card.uid}", card.build, card.space_id, card.dim, card.metric
        wanted = key, build, spec.space_id, spec.dim, spec.metric
        if given != wanted:
            self._tell(path, f"{self._root}/{path} is of {given}, not of {wanted}")
            return None
        return card

    def _tell(self, path: str, what: str) -> None:
        """Says once why a build is of no use, however often it is looked at."""
        if path not in self._told:
            self._told.add(path)
            _log.warning("%s; the build is passed over", what)
