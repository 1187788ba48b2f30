"""Where a data URI keeps collections: a local folder, or a prefix of an object store."""

from __future__ import annotations

import os
import shutil
import uuid
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from trunkline_service.errors import InvalidArgument

_SCHEMES = ("s3", "gs", "az")
_VERSIONS = "_versions"


class Place(Protocol):
    """A folder of folders and small files. Paths are relative, with forward slashes.

    Methods raise what the file system says (``OSError``); callers translate.
    """

    def uri(self, path: str) -> str:
        """As Lance takes it."""
        ...

    def folders(self) -> list[str]:
        """Names of the folders in it, unsorted."""
        ...

    def holds(self, folder: str) -> bool:
        """Whether a folder is a Lance dataset with at least one version; a folder alone is none."""
        ...

    def size(self, folder: str) -> int:
        """Bytes of the files below a folder; files that vanish meanwhile count nothing."""
        ...

    def remove(self, folder: str) -> None:
        """Deletes a folder. It is no dataset from the first moment on."""
        ...

    def texts(self, folder: str) -> list[str]:
        """Names of the files directly in a folder; none where there is no such folder."""
        ...

    def read_text(self, path: str) -> str | None:
        """A small file, or None where there is none."""
        ...

    def write_text(self, path: str, text: str) -> None:
        """Writes a small file, whole or not at all."""
        ...

    def delete_text(self, path: str) -> bool:
        """Deletes a small file; False where there is none."""
        ...


def open_place(data: str | Path, folder: str) -> Place:
    """The folder below a data URI.

    Raises:
        InvalidArgument: A scheme that is not supported.
    """
    text = str(data)
    if "://" not in text:
        return LocalPlace(Path(data).absolute() / folder)
    scheme = urlsplit(text).scheme
    if scheme == "file":
        return LocalPlace(Path(urlsplit(text).path) / folder)
    if scheme not in _SCHEMES:
        raise InvalidArgument(
            f"data is {text!r}; it can be a local folder, or begin with {', '.join(f'{s}://' for s in _SCHEMES)}"
        )
    return ObjectPlace(f"{text.rstrip('/')}/{folder}")


class LocalPlace:
    """A folder of this machine; see `Place`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def uri(self, path: str) -> str:
        """See `Place`."""
        return str(self._root / path)

    def folders(self) -> list[str]:
        """See `Place`."""
        if not self._root.is_dir():
            return []
        return [entry.name for entry in self._root.iterdir()]

    def holds(self, folder: str) -> bool:
        """See `Place`."""
        return any((self._root / folder / _VERSIONS).glob("*.manifest"))

    def size(self, folder: str) -> int:
        """See `Place`."""
        total = 0
        for root, _, files in os.walk(self._root / folder):
            for name in files:
                try:
                    total += (Path(root) / name).stat().st_size
                except FileNotFoundError:
                    continue
        return total

    def remove(self, folder: str) -> None:
        """See `Place`."""
        # No collection's name begins with a dot, so half-deleted files are nobody's collection.
        grave = self._root / f".dropped-{uuid.uuid4().hex}"
        (self._root / folder).rename(grave)
        shutil.rmtree(grave)

    def sweep(self) -> None:
        """Deletes what a `remove` left that was killed half-way."""
        for grave in self._root.glob(".dropped-*"):
            shutil.rmtree(grave, ignore_errors=True)

    def texts(self, folder: str) -> list[str]:
        """See `Place`."""
        if not (self._root / folder).is_dir():
            return []
        return [entry.name for entry in (self._root / folder).iterdir() if not entry.name.startswith(".")]

    def read_text(self, path: str) -> str | None:
        """See `Place`."""
        try:
            return (self._root / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def write_text(self, path: str, text: str) -> None:
        """See `Place`."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with part.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def delete_text(self, path: str) -> bool:
        """See `Place`."""
        try:
            (self._root / path).unlink()
        except FileNotFoundError:
            return False
        return True


class ObjectPlace:
    """A prefix of an object store; see `Place`. Credentials come from the environment."""

    def __init__(self, root: str) -> None:
        self._root = root

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from pyarrow import fs

        filesystem, path = fs.FileSystem.from_uri(self._root)
        return filesystem, path

    def _path(self, path: str) -> str:
        return f"{self._opened[1]}/{path}"

    def uri(self, path: str) -> str:
        """See `Place`."""
        return f"{self._root}/{path}"

    def folders(self) -> list[str]:
        """See `Place`."""
        filesystem, root = self._opened
        return [entry.base_name for entry in self._infos(filesystem, root)]

    def holds(self, folder: str) -> bool:
        """See `Place`."""
        return bool(self._infos(self._opened[0], self._path(f"{folder}/{_VERSIONS}")))

    def size(self, folder: str) -> int:
        """See `Place`."""
        return sum(entry.size or 0 for entry in self._infos(self._opened[0], self._path(folder), deep=True))

    def remove(self, folder: str) -> None:
        """See `Place`."""
        filesystem = self._opened[0]
        filesystem.delete_dir(self._path(f"{folder}/{_VERSIONS}"))
        filesystem.delete_dir(self._path(folder))

    def texts(self, folder: str) -> list[str]:
        """See `Place`."""
        return [
            entry.base_name for entry in self._infos(self._opened[0], self._path(folder)) if entry.is_file
        ]

    def read_text(self, path: str) -> str | None:
        """See `Place`."""
        try:
            with self._opened[0].open_input_stream(self._path(path)) as stream:
                return bytes(stream.read()).decode()
        except FileNotFoundError:
            return None

    def write_text(self, path: str, text: str) -> None:
        """See `Place`."""
        # One object is put at once, or not at all.
        with self._opened[0].open_output_stream(self._path(path)) as stream:
            stream.write(text.encode())

    def delete_text(self, path: str) -> bool:
        """See `Place`."""
        if self.read_text(path) is None:
            return False
        self._opened[0].delete_file(self._path(path))
        return True

    def _infos(self, filesystem: Any, path: str, deep: bool = False) -> list[Any]:
        from pyarrow import fs

        selector = fs.FileSelector(path, allow_not_found=True, recursive=deep)
        return list(filesystem.get_file_info(selector))
