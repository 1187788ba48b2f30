"""The pointer as a value: what serves after any moves, and reading it back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument, ModelFileError
from trunkline_service.heads.storage.pointer import Pointer
from trunkline_service.heads.storage.reference import HeadReference, parse_head

VERSIONS = st.integers(1, 9)


@given(st.lists(VERSIONS, max_size=30))
def test_rollbacks_undo_promotes_one_by_one(versions: list[int]) -> None:
    pointer, seen = Pointer(), [Pointer()]
    for version in versions:
        moved = pointer.promoted(version)
        assert moved.serving == version
        if moved != pointer:
            seen.append(moved)
        pointer = moved
    for before in reversed(seen[1:-1]):
        rolled = pointer.rolled_back()
        assert rolled == before
        pointer = rolled
    assert pointer.rolled_back() is None or not versions


@given(st.permutations(range(1, 9)))
def test_of_savers_at_once_the_newest_serves_and_none_is_lost(order: list[int]) -> None:
    pointer = Pointer()
    for version in order:
        pointer = pointer.saved(version, range(1, 9))
    assert pointer.serving == 8
    assert sorted(pointer.history) == list(range(1, 8))


@given(
    st.builds(
        Pointer,
        serving=st.none() | VERSIONS,
        history=st.lists(VERSIONS).map(tuple),
        aliases=st.dictionaries(st.text(min_size=1), VERSIONS),
        shadow=st.none() | VERSIONS,
        deleted=st.lists(VERSIONS).map(tuple),
    )
)
def test_it_is_read_back_as_it_was_written(pointer: Pointer) -> None:
    assert Pointer.loads(pointer.dumps(), "here") == pointer


def test_a_serving_version_that_is_not_there_holds_up_no_newer_one() -> None:
    assert Pointer(4, (2,)).saved(1, [1]) == Pointer(1, (2,))
    assert Pointer(4, (2,)).saved(1, [1, 4]) == Pointer(4, (2, 1))


def test_a_head_of_an_older_trunkline_serves_its_newest_version() -> None:
    assert Pointer.implied([]) == Pointer()
    assert Pointer.implied([2, 5, 10]) == Pointer(10, (2, 5))


def test_a_shadow_that_comes_to_serve_is_no_shadow_any_more() -> None:
    pointer = Pointer(1, shadow=2).promoted(2)
    assert pointer == Pointer(2, (1,))
    assert Pointer(2, (1,), shadow=1).rolled_back() == Pointer(1)


def test_what_a_version_is_needed_for() -> None:
    pointer = Pointer(3, (1,), {"prod": 3, "beta": 2}, shadow=2, deleted=(4,))
    assert pointer.roles_of(1) == []
    assert pointer.roles_of(2) == ["it is the shadow", "alias 'beta' stands for it"]
    assert pointer.roles_of(3) == ["it is serving", "alias 'prod' stands for it"]
    assert pointer.without(1) == Pointer(3, (), {"prod": 3, "beta": 2}, shadow=2, deleted=(1, 4))


def test_the_history_has_an_end() -> None:
    pointer = Pointer()
    for version in range(1, 500):
        pointer = pointer.promoted(version)
    assert len(pointer.history) == 100
    assert pointer.history[-1] == 498


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "schema_version 2"),
        ({"serving": "1"}, "serving must be int or NoneType"),
        ({"serving": True}, "serving must be int"),
        ({"history": [1, "2"]}, r"history\[1\] must be int"),
        ({"aliases": {"prod": None}}, "aliases"),
        ({"more": 1}, "unknown more"),
        ({"shadow": 2**40}, "1099511627776, which can't be a version.* Or delete pointer of x: the newest"),
        ({"serving": 0}, "0, which can't be a version"),
        ({"aliases": {"prod": -1}}, "-1, which can't be a version"),
        ({"history": [-1]}, "-1, which can't be a version"),
        ({"deleted": [2**31]}, "which can't be a version"),
        ({"aliases": {"\ud800": 1}}, "not valid JSON"),
    ],
)
def test_what_is_no_pointer_is_refused(change: dict[str, object], words: str) -> None:
    document = json.loads(Pointer(1).dumps()) | change
    with pytest.raises(ModelFileError, match=f"pointer of x.*{words}"):
        Pointer.loads(json.dumps(document).encode(), "pointer of x")
    with pytest.raises(ModelFileError, match="not valid JSON"):
        Pointer.loads(b"{", "here")


def test_references() -> None:
    assert parse_head("flowers") == HeadReference("flowers")
    assert parse_head("flowers@12") == HeadReference("flowers", 12)
    assert parse_head("flowers@prod") == HeadReference("flowers", alias="prod")
    for text in ("flowers@", "flowers@0", "flowers@007", "flowers@../x", "@3", "../x", "a/b", ""):
        with pytest.raises(InvalidArgument):
            parse_head(text)
