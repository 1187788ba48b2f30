"""What a source is asked for besides weights: another input size, the classifier."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trunkline_service.errors import InvalidArgument
from trunkline_service.images.preprocess import MAX_SIDE

Size = tuple[int, int]
_SIZE = re.compile(r"([1-9][0-9]{0,4})(?:x([1-9][0-9]{0,4}))?")


@dataclass(frozen=True)
class Variant:
    """How the backbone shall differ from what its library offers.

    Attributes:
        size: (height, width) of the input in pixels, or None for the weights' own.
        keep_classifier: Whether the network's last layer is wanted too.
        class_names: Of its outputs, in order; empty for what the library knows.
    """

    size: Size | None = None
    keep_classifier: bool = False
    class_names: tuple[str, ...] = ()


def parse_size(text: str) -> Size:
    """``384`` or ``384x256`` (height x width).

    Raises:
        InvalidArgument: Anything else.
    """
    found = _SIZE.fullmatch(text)
    size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise InvalidArgument(
            f"size is {text!r}; give one number of pixels, or height x width such as 384x256, up to {MAX_SIDE}"
        )
    return size
