"""Object stores and file systems behind URLs: S3 and Google through Arrow, all others through fsspec."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple, Protocol, cast
from urllib.parse import quote, unquote, urlsplit

from trunkline_service.errors import InvalidArgument, MissingExtra, StorageError
from trunkline_service.jobs.sources.files import too_large

# As in models/locations.py: Google's client tries for a quarter of an hour by default.
_GOOGLE_RETRIES = "retry_limit_seconds=60"
_ARROW_SCHEMES = frozenset({"s3", "gs", "gcs"})
_PASSWORD = re.compile(r"[^/@]*:[^/@]*@")
# The package that brings the driver of a scheme, where it is no secret.
_DRIVERS = {
    "http": "aiohttp",
    "https": "aiohttp",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "hf": "huggingface_hub",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
    "oss": "ossfs",
}
_MTIME_KEYS = ("mtime", "LastModified", "last_modified", "updated", "modified")
_ETAG_KEYS = ("ETag", "etag")


class Entry(NamedTuple):
    """A file or a folder of a store.

    Attributes:
        path: In the store.
        is_folder: Whether it is one.
        size: Bytes, or None where the store does not tell.
        mtime: Seconds since the epoch, or None.
        etag: The store's tag of the bytes, or None.
    """

    path: str
    is_folder: bool
    size: int | None
    mtime: float | None
    etag: str | None


class Store(Protocol):
    """A file system behind URLs. Its methods raise what its driver raises."""

    def entries(self, folder: str) -> Iterator[Entry]:
        """What is in a folder."""
        ...

    def stat(self, path: str) -> Entry:
        """One file."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of one file, of which at most ``limit`` + 1 are fetched.

        Raises:
            ImageTooLarge: More than ``limit`` bytes.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """One file, seekable."""
        ...


@dataclass(frozen=True)
class Place:
    """Something in a store.

    Attributes:
        store: The store.
        path: In it.
        uri: Its URL.
    """

    store: Store
    path: str
    uri: str


def place_of(uri: str) -> Place:
    """Where a URL leads.

    Raises:
        InvalidArgument: No URL of a store, or one with a password in it.
        MissingExtra: The driver of its scheme is not installed.
        StorageError: The store can't be reached.
    """
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    if _PASSWORD.match(rest):
        raise InvalidArgument(
            f"{scheme}://... holds a password, and sources are recorded: set it in the environment instead "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say)"
        )
    if scheme not in _ARROW_SCHEMES:
        return _fsspec_place(scheme, uri)
    try:
        url = urlsplit(uri)
    except ValueError as exc:
        raise InvalidArgument(f"{uri!r} is no URL: {exc}") from exc
    bucket = url.netloc.rpartition("@")[2]
    if not bucket:
        raise InvalidArgument(f"{uri!r} names no bucket; write {scheme}://bucket/prefix")
    store = ArrowStore(_arrow_filesystem(scheme, url.netloc, url.query))
    return Place(store, f"{bucket}{unquote(url.path)}".rstrip("/"), uri)


def child_uri(root: str, names: str) -> str:
    """The URL of what lies below a folder's URL.

    Args:
        root: The folder's, with options after ``?`` where its scheme knows them.
        names: The path below it, with ``/`` between names.
    """
    if root.partition("://")[0].lower() not in _ARROW_SCHEMES:
        return f"{root.rstrip('/')}/{names}"
    base, question, options = root.partition("?")
    # Only what would end the path or be taken for an escape.
    return f"{base.rstrip('/')}/{quote(names, safe=_UNQUOTED)}{question}{options}"


_UNQUOTED = "".join(map(chr, range(0x20, 0x7F))).translate({ord(sign): None for sign in "%#?"})


@dataclass(frozen=True)
class ArrowStore:
    """A file system of Arrow's.

    Attributes:
        filesystem: A ``pyarrow.fs.FileSystem``.
    """

    filesystem: Any

    def entries(self, folder: str) -> Iterator[Entry]:
        """See ``Store.entries``."""
        from pyarrow import fs

        for info in self.filesystem.get_file_info(fs.FileSelector(folder)):
            yield _of_arrow(info)

    def stat(self, path: str) -> Entry:
        """See ``Store.stat``."""
        from pyarrow import fs

        (info,) = self.filesystem.get_file_info([path])
        if info.type == fs.FileType.NotFound:
            raise FileNotFoundError(f"{path} does not exist")
        return _of_arrow(info)

    def read(self, path: str, limit: int) -> bytes:
        """See ``Store.read``."""
        with self.filesystem.open_input_file(path) as file:
            size = file.size()
            if size > limit:
                raise too_large(size, limit)
            return bytes(file.read(size))

    def open(self, path: str) -> BinaryIO:
        """See ``Store.open``."""
        return cast(BinaryIO, self.filesystem.open_input_file(path))


@dataclass(frozen=True)
class FsspecStore:
    """A file system of fsspec's.

    Attributes:
        filesystem: A ``fsspec.AbstractFileSystem``.
    """

    filesystem: Any

    def entries(self, folder: str) -> Iterator[Entry]:
        """See ``Store.entries``."""
        # A listing that fsspec kept from before would hide what is new.
        self.filesystem.invalidate_cache(folder)
        for info in self.filesystem.ls(folder, detail=True):
            yield _of_fsspec(info)
        self.filesystem.invalidate_cache(folder)

    def stat(self, path: str) -> Entry:
        """See ``Store.stat``."""
        return _of_fsspec(self.filesystem.info(path))

    def read(self, path: str, limit: int) -> bytes:
        """See ``Store.read``."""
        size = self.stat(path).size
        if size is not None and size > limit:
            raise too_large(size, limit)
        if size == 0:
            # Stores refuse a range of an empty object.
            return b""
        data: bytes = self.filesystem.cat_file(path, start=0, end=limit + 1 if size is None else size)
        if len(data) > limit:
            raise too_large(len(data), limit, at_least=True)
        return data

    def open(self, path: str) -> BinaryIO:
        """See ``Store.open``."""
        return cast(BinaryIO, self.filesystem.open(path, "rb"))


def _fsspec_place(scheme: str, uri: str) -> Place:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except ImportError as exc:
        package = _DRIVERS.get(scheme)
        remedy = f"pip install {package}" if package else str(exc).rstrip(".")
        raise MissingExtra(f"{scheme}:// needs a driver that is not installed: {remedy}") from exc
    except ValueError as exc:
        raise InvalidArgument(f"{uri!r} is no URL of a store that can be read: {exc}") from exc
    except OSError as exc:
        raise StorageError(f"{uri!r} can't be reached: {first_line(exc)}") from exc
    return Place(FsspecStore(filesystem), str(path).rstrip("/"), uri)


@functools.lru_cache(maxsize=32)
def _arrow_filesystem(scheme: str, netloc: str, options: str) -> Any:
    import pyarrow as pa
    from pyarrow import fs

    if scheme != "s3" and "retry_limit_seconds=" not in options:
        options = f"{options}&{_GOOGLE_RETRIES}" if options else _GOOGLE_RETRIES
    shown = f"{scheme}://{netloc}"
    try:
        # S3 is asked here for the region of the bucket.
        filesystem, _bucket = fs.FileSystem.from_uri(f"{shown}{'?' if options else ''}{options}")
    except FileNotFoundError as exc:
        raise InvalidArgument(f"{shown} does not exist") from exc
    except pa.ArrowException as exc:
        raise InvalidArgument(f"{shown} is no place of images: {first_line(exc)}") from exc
    except OSError as exc:
        raise StorageError(f"{shown} can't be reached: {first_line(exc)}") from exc
    return filesystem


def first_line(exc: Exception) -> str:
    """What a driver says, without the pages that some add."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")


def _of_arrow(info: Any) -> Entry:
    from pyarrow import fs

    mtime = info.mtime
    return Entry(
        path=info.path,
        is_folder=info.type == fs.FileType.Directory,
        size=info.size,
        mtime=mtime.timestamp() if mtime is not None else None,
        etag=None,
    )


def _of_fsspec(info: dict[str, Any]) -> Entry:
    mtime = next((info[key] for key in _MTIME_KEYS if info.get(key) is not None), None)
    etag = next((info[key] for key in _ETAG_KEYS if info.get(key)), None)
    return Entry(
        path=str(info["name"]).rstrip("/"),
        is_folder=info["type"] == "directory",
        size=info.get("size"),
        mtime=_seconds(mtime),
        etag=str(etag).strip('"') if etag is not None else None,
    )


def _seconds(mtime: object) -> float | None:
    if isinstance(mtime, datetime):
        return mtime.timestamp()
    if isinstance(mtime, int | float):
        return float(mtime)
    return None
