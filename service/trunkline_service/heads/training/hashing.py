"""The identity of what was learned from."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from trunkline_service.heads.training.training_set import TrainingSet

# Hashed together; all at once they may take more memory than the embeddings.
_TEXTS = 65_536


def training_hash(data: TrainingSet) -> str:
    """SHA-256 (hex) over the shape, the embeddings' little-endian bytes and the labels, in row order.

    Of anything but plain single labels also over the task, the targets, and the weights, groups and
    validation rows that there are: what a plain set's hash was it stays.
    """
    plain = data.task == "single-label" and data.weights is None and data.groups is None
    plain = plain and data.validation is None
    digest = hashlib.sha256(b"trunkline-training-1\0" if plain else b"trunkline-training-2\0")
    digest.update(np.array(data.embeddings.shape, dtype="<i8").tobytes())
    digest.update(data.embeddings.astype("<f4", copy=False).data)
    if plain:
        _add_texts(digest, data.labels)
        return digest.hexdigest()
    parts = {name: value is not None for name, value in _optional(data).items()}
    digest.update(_text(json.dumps({"task": data.task, "targets": data.targets, "parts": parts})))
    if data.task == "regression":
        digest.update(data.values().astype("<f8", copy=False).data)
    elif data.task == "single-label":
        _add_texts(digest, data.labels)
    else:
        _add_texts(digest, (json.dumps(row) for row in data.labels))
    if data.weights is not None:
        digest.update(data.weights.astype("<f8", copy=False).data)
    if data.groups is not None:
        _add_texts(digest, (json.dumps(group) for group in data.groups))
    if data.validation is not None:
        digest.update(data.validation.data)
    return digest.hexdigest()


def _optional(data: TrainingSet) -> dict[str, Any]:
    return {"weights": data.weights, "groups": data.groups, "validation": data.validation}


def _add_texts(digest: Any, texts: Iterable[Any]) -> None:
    rest = map(str, texts)
    while some := list(itertools.islice(rest, _TEXTS)):
        known = {text: _text(text) for text in set(some)}
        digest.update(b"".join([known[text] for text in some]))


def _text(text: str) -> bytes:
    # The length goes first, so that no two lists of labels give the same bytes.
    data = text.encode()
    return len(data).to_bytes(8, "little") + data
