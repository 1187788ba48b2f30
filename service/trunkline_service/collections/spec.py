"""What a collection holds: one space, one dimension, one way to decode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from trunkline_service.errors import InvalidArgument
from trunkline_service.settings import DecodeMode

METRICS = ("cosine",)


@dataclass(frozen=True)
class CollectionSpec:
    """The identity that a collection is created with and keeps (contract 1).

    Attributes:
        space_id: The vector space of every embedding in it.
        dim: Floats of one embedding.
        model: ``name@version`` of the model that it was created with.
        artifact_id: That model's artifact.
        decode: Decode mode of its rows; others are refused unless the caller says otherwise.
        pretrained: False where the backbone has random weights: its neighbours mean nothing.
        metric: How its vectors are compared.

    Raises:
        InvalidArgument: A value that no collection can have.
    """

    space_id: str
    dim: int
    model: str
    artifact_id: str
    decode: DecodeMode
    pretrained: bool = True
    metric: str = "cosine"

    def __post_init__(self) -> None:
        for name in ("space_id", "model", "artifact_id"):
            if not getattr(self, name):
                raise InvalidArgument(f"a collection needs a {name}; it is empty")
        if self.dim < 1:
            raise InvalidArgument(f"a collection's dim is at least 1; got {self.dim}")
        if self.decode not in get_args(DecodeMode):
            raise InvalidArgument(f"decode is {self.decode!r}; it can be 'exact' or 'fast'")
        if self.metric not in METRICS:
            raise InvalidArgument(f"metric is {self.metric!r}; it can be {', '.join(METRICS)}")
