"""Reads one object behind a URL."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_service.jobs.sources.locations import image_errors
from trunkline_service.jobs.sources.stores import place_of
from trunkline_service.jobs.sources.web import read_url


@dataclass(frozen=True, slots=True)
class RemoteReader:
    """Reads what a URL names.

    Attributes:
        url: Of any scheme that ``stores.place_of`` knows, or http and https.
    """

    url: str

    def __call__(self, limit: int) -> bytes:
        """See ``item.Reader``."""
        if self.url.lower().startswith(("http://", "https://")):
            return read_url(self.url, limit)
        with image_errors():
            place = place_of(self.url)
            return place.store.read(place.path, limit)
