"""From what a user names as a source to the source."""

from __future__ import annotations

import itertools
import os
from urllib.parse import unquote, urlsplit

from trunkline_service.errors import InvalidArgument
from trunkline_service.jobs.sources.columns import GUESSED, TableColumns
from trunkline_service.jobs.sources.folder import FolderSource
from trunkline_service.jobs.sources.layout import IMAGE_SUFFIXES, suffix_of, text_of
from trunkline_service.jobs.sources.pattern import has_wildcard, is_url, split_glob
from trunkline_service.jobs.sources.source import Source

_TEXT_TABLES = frozenset({".csv", ".tsv"})
_PARQUET = frozenset({".parquet", ".pq"})
_COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_DATASET_FILES = frozenset({"state.json", "dataset_info.json"})
# Entries of a folder looked at to tell whether it holds tables or images.
_LOOKED_AT = 1000
_KINDS = (
    "a folder or glob of images, a .csv, .tsv or .parquet table, .tar shards, a Hugging Face dataset saved "
    "to disk, or a URL such as s3://bucket/prefix"
)


def resolve(text: str, columns: TableColumns = GUESSED, id_prefix: str = "") -> Source:
    """The source that ``text`` names, told by what is there.

    Args:
        text: A path, a glob or a URL.
        columns: Of a table.
        id_prefix: Stands before every id, so that two sources can share a collection.

    Raises:
        InvalidArgument: None of the kinds of sources, or a column that does not exist.
        MissingExtra: The driver of a URL's scheme is not installed.
        StorageError: A place on the network can't be reached.
    """
    if not text:
        raise InvalidArgument(f"an empty text names no source; give {_KINDS}")
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if not is_url(text) and os.path.lexists(text):
        return _existing(text, columns, id_prefix)
    named = _named(text)
    if named.endswith(_COMPRESSED_TARS):
        raise _compressed(text)
    suffix = suffix_of(named)
    if suffix == ".tar":
        from trunkline_service.jobs.sources.webdataset import WebDatasetSource

        return WebDatasetSource(text, id_prefix)
    if suffix in _TEXT_TABLES | _PARQUET:
        return _table(text, columns, id_prefix)
    if is_url(text):
        return _remote(text, id_prefix)
    if has_wildcard(text):
        return FolderSource(*split_glob(text), id_prefix)
    raise InvalidArgument(f"{text!r} does not exist; give {_KINDS}")


def _existing(path: str, columns: TableColumns, id_prefix: str) -> Source:
    if os.path.isdir(path):
        return _existing_folder(path, columns, id_prefix)
    shown, suffix = text_of(path), suffix_of(path)
    if suffix in _TEXT_TABLES | _PARQUET:
        return _table(path, columns, id_prefix)
    if suffix == ".tar":
        from trunkline_service.jobs.sources.webdataset import WebDatasetSource

        return WebDatasetSource(path, id_prefix)
    if path.endswith(_COMPRESSED_TARS):
        raise _compressed(shown)
    if suffix in IMAGE_SUFFIXES:
        raise InvalidArgument(f"{shown!r} is one image; give the folder that holds it")
    raise InvalidArgument(f"{shown!r} is no source; give {_KINDS}")


def _existing_folder(path: str, columns: TableColumns, id_prefix: str) -> Source:
    try:
        with os.scandir(path) as entries:
            names = {entry.name for entry in itertools.islice(entries, _LOOKED_AT)}
    except OSError as exc:
        raise InvalidArgument(f"{text_of(path)!r} can't be listed: {exc.strerror or exc}") from exc
    if "dataset_dict.json" in names or names >= _DATASET_FILES:
        from trunkline_service.jobs.sources.huggingface import HuggingFaceSource

        return HuggingFaceSource(path, columns, id_prefix)
    suffixes = {suffix_of(name) for name in names}
    if suffixes & _PARQUET and not suffixes & IMAGE_SUFFIXES:
        return _table(path, columns, id_prefix)
    return FolderSource(path, None, id_prefix)


def _table(text: str, columns: TableColumns, id_prefix: str) -> Source:
    from trunkline_service.jobs.sources.table import TableSource

    return TableSource(text, columns, id_prefix)


def _remote(text: str, id_prefix: str) -> Source:
    from trunkline_service.jobs.sources.remote import RemoteSource

    if not has_wildcard(text):
        return RemoteSource(text, None, id_prefix)
    return RemoteSource(*split_glob(text), id_prefix)


def _named(text: str) -> str:
    """Without the options of a URL, which say nothing of what it names."""
    return text.partition("?")[0] if is_url(text) else text


def _compressed(text: str) -> InvalidArgument:
    return InvalidArgument(
        f"{text!r} is compressed, and an image inside can't be read by itself; decompress it to .tar first"
    )
