"""What is wished of a collection's index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from trunkline_service.errors import InvalidArgument

IndexKind = Literal["flat", "hnsw", "ivf_flat", "ivf_sq8", "ivf_pq", "lance"]
WishedKind = Literal["auto", "flat", "hnsw", "ivf_flat", "ivf_sq8", "ivf_pq", "lance"]
MAX_K = 1000


@dataclass(frozen=True)
class IndexOptions:
    """What an index is to be like.

    Attributes:
        kind: ``auto`` chooses by size, dimension, memory and the recall that is measured.
        recall: The least recall@k that is wanted, measured against exact search.
        k: Of that recall.
        memory_mb: Mebibytes that the index may keep in memory; None for no bound.

    Raises:
        InvalidArgument: A value that can't be.
    """

    kind: WishedKind = "auto"
    recall: float = 0.99
    k: int = 10
    memory_mb: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(WishedKind):
            raise InvalidArgument(
                f"index kind is {self.kind!r}; it can be {', '.join(map(repr, get_args(WishedKind)))}"
            )
        if not 0.0 < self.recall <= 1.0:
            raise InvalidArgument(f"recall is {self.recall}; it can be above 0 and at most 1")
        if not 1 <= self.k <= MAX_K:
            raise InvalidArgument(f"k is {self.k}; it can be 1 to {MAX_K:,}")
        if self.memory_mb is not None and self.memory_mb < 1:
            raise InvalidArgument(f"memory_mb is {self.memory_mb}; it is at least 1")
