"""What a server says about how a collection is searched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

IndexKind: TypeAlias = Literal["auto", "flat", "hnsw", "ivf_flat", "ivf_sq8", "ivf_pq", "lance"]
"""What an index can be wished to be; ``"auto"`` chooses by size, dimension, memory and measured recall."""


@dataclass(frozen=True)
class Recall:
    """Recall@k: the share of the true k nearest rows that an index finds, measured against exact search.

    Attributes:
        k: Neighbours asked for.
        measured: Mean over the queries, 0 to 1.
        low: The lower end of its 95% interval.
        queries: How many were asked.
        version: The collection's version that it was measured on.
        rows: Rows that were searched.
    """

    k: int
    measured: float
    low: float
    queries: int
    version: int
    rows: int

    def __str__(self) -> str:
        return f"recall@{self.k} {self.measured:.3f}"


@dataclass(frozen=True)
class IndexOptions:
    """What is wished of an index.

    Attributes:
        kind: One of `IndexKind`.
        recall: The least recall@k.
        k: Of that recall.
        memory_mb: Mebibytes that it may keep in memory; None for no bound.
    """

    kind: str = "auto"
    recall: float = 0.99
    k: int = 10
    memory_mb: int | None = None


@dataclass(frozen=True)
class IndexSetting:
    """One point of the trade between effort and recall.

    Attributes:
        effort: ``efSearch`` of HNSW, ``nprobe`` of IVF.
        recall: Measured with it.
        queries_per_s: Queries answered in a second, in batches of 64.
    """

    effort: int
    recall: float
    queries_per_s: float


@dataclass(frozen=True)
class IndexLevel:
    """The effort of searches of up to ``recall.k`` neighbours.

    Attributes:
        effort: ``efSearch`` of HNSW, ``nprobe`` of IVF.
        recall: Measured with it.
    """

    effort: int
    recall: Recall


@dataclass(frozen=True)
class IndexBuild:
    """One build of an index.

    Attributes:
        id: Its name.
        version: The collection's version that it was built from.
        kind: What it is; ``"flat"`` where exact search is best, or nothing else reached the wanted recall.
        rows: Rows that the approximate structure holds.
        held_out: Rows beside them that are searched exactly, and that recall was measured with.
        parameters: Of the structure, by FAISS's names: ``nlist``, ``M``, ...
        effort: ``efSearch`` or ``nprobe`` that searches of ``options.k`` neighbours use.
        recall: What that effort gives; None for ``"flat"``, which is exact.
        settings: All that were measured.
        reason: Why this kind, in a sentence; says so where the wanted recall was not reached.
        options: What was wished.
        seconds: That it took.
        memory_bytes: Bytes of it in memory while it is searched.
        stored_bytes: Bytes of its files.
        space_id: The space of its vectors.
        dim: Floats of one vector.
        metric: How they are compared.
        made_by: Versions of the programs that made it, by name.
        created_at: ISO 8601, UTC.
        levels: Efforts by the number of neighbours, ascending; searches of more neighbours than the last one's
            compare all rows. Empty for ``"flat"``.
    """

    id: str
    version: int
    kind: str
    rows: int
    held_out: int
    parameters: dict[str, int] = field(hash=False)
    effort: int
    recall: Recall | None
    settings: tuple[IndexSetting, ...] = field(repr=False)
    reason: str
    options: IndexOptions
    seconds: float
    memory_bytes: int
    stored_bytes: int
    space_id: str
    dim: int
    metric: str
    made_by: dict[str, str] = field(hash=False)
    created_at: str
    levels: tuple[IndexLevel, ...] = ()


@dataclass(frozen=True)
class IndexInfo:
    """How a collection is searched at the moment.

    Attributes:
        collection: Its name.
        version: The collection's version that the next search sees.
        kind: What serves: ``"flat"``, ``"hnsw"``, ``"ivf_flat"``, ``"ivf_sq8"``, ``"ivf_pq"`` or ``"lance"``.
        options: What is wished.
        rows: Rows with a vector.
        delta_rows: Of them, those that changed since the index was built; they are compared exactly.
        deleted_rows: Rows of the index that are gone or changed since.
        build: The one that serves; None where none was made.
        recall: The newest measurement; None where search is exact.
        building: Somebody is building now.
        note: Why search is as it is, in a sentence.
    """

    collection: str
    version: int
    kind: str
    options: IndexOptions
    rows: int
    delta_rows: int
    deleted_rows: int
    build: IndexBuild | None
    recall: Recall | None
    building: bool
    note: str
