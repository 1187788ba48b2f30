"""Paths as a table writes them: relative to its folder, absolute, or URLs."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from trunkline_service.jobs.sources.pattern import is_url
from trunkline_service.jobs.sources.stores import child_uri


def beside(table: str, path: str) -> str:
    """The source that ``path`` in a table names.

    Args:
        table: A local path or a URL.
        path: Relative to the table's folder, absolute, or a URL.
    """
    if path.startswith("file://"):
        return unquote(urlsplit(path).path)
    if is_url(path) or os.path.isabs(path):
        return path
    if not is_url(table):
        return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(table)), path))
    base, question, options = table.partition("?")
    return child_uri(f"{base.rpartition('/')[0]}{question}{options}", path)
