"""Heads in an object store, by conditional writes: no lock, and no list of versions to keep.

``head.onnx`` is written only if it is absent, which claims a version's number; ``card.json`` comes after it
and makes the version visible. The pointer is written only over the one that was read. What is known of
the store is at most ``refresh_s`` old.
"""

from __future__ import annotations

import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from trunkline_service.errors import MissingExtra, StorageError
from trunkline_service.heads.storage.recent import Recent
from trunkline_service.heads.storage.store import CARD_FILE, HEAD_FILE, POINTER_FILE, missing, shown
from trunkline_service.names import is_name, parse_version

_log = logging.getLogger(__name__)
_TURNS = 100
_PAUSE_S = 0.05
_LONGEST_S = 1.0
_RETRIES = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
_SHOWN = 300


class _Object(NamedTuple):
    """Bytes, and what a conditional write over them names."""

    data: bytes
    mark: dict[str, str]


class ObjectStore:
    """See `HeadStore`. Credentials, region and endpoint come from the environment.

    Args:
        root: A URI.
        refresh_s: How old what is known may get, in seconds.
        clock: Monotonic seconds.
        pause: Waits between two attempts at the pointer.
    """

    def __init__(
        self,
        root: str,
        refresh_s: float,
        clock: Callable[[], float],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root = root
        self._pause = pause
        self._pointers: Recent[str, bytes | None] = Recent(self._read_pointer, refresh_s, clock)
        self._stamps: Recent[tuple[str, int], str] = Recent(self._read_stamp, refresh_s, clock)

    def heads(self) -> dict[str, tuple[int, ...]]:
        """See `HeadStore`; one listing, however many there are."""
        return self._visible(None)

    def versions(self, name: str) -> tuple[int, ...]:
        """See `HeadStore`."""
        return self._visible(name).get(name, ())

    def publish(self, name: str, first: int, model: bytes, card_of: Callable[[int], bytes]) -> int:
        """See `HeadStore`."""
        version = first
        with self._errors(
            f"head {name!r} can't be saved under {self._root}",
            "Its earlier versions are untouched; mend this, and save again",
        ):
            while not self._create(f"{name}/{version}/{HEAD_FILE}", model):
                version += 1
            self._put(f"{name}/{version}/{CARD_FILE}", card_of(version))
        self._stamps.forget((name, version))
        return version

    def stamp(self, name: str, version: int) -> str:
        """See `HeadStore`."""
        return self._stamps.get((name, version))

    def read(self, name: str, version: int, file: str) -> bytes:
        """See `HeadStore`."""
        found = self.find(name, version, file)
        if found is None:
            raise missing(name, version, file)
        return found

    def find(self, name: str, version: int, file: str) -> bytes | None:
        """See `HeadStore`."""
        found = self._get(f"{name}/{version}/{file}", shown(name, version, file))
        return None if found is None else found.data

    def write(self, name: str, version: int, file: str, data: bytes) -> None:
        """See `HeadStore`."""
        self._read_stamp((name, version))
        with self._errors(f"{shown(name, version, file)} can't be written", "Mend this, and do it again"):
            self._put(f"{name}/{version}/{file}", data)

    def remove(self, name: str, version: int) -> None:
        """See `HeadStore`."""
        # Without its card it is no version any more; head.onnx goes last, for it holds the number.
        files = sorted(file for file in self._files(f"{name}/{version}/") if not file.endswith(HEAD_FILE))
        self._delete(f"{name}@{version}", [*files, f"{name}/{version}/{HEAD_FILE}"])
        self._stamps.forget((name, version))

    def remove_head(self, name: str) -> None:
        """See `HeadStore`."""
        # Cards first, then what else there is, then the pointer: a head that is half gone has no version.
        files = self._files(f"{name}/")
        pointer = f"{name}/{POINTER_FILE}"
        cards = [file for file in files if file.endswith(f"/{CARD_FILE}")]
        rest = [file for file in files if file not in cards and file != pointer]
        for group in (cards, rest, [pointer]):
            self._delete(f"head {name!r}", group)
        self._pointers.forget(name)

    def clean(self, name: str, now: datetime) -> None:
        """See `HeadStore`; an object is there whole or not at all, so that nothing is left."""

    def pointer(self, name: str) -> bytes | None:
        """See `HeadStore`; at most ``refresh_s`` old."""
        found = self._pointers.get(name)
        if found is None:
            # Names that nobody has must not gather here.
            self._pointers.forget(name)
        return found

    def update_pointer(self, name: str, change: Callable[[bytes | None], bytes]) -> bytes:
        """See `HeadStore`."""
        path, wanted = f"{name}/{POINTER_FILE}", None
        what = f"which version of head {name!r} serves can't be written under {self._root}"
        for turn in range(_TURNS):
            found = self._get(path, f"heads/{path}")
            before = None if found is None else found.data
            # A write whose answer was lost is refused when it is tried again: it may be ours that stands.
            after = before if before is not None and before == wanted else change(before)
            with self._errors(what, "What served before still does; mend this, and do it again"):
                if after == before or self._swap(path, after, found):
                    self._pointers.put(name, after)
                    return after
            wanted = after
            # Jitter is no secret.
            self._pause(random.uniform(0, min(_LONGEST_S, _PAUSE_S * 2 ** min(turn, 8))))  # noqa: S311
        raise StorageError(f"{what}: others kept writing first, {_TURNS} times. Do it again")

    @cached_property
    def _obstore(self) -> Any:
        try:
            import obstore
            import obstore.exceptions
            import obstore.store
        except ImportError as exc:
            raise MissingExtra(
                f"heads in {self._root} need the package {exc.name!r}: pip install 'trunkline[server]'"
            ) from exc
        return obstore

    @cached_property
    def _opened(self) -> Any:
        opening = self._obstore.store.from_url
        with self._errors(
            f"{self._root} can't be opened", "See the settings of the cloud in the environment"
        ):
            return opening(self._root, retry_config=_RETRIES)

    def _visible(self, name: str | None) -> dict[str, tuple[int, ...]]:
        """Versions that have a card, by head; of one head or of all."""
        found: dict[str, list[int]] = defaultdict(list)
        for path in self._files(None if name is None else f"{name}/"):
            parts = path.split("/")
            version = parse_version(parts[1]) if len(parts) == 3 else None
            if version is not None and parts[2] == CARD_FILE and is_name(parts[0]):
                found[parts[0]].append(version)
        return {name: tuple(sorted(versions)) for name, versions in found.items()}

    def _files(self, prefix: str | None) -> list[str]:
        with self._errors(f"heads under {self._root} can't be listed", "Mend this, and ask again"):
            return [entry["path"] for page in self._obstore.list(self._opened, prefix) for entry in page]

    def _read_pointer(self, name: str) -> bytes | None:
        found = self._get(f"{name}/{POINTER_FILE}", f"heads/{name}/{POINTER_FILE}")
        return None if found is None else found.data

    def _read_stamp(self, key: tuple[str, int]) -> str:
        name, version = key
        with self._errors(f"{shown(name, version, CARD_FILE)} can't be read", "Mend this, and ask again"):
            try:
                found = self._obstore.head(self._opened, f"{name}/{version}/{CARD_FILE}")
            except FileNotFoundError as exc:
                raise missing(name, version, CARD_FILE) from exc
        return str(found["e_tag"] or found["version"] or found["last_modified"])

    def _get(self, path: str, where: str) -> _Object | None:
        with self._errors(f"{where} can't be read", "Mend this, and ask again"):
            try:
                found = self._obstore.get(self._opened, path)
                mark = {key: value for key in ("e_tag", "version") if (value := found.meta[key])}
                return _Object(bytes(found.bytes()), mark)
            except FileNotFoundError:
                return None

    def _create(self, path: str, data: bytes) -> bool:
        """Puts an object that is absent; False where there is one."""

        try:
            self._obstore.put(self._opened, path, data, mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError:
            return False
        return True

    def _swap(self, path: str, data: bytes, found: _Object | None) -> bool:
        """Puts an object over the one that was found, and over no other; False where another stands there."""

        if found is None:
            return self._create(path, data)
        try:
            self._obstore.put(self._opened, path, data, mode=found.mark, use_multipart=False)
        except (self._obstore.exceptions.PreconditionError, self._obstore.exceptions.AlreadyExistsError):
            # The second is what a store may say of two such writes at once.
            return False
        return True

    def _put(self, path: str, data: bytes) -> None:
        self._obstore.put(self._opened, path, data, use_multipart=False)

    def _delete(self, what: str, paths: list[str]) -> None:
        with self._errors(f"{what} can't be deleted", "Mend this, and delete it again"):
            for path in paths:
                self._obstore.delete(self._opened, path)

    @contextmanager
    def _errors(self, what: str, remedy: str) -> Iterator[None]:
        """Translates what obstore raises."""
        try:
            yield
        except OSError as exc:
            raise StorageError(f"{what}: {_plain(exc)}. {remedy}") from exc
        except Exception as exc:
            if not type(exc).__module__.startswith("obstore"):
                raise
            raise StorageError(f"{what}: {_plain(exc)}. {remedy}") from exc


def _plain(exc: BaseException) -> str:
    """The first line of what obstore says; the rest is the store's XML, or its own source."""
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[0][:_SHOWN].rstrip(".: ")
