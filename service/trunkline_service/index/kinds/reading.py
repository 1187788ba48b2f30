"""An approximate structure from its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import IndexDamaged
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.kinds.faiss_search import library
from trunkline_service.index.kinds.files import map_index, read_spread
from trunkline_service.index.kinds.hnsw import Hnsw
from trunkline_service.index.kinds.ivf import Ivf
from trunkline_service.index.options import IndexKind


def read(
    kind: IndexKind, folder: Path, vectors: NDArray[np.float32], parameters: dict[str, int], metric: str
) -> Approximate:
    """What `Approximate.write` wrote; its arrays stay in the file, which must not change.

    Args:
        kind: Not ``flat`` or ``lance``, which have no files.
        folder: Where it was written.
        vectors: float32 (N, dim), prepared; those that it was built from. May be memory-mapped.
        parameters: `Approximate.parameters`.
        metric: Of the vectors.

    Raises:
        IndexDamaged: FAISS can't read it, or it is not of this kind, these vectors or parameters.
    """
    faiss = library()

    classes = {
        "hnsw": faiss.IndexHNSWFlat,
        "ivf_flat": faiss.IndexIVFFlat,
        "ivf_sq8": faiss.IndexIVFScalarQuantizer,
        "ivf_pq": faiss.IndexIVFPQ,
    }
    index = map_index(folder)
    if kind not in classes or type(index) is not classes[kind]:
        raise IndexDamaged(
            f"{folder} holds a {type(index).__name__}, no index of kind {kind}; build it again"
        )
    if kind == "hnsw":
        return Hnsw(index, vectors, metric, parameters)
    if index.nlist != parameters.get("nlist"):
        raise IndexDamaged(
            f"the index in {folder} has {index.nlist} lists where its card says {parameters.get('nlist')}; "
            "build it again"
        )
    spread = read_spread(folder, index.nlist, vectors.shape[1])
    return Ivf(kind, index, vectors, metric, parameters, spread)
