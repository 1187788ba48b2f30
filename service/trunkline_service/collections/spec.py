"""What a collection holds: one space, one dimension, one way to decode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from trunkline_service.errors import InvalidArgument

METRICS = ("cosine", "dot", "euclidean")
"""How vectors can be compared: by angle, by inner product, or by distance."""
_COMPUTED, _DECLARED = "sp1-", "declared:"
RowDecode = Literal["exact", "fast", "unknown"]
"""How a row's image was decoded. ``unknown`` is for vectors that users brought."""
StoredFloat = Literal["float32", "float16"]


@dataclass(frozen=True)
class CollectionSpec:
    """The identity that a collection is created with and keeps (contract 1).

    Attributes:
        space_id: The vector space of every embedding in it.
        dim: Floats of one embedding.
        model: ``name@version`` of the model that it was created with; empty where the space is declared.
        artifact_id: That model's artifact; empty where the space is declared.
        decode: Decode mode of its rows; others are refused unless the caller says otherwise.
        pretrained: False where the backbone has random weights: its neighbours mean nothing.
        metric: How its vectors are compared, one of `METRICS`.
        dtype: The floats on disk. In memory they are float32 always.
        multi_label: Whether a label is a list.
        declared: The space was named by hand: nothing proves that the vectors lie in it.

    Raises:
        InvalidArgument: A value that no collection can have.
    """

    space_id: str
    dim: int
    model: str
    artifact_id: str
    decode: RowDecode
    pretrained: bool = True
    metric: str = "cosine"
    dtype: StoredFloat = "float32"
    multi_label: bool = False
    declared: bool = False

    def __post_init__(self) -> None:
        needed = ("space_id",) if self.declared else ("space_id", "model", "artifact_id")
        for name in needed:
            if not getattr(self, name):
                raise InvalidArgument(f"a collection needs a {name}; it is empty")
        if self.dim < 1:
            raise InvalidArgument(f"a collection's dim is at least 1; got {self.dim}")
        if self.decode not in get_args(RowDecode):
            raise InvalidArgument(f"decode is {self.decode!r}; it can be 'exact', 'fast' or 'unknown'")
        if self.decode == "unknown" and not self.declared:
            raise InvalidArgument("decode is 'unknown', which only vectors of a declared space can be")
        if self.metric not in METRICS:
            raise InvalidArgument(f"metric is {self.metric!r}; it can be {', '.join(METRICS)}")
        if self.dtype not in get_args(StoredFloat):
            raise InvalidArgument(f"dtype is {self.dtype!r}; it can be 'float32' or 'float16'")


def declared_space(name: str) -> str:
    """The space id of vectors that users brought, from the name that they gave it.

    No computed id begins as it does, so vectors of unknown origin never pass for a model's, unless the
    id of that model's space is given in full.

    Raises:
        InvalidArgument: No name.
    """
    if not name.strip():
        raise InvalidArgument("a declared space needs a name, e.g. 'clip-vit-b32'; it is empty")
    return name if name.startswith((_COMPUTED, _DECLARED)) else f"{_DECLARED}{name}"
