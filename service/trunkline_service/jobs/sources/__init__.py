"""Where a job's images come from: folders, tables, shards, data sets, object stores, programs."""

from trunkline_service.jobs.sources.columns import TableColumns
from trunkline_service.jobs.sources.folder import FolderSource
from trunkline_service.jobs.sources.given import GivenSource
from trunkline_service.jobs.sources.item import Reader, Scalar, SourceItem
from trunkline_service.jobs.sources.layout import IMAGE_SUFFIXES, SPLITS, text_of
from trunkline_service.jobs.sources.reading import reader_of
from trunkline_service.jobs.sources.resolve import resolve
from trunkline_service.jobs.sources.source import ListedSource, Listing, Source

__all__ = [
    "IMAGE_SUFFIXES",
    "SPLITS",
    "FolderSource",
    "GivenSource",
    "ListedSource",
    "Listing",
    "Reader",
    "Scalar",
    "Source",
    "SourceItem",
    "TableColumns",
    "reader_of",
    "resolve",
    "text_of",
]
