"""Where published models are fetched from: https, what Arrow's file systems reach (S3, ...), folders."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from trunkline_service.errors import InvalidArgument, ModelNotFound, StorageError
from trunkline_service.models.repository import CARD_FILE
from trunkline_service.models.web import Access, WebFolder
from trunkline_service.names import parse_version

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CHUNK = 1024 * 1024
_GOOGLE_RETRIES_S = 60
# What the clients of the clouds say where a key is missing or wrong, and where nobody answers.
_NO_RIGHT = re.compile(
    r"ACCESS_DENIED|ACCESS_KEY|SIGNATURE|access token|credential|HTTP status 40[13]", re.IGNORECASE
)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|NoSuchBucket")
_NO_WAY = re.compile(r"NETWORK_CONNECTION|curl")


class Location(Protocol):
    """A version's folder somewhere; ``str()`` of it names it without secrets."""

    def chunks(self, file: str) -> Generator[bytes, None, None]:
        """The bytes of one file, in pieces.

        Raises:
            ModelNotFound: There is no such file.
            StorageError: It can't be read.
        """
        ...


def locate(uri: str, access: Access) -> Location:
    """The version's folder that a URI names.

    Args:
        uri: ``https://``, ``s3://``, ``gs://``, ``file://``, anything else that
            ``pyarrow.fs.FileSystem.from_uri`` knows, or a path. It names a version's folder
            (``.../resnet18/1``), or a model's (``.../resnet18``: its newest version).
        access: How to reach places on the network.

    Raises:
        InvalidArgument: A URI that is none, that is not safe, or that can't be listed and needs a version.
        ModelNotFound: There is no such folder, or no version in it.
        StorageError: It can't be listed.
    """
    if not uri:
        raise InvalidArgument("an empty URI names no model; write https://..., s3://..., or a folder's path")
    if not _SCHEME.match(uri):
        from pyarrow import fs

        path = Path(uri).absolute().as_posix()
        return _newest(ArrowFolder(fs.LocalFileSystem(), path, uri.rstrip("/") or "/"))
    try:
        url = urlsplit(uri)
    except ValueError as exc:
        raise InvalidArgument(f"{uri.partition('://')[0]}://... is no URI: {exc}") from exc
    if url.scheme not in ("http", "https"):
        return _newest(_arrow_folder(uri))
    folder = WebFolder(url, access)
    if parse_version(url.path.rstrip("/").rpartition("/")[2]) is None:
        raise InvalidArgument(
            f"{folder} names no version, and versions can't be listed over {url.scheme}: add /VERSION, e.g. {folder}/1"
        )
    return folder


@dataclass(frozen=True)
class ArrowFolder:
    """A folder of one of Arrow's file systems.

    Attributes:
        filesystem: A ``pyarrow.fs.FileSystem``.
        path: In it.
        shown: The folder's URI, without secrets.
    """

    filesystem: Any
    path: str
    shown: str

    def __str__(self) -> str:
        return self.shown

    def child(self, name: str) -> ArrowFolder:
        """A folder in this one."""
        return ArrowFolder(self.filesystem, f"{self.path}/{name}", f"{self.shown}/{name}")

    def names(self) -> list[str]:
        """What is in it.

        Raises:
            ModelNotFound: There is no such folder.
            StorageError: It can't be listed.
        """
        from pyarrow import fs

        with _boundary(self.shown):
            return [entry.base_name for entry in self.filesystem.get_file_info(fs.FileSelector(self.path))]

    def chunks(self, file: str) -> Generator[bytes, None, None]:
        """See ``Location.chunks``."""
        with (
            _boundary(f"{self.shown}/{file}"),
            self.filesystem.open_input_stream(f"{self.path}/{file}", compression=None) as stream,
        ):
            while chunk := stream.read(_CHUNK):
                yield chunk


def _arrow_folder(uri: str) -> ArrowFolder:
    import pyarrow as pa
    from pyarrow import fs

    bare = urlsplit(uri)._replace(query="", fragment="")
    bare = bare._replace(netloc=bare.netloc.rpartition("@")[2], path=bare.path.rstrip("/"))
    shown = bare.geturl()
    try:
        # S3 is asked here for the region of the bucket.
        with _boundary(shown):
            filesystem, path = fs.FileSystem.from_uri(_patient(uri))
    except pa.ArrowException as exc:
        # Arrow repeats the URI in its message, secrets included.
        said = _first_line(exc).replace(uri, shown)
        raise InvalidArgument(
            f"{shown} is no place of models: {said}. Use https://, s3://, gs://, file:// or a path"
        ) from exc
    return ArrowFolder(filesystem, path.rstrip("/"), shown)


def _patient(uri: str) -> str:
    """Google's client tries for a quarter of an hour by default, and takes another limit in the URI."""
    url = urlsplit(uri)
    if url.scheme not in ("gs", "gcs") or "retry_limit_seconds=" in url.query:
        return uri
    limit = f"retry_limit_seconds={_GOOGLE_RETRIES_S}"
    return url._replace(query=f"{url.query}&{limit}" if url.query else limit).geturl()


def _newest(folder: ArrowFolder) -> ArrowFolder:
    """The folder itself if it is a version's; else the one of its newest version."""
    if parse_version(folder.shown.rpartition("/")[2]) is not None:
        # Not listed: the right to read objects does not always come with the right to list them.
        return folder
    names = folder.names()
    if CARD_FILE in names:
        return folder
    versions = [version for version in map(parse_version, names) if version is not None]
    if not versions:
        raise ModelNotFound(
            f"{folder} holds neither {CARD_FILE} nor versions of a model; name a model's folder, e.g. "
            f"{folder}/resnet18, or a version's, e.g. {folder}/resnet18/1"
        )
    return folder.child(str(max(versions)))


@contextmanager
def _boundary(where: str) -> Iterator[None]:
    """Translates what Arrow says about reading; what it says about URIs passes."""
    try:
        yield
    except FileNotFoundError as exc:
        raise ModelNotFound(f"{where} does not exist") from exc
    except OSError as exc:
        said = _first_line(exc)
        if _NO_BUCKET.search(said):
            raise ModelNotFound(f"{where} does not exist: no such bucket") from exc
        raise StorageError(f"{where} can't be read: {said}{_remedy(said)}") from exc


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")


def _remedy(said: str) -> str:
    if _NO_RIGHT.search(said):
        return (
            ". Is there a credential in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, "
            "GOOGLE_APPLICATION_CREDENTIALS), and may it read this?"
        )
    if _NO_WAY.search(said):
        return ". Is the address right, and the server up?"
    return ""
