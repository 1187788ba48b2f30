"""Which kinds of index are worth building; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trunkline_service.errors import InvalidArgument
from trunkline_service.index.kinds.sizes import estimated_bytes
from trunkline_service.index.options import IndexKind, IndexOptions

_MIB = 1 << 20
# Above, a graph takes hours to build.
_MOST_OF_HNSW = 2_000_000
_ROWS_OF_A_LIST = 39
_FEWEST_OF_PQ = 256
_WIDE = 128


@dataclass(frozen=True)
class Candidate:
    """A structure to build.

    Attributes:
        kind: What.
        parameters: For `kinds.building.build`.
        nbytes: That it will take.
    """

    kind: IndexKind
    parameters: dict[str, int]
    nbytes: int


@dataclass(frozen=True)
class Plan:
    """Structures in the order in which they are tried.

    Attributes:
        candidates: Empty where exact search is the answer.
        reason: Why these, or why none; a clause without a full stop.
    """

    candidates: tuple[Candidate, ...]
    reason: str


def plan(rows: int, dim: int, options: IndexOptions, flat_rows: int) -> Plan:
    """What to try for a collection.

    Args:
        rows: That the structure would hold.
        dim: Floats of one vector.
        options: What is wished.
        flat_rows: Up to so many rows, ``auto`` compares all of them.

    Raises:
        InvalidArgument: Kind ``lance``, which is no structure of ours.
    """
    if options.kind == "lance":
        raise InvalidArgument("an index of kind 'lance' is built by the collection's own storage")
    if options.kind == "flat":
        return Plan((), "exact search was asked for")
    if options.kind != "auto":
        return _wished(options.kind, rows, dim, options)
    if rows <= flat_rows:
        return Plan((), f"all of {rows:,} rows are compared; up to {flat_rows:,} that is fast enough")
    return _automatic(rows, dim, options)


def _wished(kind: IndexKind, rows: int, dim: int, options: IndexOptions) -> Plan:
    least = _FEWEST_OF_PQ if kind == "ivf_pq" else 1
    if rows < least:
        return Plan((), f"{kind} needs at least {least} rows beside those held out, and there are {rows}")
    candidate = _candidate(kind, rows, dim, options)
    if _fits(candidate, options):
        return Plan((candidate,), f"{kind} was asked for")
    over = f"{kind} would take {_mib(candidate.nbytes):,} MiB where {options.memory_mb:,} are allowed"
    return Plan((), f"{over}; vectors are compared from their file instead")


def _automatic(rows: int, dim: int, options: IndexOptions) -> Plan:
    whole = [_candidate("ivf_flat", rows, dim, options)]
    if rows <= _MOST_OF_HNSW:
        whole.append(_candidate("hnsw", rows, dim, options))
    if fitting := tuple(candidate for candidate in whole if _fits(candidate, options)):
        return Plan(fitting, f"{rows:,} rows are many to compare one by one")
    over = f"whole vectors would take {_mib(whole[0].nbytes):,} MiB where {options.memory_mb:,} are allowed"
    kinds: tuple[IndexKind, ...] = ("ivf_sq8", "ivf_pq") if rows >= _FEWEST_OF_PQ else ("ivf_sq8",)
    small = [_candidate(kind, rows, dim, options) for kind in kinds]
    if fitting := tuple(candidate for candidate in small if _fits(candidate, options)):
        return Plan(fitting, f"{over}; they are compressed")
    least = _mib(min(candidate.nbytes for candidate in small))
    return Plan((), f"{over}, and compressed {least:,}; vectors are compared from their file instead")


def _candidate(kind: IndexKind, rows: int, dim: int, options: IndexOptions) -> Candidate:
    def sized(parameters: dict[str, int]) -> Candidate:
        return Candidate(kind, parameters, estimated_bytes(kind, rows, dim, parameters))

    if kind == "hnsw":
        m = 16 if dim <= _WIDE else 32
        return sized({"M": m, "efConstruction": 6 * m})
    lists = {"nlist": lists_for(rows)}
    if kind == "ivf_flat":
        return sized(lists)
    if kind == "ivf_sq8":
        return sized({**lists, "k_factor": 4})
    # The finest codes that are allowed: what they can't tell apart has to be compared anew.
    cuts = [sized({**lists, "m": m, "k_factor": 8}) for m in _code_counts(dim)]
    return next((candidate for candidate in cuts if _fits(candidate, options)), cuts[-1])


def lists_for(rows: int) -> int:
    """Lists of an IVF over so many rows: a power of two near 4 times the square root, of 39 rows or more."""
    near = 1 << round(math.log2(4 * math.sqrt(max(1, rows))))
    return max(1, min(near, rows // _ROWS_OF_A_LIST))


def _code_counts(dim: int) -> list[int]:
    """Codes that a vector can be cut into, most first: of two floats or more, down to one code."""
    return [m for m in range(max(1, dim // 2), 0, -1) if dim % m == 0]


def _fits(candidate: Candidate, options: IndexOptions) -> bool:
    return options.memory_mb is None or candidate.nbytes <= options.memory_mb * _MIB


def _mib(nbytes: int) -> int:
    return math.ceil(nbytes / _MIB)
