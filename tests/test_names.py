from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument
from trunkline_service.names import check_name, near, parse_reference


@pytest.mark.parametrize("name", ["a", "A1", "0", "flowers-v2.final_3", "x" * 100])
def test_names_that_can_be_used(name: str) -> None:
    assert check_name(name, "head") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-x", "_x", "a/b", "../a", "a b", "a\n", "é", "a\\b", "x" * 101, "a@1"]
)
def test_names_that_cannot(name: str) -> None:
    with pytest.raises(InvalidArgument, match="can't name a head"):
        check_name(name, "head")


def test_references() -> None:
    assert parse_reference("flowers", "head") == ("flowers", None)
    assert parse_reference("flowers@3", "head") == ("flowers", 3)
    assert parse_reference("flowers@120", "head") == ("flowers", 120)


@pytest.mark.parametrize("ref", ["a@", "a@0", "a@-1", "a@01", "a@x", "a@1@2", "a@1.0", "a@٣", "a@ 1"])
def test_references_whose_version_cannot_be_one(ref: str) -> None:
    with pytest.raises(InvalidArgument, match="no usable version"):
        parse_reference(ref, "head")


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=20))
def test_help_is_a_half_sentence_whatever_the_names(name: str, known: list[str]) -> None:
    text = near(name, known)
    assert text.startswith("; ") == bool(known)


def test_help_names_what_is_near() -> None:
    assert near("rsnet18", ["vgg", "resnet18"]) == "; did you mean 'resnet18'?"
