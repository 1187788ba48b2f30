"""How much memory a structure takes; pure."""

from __future__ import annotations

from trunkline_service.index.options import IndexKind

_ID = 8
# FAISS keeps about as much of each list beside its rows.
_LIST = 64
# Of each row: where its links begin, and its level.
_LINKS = 12
_CODES = 256


def estimated_bytes(kind: IndexKind, rows: int, dim: int, parameters: dict[str, int]) -> int:
    """Bytes of a structure before it is built.

    Exact but for HNSW, whose levels are drawn: there within a few percent. For ``flat``, which has no
    structure, the bytes of the vectors. What is compressed is sure of its answers by the vectors in their
    file, of which it touches few rows; they are not counted.

    Args:
        kind: Not ``lance``, whose index is on disk.
        rows: Of the vectors.
        dim: Floats of one vector.
        parameters: ``M`` of HNSW, ``nlist`` of IVF, and ``m`` of product codes.
    """
    vectors = 4 * rows * dim
    if kind == "flat":
        return vectors
    if kind == "hnsw":
        m = parameters["M"]
        # 2M links at the bottom; one row in M has M more on the level above it, and so on.
        return vectors + rows * _LINKS + int(4 * rows * (2 * m + m / (m - 1)))
    codes = {"ivf_flat": 4 * dim, "ivf_sq8": dim, "ivf_pq": parameters.get("m", 0)}[kind]
    learnt = {"ivf_flat": 0, "ivf_sq8": 8 * dim, "ivf_pq": 4 * _CODES * dim}[kind]
    # Centroids twice: FAISS's, and turned for NumPy's products; and each list's main direction.
    return rows * (codes + _ID) + parameters["nlist"] * (12 * dim + _LIST) + learnt
