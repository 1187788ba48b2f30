"""A write that finds no row commits nothing: the version stays, and whoever follows it has nothing to read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.errors import InvalidArgument

WRITES: dict[str, Callable[[Collection], int]] = {
    "delete": lambda it: it.delete(["y", "z"]),
    "delete many": lambda it: it.delete([f"z{at}" for at in range(5000)]),
    "delete_where": lambda it: it.delete_where("n > ?", [99]),
    "relabel": lambda it: it.relabel({"z": "rose"}),
    "relabel, floats": lambda it: it.relabel({"z": 1.5}, "n"),
    "relabel_where": lambda it: it.relabel_where("rose", "n > 99"),
    "relabel_where, floats": lambda it: it.relabel_where(1.5, "n > 99", column="n"),
}


@pytest.fixture
def filled(collection: Collection) -> Collection:
    collection.upsert([Row("a", np.ones(4, np.float32), metadata={"n": 1})], space_id="sp1-a", decode="exact")
    return collection


@pytest.mark.parametrize("name", WRITES)
def test_a_write_to_no_row_leaves_the_version(filled: Collection, name: str) -> None:
    before = filled.version
    assert WRITES[name](filled) == 0
    assert filled.version == before
    assert filled.columns()["n"] == "int64"


def test_one_row_among_many_is_found(filled: Collection) -> None:
    before = filled.version
    assert filled.relabel({**{f"z{at}": "rose" for at in range(5000)}, "a": "rose"}) == 1
    assert filled.delete([*(f"z{at}" for at in range(5000)), "a"]) == 1
    assert filled.version == before + 2


@pytest.mark.parametrize(
    "refused",
    [lambda it: it.relabel({"z": 1}), lambda it: it.relabel({"z": "x"}, "n"), lambda it: it.relabel({"z": "x"}, "job"),
     lambda it: it.relabel_where("x", "n > 99", column="n"), lambda it: it.relabel_where("x", "n > 99", column="no"),
     lambda it: it.delete_where("no > 99"), lambda it: it.relabel_where("x", "no > 99")],
)  # fmt: skip
def test_what_is_wrong_is_refused_where_there_is_no_row_too(
    filled: Collection, refused: Callable[[Collection], int]
) -> None:
    with pytest.raises(InvalidArgument):
        refused(filled)
