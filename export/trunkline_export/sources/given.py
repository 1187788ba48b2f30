"""A user's own vectors, to compare an export with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trunkline_export.gate_images import given
from trunkline_export.onnx_network import Given
from trunkline_service.errors import InvalidArgument

VECTORS = "vectors.npy"


def read_given(folder: Path) -> Given:
    """Reads images and ``vectors.npy`` of a folder: row i is the i-th file, sorted by name.

    Raises:
        InvalidArgument: There are none, or their numbers differ, or the array is no float32 [N, dim].
    """
    file = folder / VECTORS
    try:
        vectors = np.load(file, allow_pickle=False)
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.is_file() and path.name != VECTORS and not path.name.startswith(".")
        )
        images = tuple(given([path.read_bytes() for path in paths]))
    except (OSError, ValueError) as exc:
        raise InvalidArgument(
            f"--reference {folder}: {exc}; it must hold images and {VECTORS}, your own pipeline's vectors of "
            "them in the order of their names"
        ) from exc
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating) or len(vectors) != len(images):
        raise InvalidArgument(
            f"--reference {folder}: {VECTORS} is {vectors.dtype} {list(vectors.shape)} for {len(images)} images; "
            "it must be float32 [N, dim], a row for each image in the order of their names"
        )
    return Given(f"vectors of {len(images)} images given by the user", images, vectors.astype(np.float32))
