"""Objects below a prefix of an object store: what the index's storage asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from trunkline_service.errors import MissingExtra, StorageError

# Small enough that a piece arrives within the client's time limit of 30 s, large enough for its price.
_PIECE = 32 * 1024 * 1024
_RETRIES = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
_SHOWN = 300
_REMEDY = "Mend this, and do it again"


class Found(NamedTuple):
    """Bytes of an object, and what a conditional write over them names."""

    data: bytes
    mark: dict[str, str]


class Bucket:
    """Objects by path; see `IndexStore`. Credentials, region and endpoint come from the environment.

    Every method raises ``StorageError`` where the store can't be read or written.

    Args:
        root: A URI.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def paths(self, prefix: str) -> list[str]:
        """Paths of the objects below a prefix that ends in a slash."""
        with self._errors(f"{self.root}/{prefix} can't be listed"):
            return [entry["path"] for page in self._obstore.list(self._opened, prefix) for entry in page]

    def get(self, path: str) -> Found | None:
        """A small object; None where there is none."""
        with self._errors(f"{self.root}/{path} can't be read"):
            try:
                found = self._obstore.get(self._opened, path)
                return Found(bytes(found.bytes()), _mark(found.meta))
            except FileNotFoundError:
                return None

    def put(self, path: str, data: bytes) -> None:
        """Puts a small object over whatever is there."""
        with self._errors(f"{self.root}/{path} can't be written"):
            self._obstore.put(self._opened, path, data, use_multipart=False)

    def swap(self, path: str, data: bytes, found: Found | None) -> Found | None:
        """Puts a small object over the one that was found, and over no other; None where another stands there."""
        mode: Any = "create" if found is None else found.mark
        refused = (self._obstore.exceptions.PreconditionError, self._obstore.exceptions.AlreadyExistsError)
        with self._errors(f"{self.root}/{path} can't be written"):
            try:
                put = self._obstore.put(self._opened, path, data, mode=mode, use_multipart=False)
            except refused:
                return None
            except FileNotFoundError:
                # What stood there was deleted meanwhile.
                return None
            return Found(data, _mark(put))

    def upload(self, path: str, source: Path, going_on: Callable[[], None]) -> None:
        """Puts a file, which appears whole or not at all.

        Args:
            path: Of the object.
            source: The file.
            going_on: Called before each piece; what it raises ends the upload.
        """
        with source.open("rb") as file, self._errors(f"{self.root}/{path} can't be written"):
            stopped: list[BaseException] = []

            def pieces() -> Iterator[bytes]:
                while piece := file.read(_PIECE):
                    try:
                        going_on()
                    except BaseException as exc:
                        stopped.append(exc)
                        raise
                    yield piece

            try:
                self._obstore.put(self._opened, path, pieces(), chunk_size=_PIECE, max_concurrency=2)
            except Exception:
                # obstore wraps what is raised on the way.
                if stopped:
                    raise stopped[0] from None
                raise

    def size(self, path: str) -> int | None:
        """Bytes of an object; None where there is none."""
        with self._errors(f"{self.root}/{path} can't be read"):
            try:
                return int(self._obstore.head(self._opened, path)["size"])
            except FileNotFoundError:
                return None

    def download(self, path: str, size: int, target: Path, going_on: Callable[[], None]) -> None:
        """Writes the first ``size`` bytes of an object to a file, piece by piece.

        Args:
            path: Of the object.
            size: Bytes.
            target: The file.
            going_on: Called before each piece; what it raises ends the download.

        Raises:
            OSError: The file can't be written.
        """
        with target.open("wb") as file:
            for start in range(0, size, _PIECE):
                going_on()
                end = min(size, start + _PIECE)
                with self._errors(f"{self.root}/{path} can't be read"):
                    piece = self._obstore.get_range(self._opened, path, start=start, end=end)
                file.write(piece)

    def delete(self, paths: list[str]) -> None:
        """Deletes objects, in order; those that are not there are deleted already."""
        with self._errors(f"{self.root} can't be cleared"):
            for path in paths:
                self._obstore.delete(self._opened, path)

    @cached_property
    def _obstore(self) -> Any:
        try:
            import obstore
            import obstore.exceptions
            import obstore.store
        except ImportError as exc:
            raise MissingExtra(
                f"indexes in {self.root} need the package {exc.name!r}: pip install 'trunkline[server]'"
            ) from exc
        return obstore

    @cached_property
    def _opened(self) -> Any:
        opening = self._obstore.store.from_url
        with self._errors(f"{self.root} can't be opened: see the settings of the cloud in the environment"):
            return opening(self.root, retry_config=_RETRIES)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Translates what obstore raises."""
        try:
            yield
        except OSError as exc:
            raise StorageError(f"{what}: {_plain(exc)}. {_REMEDY}") from exc
        except Exception as exc:
            if not type(exc).__module__.startswith("obstore"):
                raise
            raise StorageError(f"{what}: {_plain(exc)}. {_REMEDY}") from exc


def _mark(meta: Any) -> dict[str, str]:
    return {key: value for key in ("e_tag", "version") if (value := meta[key])}


def _plain(exc: BaseException) -> str:
    """The first line of what obstore says; the rest is the store's XML, or its own source."""
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[0][:_SHOWN].rstrip(".: ")
