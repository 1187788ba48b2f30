from __future__ import annotations

import pytest
from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.names import check_name, parse_ref


@pytest.mark.parametrize("name", ["a", "A1", "0", "flowers-v2.final_3", "x" * 100])
def test_names_that_can_be_used(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-x", "_x", "a/b", "../a", "a b", "a\n", "é", "a\\b", "x" * 101, "a@1"]
)
def test_names_that_cannot(name: str) -> None:
    with pytest.raises(InvalidArgument, match="can't name a head"):
        check_name(name)


def test_references() -> None:
    assert parse_ref("flowers") == ("flowers", None)
    assert parse_ref("flowers@3") == ("flowers", 3)
    assert parse_ref("flowers@120") == ("flowers", 120)


@pytest.mark.parametrize("ref", ["a@", "a@0", "a@-1", "a@01", "a@x", "a@1@2", "a@1.0", "a@٣", "a@ 1"])
def test_references_whose_version_cannot_be_one(ref: str) -> None:
    with pytest.raises(InvalidArgument, match="no usable version"):
        parse_ref(ref)
