"""A part of a source for one of several boxes; pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from trunkline_service.errors import InvalidArgument

_WRITTEN = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Shard:
    """Which part of a source a job does.

    An item belongs to the shard that a hash of its id says, so shards are disjoint, together they are
    everything, and they stay so while files come and go.

    Attributes:
        number: From 1.
        count: How many there are.
    """

    number: int = 1
    count: int = 1

    def has(self, item_id: str) -> bool:
        """Whether an item belongs to it."""
        if self.count == 1:
            return True
        digest = hashlib.blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "little") % self.count == self.number - 1


WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """``"2/4"`` -> the second of four.

    Raises:
        InvalidArgument: Not of this form, or beyond the count.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None or int(found.group(1)) > int(found.group(2)):
        raise InvalidArgument(f"shard is {text!r}; write NUMBER/COUNT from 1, e.g. '2/4'")
    return Shard(int(found.group(1)), int(found.group(2)))
