"""Identity of spaces and artifacts (contract 1).

A ``space_id`` names the function from images to vectors: weights, architecture, preprocessing,
output node, pooling, normalisation. It does not depend on ONNX bytes, since exporters write versions
and paths into them. An ``artifact_id`` names one file that computes it, in one precision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trunkline_service.images.preprocess import Preprocess

# Raised when decoding conventions change (EXIF, CMYK, 16 bit, alpha): then old vectors are another space.
CONVENTIONS_VERSION = 1


@dataclass(frozen=True)
class OutputSpec:
    """Where the network is cut, and what becomes of the tensor there.

    Attributes:
        node: Name of the feature, e.g. ``pre_logits``.
        pool: ``avg``, ``cls``, ... or ``model`` for the network's own.
        normalize: ``none`` or ``l2``.
    """

    node: str
    pool: str
    normalize: str = "none"


def space_id(
    weights: Mapping[str, NDArray[np.generic]],
    architecture: str,
    preprocess: Preprocess,
    output: OutputSpec,
) -> str:
    """Hash of everything that decides a vector.

    Args:
        weights: Tensors by name. Floats of any width are hashed as float32 and integers as int64, so
            that the precision of a checkpoint file does not make another space of the same values.
        architecture: ``library/name`` of the network, without tags that only choose weights.
        preprocess: The transform before the network.
        output: Where the network is cut.

    Returns:
        ``sp1-`` and 32 hexadecimal digits (128 bits of SHA-256).
    """
    digest = hashlib.sha256()
    header = {
        "architecture": architecture,
        "preprocess": preprocess.to_json(),
        "conventions": CONVENTIONS_VERSION,
        "output": {"node": output.node, "pool": output.pool, "normalize": output.normalize},
    }
    digest.update(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(weights):
        # A counter of training steps, which inference never reads.
        if name.endswith("num_batches_tracked"):
            continue
        tensor = weights[name]
        floating = np.issubdtype(tensor.dtype, np.floating)
        values = np.ascontiguousarray(tensor, dtype="<f4" if floating else "<i8")
        digest.update(f"\n{name}{list(values.shape)}{values.dtype.str}\n".encode())
        digest.update(values.tobytes())
    return f"sp1-{digest.hexdigest()[:32]}"


def artifact_id(model_sha256: str, precision: str) -> str:
    """Identity of one exported file: ``ar1-`` and 32 hexadecimal digits.

    Args:
        model_sha256: Of the bytes of ``model.onnx``.
        precision: ``fp32``, ``fp16`` or ``int8``.
    """
    return f"ar1-{hashlib.sha256(f'{precision}:{model_sha256}'.encode()).hexdigest()[:32]}"


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises:
        OSError: The file can't be read.
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
