"""What Lance says of a condition, in words of who wrote it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.errors import InvalidArgument

READS: list[Callable[[Collection, str], Any]] = [
    lambda it, where: it.matrix(where),
    lambda it, where: it.delete_where(where),
    lambda it, where: list(it.scan(where=where)),
]


@pytest.fixture
def filled(collection: Collection) -> Collection:
    collection.upsert([Row("a", np.ones(4, np.float32), metadata={"n": 1})], space_id="sp1-a", decode="exact")
    return collection


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    ("where", "said"),
    [("label = ", "expected an expression, found its end after 'label ='"),
     ("label IN ('a',)", "expected an expression, found ) after \"label IN ('a',\""),
     ("(n > 1) AND ()", "expected an expression, found ) after '(n > 1) AND ('"),
     ("n > 1 n > 2", "expected an operator, or its end, found n after 'n > 1'"),
     ("n > 5 'a'", "expected an operator, or its end, found 'a' after 'n > 5'"),
     ("* > 1", "expected an expression, and it begins with *"),
     ("n == = 1", "expected an expression, found =."),
     ("", "it is empty"), (" /* nothing */ ", "it is empty"),
     ("id = 'a' AND " * 9 + "n = ", "AND id = 'a' AND n =\"")],
)  # fmt: skip
def test_a_condition_that_is_no_sql_is_refused_by_what_is_wrong_and_where(
    filled: Collection, read: Callable[[Collection, str], Any], where: str, said: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read(filled, where)
    message = caught.value.message
    assert "can't be used on collection 'flowers': it can't be read as SQL: " in message
    assert said in message
    assert "The columns are id, embedding" in message
    assert "SELECT" not in message
    assert "sql parser" not in message


def test_an_unknown_column_may_be_a_text_without_quotes(filled: Collection) -> None:
    with pytest.raises(
        InvalidArgument, match=r"No field named rose\. A text stands in single quotes, or is a par"
    ):
        filled.matrix("label = rose")
