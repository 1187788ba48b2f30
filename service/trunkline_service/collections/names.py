"""Names of collections, safe as names of files."""

from __future__ import annotations

import re

from trunkline_service.errors import InvalidArgument

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_name(name: str) -> bool:
    """Whether a collection may be called so."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """The name itself.

    Raises:
        InvalidArgument: Not a name: empty, too long, or with characters that could leave the folder.
    """
    if not is_name(name):
        raise InvalidArgument(
            f"{name!r} can't name a collection; use 1 to 100 of the letters A-Z a-z, digits and . _ -, "
            "beginning with a letter or a digit"
        )
    return name
