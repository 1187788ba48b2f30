"""The seam under the registry: folders of versions, and a small pointer beside them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from trunkline_service.errors import InvalidArgument, ModelFileError

HEAD_FILE = "head.onnx"
CARD_FILE = "card.json"
POINTER_FILE = "pointer.json"
_SCHEMES = ("s3", "gs", "az")


class HeadStore(Protocol):
    """Heads by name and version. Names are checked before they get here; threads and processes may share it.

    Every method raises ``StorageError`` where the place can't be read or written.
    """

    def heads(self) -> dict[str, tuple[int, ...]]:
        """The versions of every head that has one, ascending, by its name."""

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of a head, ascending; none where there is no such head."""

    def publish(self, name: str, first: int, model: bytes, card_of: Callable[[int], bytes]) -> int:
        """Stores a version, whole or not at all, under the first free number from ``first`` on; gives the number.

        Args:
            name: Of the head.
            first: A positive integer.
            model: The bytes of ``head.onnx``.
            card_of: The bytes of ``card.json`` for a number.
        """

    def stamp(self, name: str, version: int) -> Hashable:
        """What tells this version from another one that is put in its place.

        Raises:
            ModelFileError: There is none.
        """

    def read(self, name: str, version: int, file: str) -> bytes:
        """All bytes of a file of a version.

        Raises:
            ModelFileError: There is none.
        """

    def find(self, name: str, version: int, file: str) -> bytes | None:
        """As `read`; None where there is none."""

    def write(self, name: str, version: int, file: str, data: bytes) -> None:
        """Puts a file beside those of a version, whole or not at all."""

    def remove(self, name: str, version: int) -> None:
        """Deletes a version. It vanishes at once, its bytes a moment later."""

    def remove_head(self, name: str) -> None:
        """Deletes all versions of a head, and its pointer."""

    def clean(self, name: str, now: datetime) -> None:
        """Removes what killed processes left half-written of a head, if it is older than a day."""

    def pointer(self, name: str) -> bytes | None:
        """The bytes of ``pointer.json``, as fresh as the store allows; None where there is none."""

    def update_pointer(self, name: str, change: Callable[[bytes | None], bytes]) -> bytes:
        """Replaces the pointer by what ``change`` makes of it; gives the new one.

        Of changers at once each sees what the one before it left. ``change`` may be called several
        times; what it raises leaves the pointer as it is.
        """


def open_store(data: str | Path, refresh_s: float, clock: Callable[[], float]) -> HeadStore:
    """The heads below a data folder or URI; nothing is read or made yet.

    Args:
        data: A local folder, or ``s3://``, ``gs://``, ``az://``.
        refresh_s: How old what is known of an object store may get, in seconds.
        clock: Monotonic seconds.

    Raises:
        InvalidArgument: A scheme that is not supported.
    """
    from trunkline_service.heads.storage.local import LocalStore
    from trunkline_service.heads.storage.objects import ObjectStore

    text = str(data)
    if "://" not in text:
        return LocalStore(Path(data) / "heads")
    scheme = urlsplit(text).scheme
    if scheme == "file":
        return LocalStore(Path(urlsplit(text).path) / "heads")
    if scheme not in _SCHEMES:
        raise InvalidArgument(
            f"data is {text!r}; it can be a local folder, or begin with {', '.join(f'{s}://' for s in _SCHEMES)}"
        )
    return ObjectStore(f"{text.rstrip('/')}/heads", refresh_s, clock)


def shown(name: str, version: int, file: str) -> str:
    """``heads/<name>/<version>/<file>``, without the folder of the server: callers read this."""
    return f"heads/{name}/{version}/{file}"


def missing(name: str, version: int, file: str) -> ModelFileError:
    """The error of a version that lacks one of its files."""
    return ModelFileError(
        f"{shown(name, version, file)} is missing; restore it, or delete this version and fit the head again"
    )
