"""Where a comparison keeps its vectors: one collection a model, named for the folder and the model. Pure."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Container, Sequence
from pathlib import Path

from trunkline_service.errors import InvalidArgument
from trunkline_service.names import is_name, parse_reference

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
# Where nothing of a folder's own name can be used.
_NAMELESS = "images"


def prefix_of(folder: Path) -> str:
    """The folder's name as the beginning of a collection's: ``"My photos"`` -> ``"My-photos"``."""
    own = os.path.basename(os.path.abspath(folder))
    return _NOT_IN_NAMES.sub("-", own).lstrip("._-") or _NAMELESS


def collection_name(prefix: str, reference: str) -> str:
    """``("photos", "dino@2")`` -> ``"photos-dino-v2"``.

    Raises:
        InvalidArgument: The reference can't be one, or the two make no name.
    """
    name = _joined(prefix, reference)
    if not is_name(name):
        raise InvalidArgument(
            f"the vectors of model {reference!r} would be kept in a collection {name!r}, which can't be a name: "
            "give an --into of letters, digits, '.', '_' or '-', short enough for 100 in all"
        )
    return name


def free_prefix(prefix: str, references: Sequence[str], taken: Container[str]) -> str:
    """The first of ``prefix-2``, ``prefix-3``, ... under which no collection of these models exists."""
    candidates = (f"{prefix}-{number}" for number in itertools.count(2))
    return next(
        candidate
        for candidate in candidates
        if not any(_joined(candidate, reference) in taken for reference in references)
    )


def _joined(prefix: str, reference: str) -> str:
    model, version = parse_reference(reference, "model")
    return f"{prefix}-{model}" + ("" if version is None else f"-v{version}")
