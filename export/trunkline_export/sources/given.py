"""A user's own vectors, to compare an export with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trunkline_export.gate.images import GateImage, given
from trunkline_export.joining.network import Given
from trunkline_service.errors import InvalidArgument

VECTORS = "vectors.npy"


def read_given(folder: Path) -> Given:
    """Reads images and ``vectors.npy`` of a folder: row i is the i-th file, sorted by name.

    Hidden files and folders are passed over.

    Raises:
        InvalidArgument: There are none, or their numbers differ, or the array is no finite float [N, dim].
    """
    try:
        vectors = _vectors(folder / VECTORS)
        paths = sorted(
            (
                path
                for path in folder.iterdir()
                if path.is_file() and path.name != VECTORS and not path.name.startswith(".")
            ),
            key=lambda path: path.name,
        )
        files = [path.read_bytes() for path in paths]
    except (OSError, ValueError) as exc:
        raise InvalidArgument(
            f"--reference {folder}: {exc}; it must hold images and {VECTORS}, your own pipeline's vectors of "
            "them in the order of their names"
        ) from exc
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating) or len(vectors) != len(files):
        raise InvalidArgument(
            f"--reference {folder}: {VECTORS} is {vectors.dtype} {list(vectors.shape)} for {len(files)} images; "
            "it must be float32 [N, dim], a row for each image in the order of their names"
        )
    # A vector of zeros has no direction that could be compared.
    unusable = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
    if unusable.any():
        row = int(np.argmax(unusable))
        raise InvalidArgument(
            f"--reference {folder}: row {row} of {VECTORS}, of {paths[row].name}, is not finite or all zeros"
        )
    named = (
        GateImage(path.name, image.data, image.lossless)
        for path, image in zip(paths, given(files), strict=True)
    )
    return Given(
        f"vectors of {len(files)} images given by the user", tuple(named), vectors.astype(np.float32)
    )


def _vectors(file: Path) -> NDArray[np.generic]:
    # Not numpy.load, which also opens archives and pickles.
    with file.open("rb") as handle:
        vectors: NDArray[np.generic] = np.lib.format.read_array(handle, allow_pickle=False)
    return vectors
