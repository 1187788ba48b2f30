"""What is known of an index that was built: its card, ``card.json`` beside its files."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_service.index.options import IndexKind, IndexOptions

CARD_SCHEMA = 1


@dataclass(frozen=True)
class Recall:
    """Recall@k, measured against exact search on rows that the index does not hold.

    Attributes:
        k: Neighbours asked for.
        measured: The share of the true k that was found, mean over the queries.
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


@dataclass(frozen=True)
class Setting:
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
class Level:
    """The effort for searches of up to so many neighbours.

    Attributes:
        effort: ``efSearch`` or ``nprobe``.
        recall: Measured with it; searches of at most ``recall.k`` neighbours use it.
    """

    effort: int
    recall: Recall


@dataclass(frozen=True)
class IndexFile:
    """A file of an index: its name, bytes, and SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class IndexCard:
    """All about one build of an index; it never changes.

    Attributes:
        build: Its id: the version, twelve digits, a hyphen, random hexadecimal. Sorts by version.
        collection: The collection's name.
        uid: The collection's, which a later one of the same name does not share.
        space_id: The space of its vectors.
        dim: Floats of one vector.
        metric: How they are compared.
        version: The collection's version that it was built from.
        kind: What it is; ``flat`` where exact search is best, or nothing else reached the wanted recall.
        rows: Rows that the approximate structure holds; of ``flat``, those that there were.
        held_out: Rows beside them that are searched exactly, and that recall was measured with.
        parameters: Of the structure, by FAISS's names: ``nlist``, ``M``, ``efConstruction``, ``m``...
        effort: ``efSearch`` or ``nprobe`` that searches of ``options.k`` neighbours use.
        recall: What that effort gives; None for ``flat``, which is exact.
        settings: All that were measured.
        reason: Why this kind, in a sentence; says so where the wanted recall was not reached.
        options: What was wished.
        seconds: That the build took.
        nbytes: Bytes of it that are kept in memory when it is searched.
        files: What it consists of, without the card.
        made_by: Versions of Trunkline and FAISS.
        created_at: ISO 8601, UTC.
        levels: Efforts by the number of neighbours, ascending, the wished one first; searches of more
            neighbours than the last one's compare all rows.
    """

    build: str
    collection: str
    uid: str
    space_id: str
    dim: int
    metric: str
    version: int
    kind: IndexKind
    rows: int
    held_out: int
    parameters: dict[str, int]
    effort: int
    recall: Recall | None
    settings: tuple[Setting, ...]
    reason: str
    options: IndexOptions
    seconds: float
    nbytes: int
    files: tuple[IndexFile, ...]
    made_by: dict[str, str]
    created_at: str
    levels: tuple[Level, ...] = ()
