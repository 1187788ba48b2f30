"""Names of what is stored, safe as names of files and objects; pure."""

from __future__ import annotations

import re
import secrets

from trunkline_service.errors import InvalidArgument
from trunkline_service.names import check_name, is_name

CARD_FILE = "card.json"
LEASE = "lease"
# No dot: what stands beside a uid's folder is called by the uid, a dot and a word.
_UID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_BUILD = re.compile(r"(?P<version>[0-9]{12,19})-[0-9a-f]{1,64}")
_LARGEST = 2**63 - 1


def key_of(collection: str, uid: str) -> str:
    """``<collection>/<uid>``, below which the builds of one collection are.

    Raises:
        InvalidArgument: One of them could lead out of the folder.
    """
    check_name(collection, "collection")
    if not is_uid(uid):
        raise InvalidArgument(f"{uid!r} can't be the uid of a collection; take it from `Collection.revision`")
    return f"{collection}/{uid}"


def is_uid(text: str) -> bool:
    """Whether ``text`` can be a collection's uid: letters, digits, ``_ -``, at most 100."""
    return _UID.fullmatch(text) is not None


def new_build(version: int) -> str:
    """An id for a build of a version; no two are the same, and they sort by version."""
    return f"{version:012d}-{secrets.token_hex(8)}"


def is_build(text: str) -> bool:
    """Whether ``text`` is the id of a build."""
    return _BUILD.fullmatch(text) is not None and version_of(text) <= _LARGEST


def version_of(build: str) -> int:
    """The version that a build was made of."""
    return int(build.partition("-")[0])


def is_file(text: str) -> bool:
    """Whether ``text`` can name a file of an index, which its card can't."""
    return is_name(text) and text != CARD_FILE
