"""What may enter a collection, and which fault is named first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.errors import DecodeModeMismatch, InvalidArgument, SpaceMismatch


@pytest.mark.parametrize("write", [Collection.upsert, Collection.refresh])
def test_the_dimension_is_checked_before_the_decode_mode(
    collection: Collection, write: Callable[..., Any]
) -> None:
    with pytest.raises(InvalidArgument, match="row 'a': its embedding has 3 floats"):
        write(collection, [Row("a", np.ones(3, np.float32))], space_id="sp1-a", decode="fast")
    with pytest.raises(DecodeModeMismatch):
        write(collection, [Row("a", np.ones(4, np.float32))], space_id="sp1-a", decode="fast")
    with pytest.raises(SpaceMismatch):
        write(collection, [Row("a", np.ones(3, np.float32))], space_id="sp1-b", decode="fast")
