"""A row is ok with an embedding, or error with a reason; nothing else can be made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import InvalidArgument

VECTOR = np.array([1.0, 2.0], np.float32)


def test_an_ok_row_and_an_error_row_are_rows() -> None:
    assert Row("a", VECTOR).status == "ok"
    assert Row("a", None, status="error", error="truncated").embedding is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"id": ""}, "id is empty"),
        ({"embedding": None}, "status 'ok' has an embedding"),
        ({"error": "but it worked"}, "status 'ok' has an embedding and no error"),
        ({"status": "error", "error": "why"}, "no embedding"),
        ({"status": "error", "embedding": None}, "a reason"),
        ({"status": "error", "embedding": None, "error": ""}, "a reason"),
        ({"status": "pending"}, "'pending'"),
        ({"decode": "rough"}, "'rough'"),
        ({"embedding": np.array([1.0, np.nan], np.float32)}, "NaN"),
        ({"embedding": np.array([1.0, -np.inf], np.float32)}, "NaN or infinity"),
        ({"embedding": VECTOR.astype(np.float64)}, "float64"),
        ({"embedding": VECTOR[None]}, "shape"),
        ({"source": "caf\udce9.jpg"}, "source"),
        ({"id": "caf\udce9.jpg"}, "id is no valid"),
    ],
)
def test_anything_else_is_refused_naming_the_row_and_the_fault(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        Row(**{"id": "a", "embedding": VECTOR} | values)
    assert words in refusal.value.message


@pytest.mark.parametrize("values", [{"space_id": ""}, {"dim": 0}, {"decode": "rough"}, {"metric": "l2"}])
def test_a_spec_that_no_collection_can_have_is_refused(values: dict[str, Any]) -> None:
    good = {"space_id": "sp1-a", "dim": 2, "model": "m@1", "artifact_id": "ar1-a", "decode": "exact"}
    CollectionSpec(**good)
    with pytest.raises(InvalidArgument):
        CollectionSpec(**good | values)
