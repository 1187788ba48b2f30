"""The names of a comparison's collections, and the choice of a model: pure functions, by their laws."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import (
    InvalidArgument,
)
from trunkline_service.jobs.comparison.names import collection_name, free_prefix, prefix_of
from trunkline_service.jobs.comparison.pick import CLEARLY_FASTER, Standing, pick, ranked, reason
from trunkline_service.names import is_name

# Names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "prefix"),
    [
        ("photos", "photos"),
        ("/data/My photos (2024)/", "My-photos-2024-"),
        ("a/b/../hymen.optera", "hymen.optera"),
        (".hidden", "hidden"),
        ("/", "images"),
        ("日本", "images"),
    ],
)
def test_the_folder_names_the_collections(folder, prefix):
    assert prefix_of(Path(folder)) == prefix


def test_a_relative_folder_has_the_name_it_stands_for(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    assert prefix_of(Path(".")) == "photos"


@given(
    st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=60)
)
def test_every_folder_gives_a_name(text):
    assert is_name(prefix_of(Path("/data") / text))


@given(st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,20}\Z"), st.integers(1, 10**9 - 1))
def test_a_version_is_part_of_the_name(model, version):
    assert collection_name("photos", model) == f"photos-{model}"
    assert collection_name("photos", f"{model}@{version}") == f"photos-{model}-v{version}"


def test_a_name_that_is_too_long_says_what_to_give():
    with pytest.raises(InvalidArgument, match="--into"):
        collection_name("p" * 80, "m" * 20)


def test_a_free_prefix_is_free_for_every_model():
    taken = {"p-a", "p-2-b", "p-3-a-v1"}
    assert free_prefix("p", ["a", "b"], taken) == "p-3"
    assert free_prefix("p", ["a@1", "b"], taken) == "p-4"


# The choice -----------------------------------------------------------------------------------------------


def standing(model, accuracy, speed, p_value=None, size=1):
    return Standing(model, accuracy, speed, size, p_value)


probabilities = st.floats(0.0001, 1)
speeds = st.floats(1, 1000)


@st.composite
def rankings(draw):
    rows = draw(
        st.lists(st.tuples(st.sampled_from([0.7, 0.8, 0.9]), speeds, probabilities), min_size=1, max_size=6)
    )
    given = [standing(f"m{number}@1", *row) for number, row in enumerate(rows)]
    first, *rest = [given[position] for position in ranked(given)]
    return [dataclasses.replace(first, p_value=None), *rest]


@given(rankings())
def test_what_is_picked_is_not_worse_and_nothing_as_good_is_clearly_faster(standings):
    taken = standings[pick(standings)]
    level = [entry for entry in standings if not entry.worse]
    assert taken in level
    fastest = max(entry.images_per_second for entry in level)
    assert taken.images_per_second * CLEARLY_FASTER >= fastest * (1 - 1e-9)
    lead = taken.images_per_second / standings[0].images_per_second
    assert taken is standings[0] or lead > CLEARLY_FASTER


@given(rankings())
def test_the_reason_names_what_is_picked(standings):
    assert reason(standings, 100).startswith(f"{standings[pick(standings)].model}: ")


def test_ties_in_accuracy_go_to_the_faster_then_the_smaller_then_the_earlier():
    entries = [
        standing("late", 0.9, 10, size=5),
        standing("slow", 0.9, 9, size=1),
        standing("small", 0.9, 10, size=4),
        standing("again", 0.9, 10, size=4),
        standing("better", 0.91, 1),
    ]
    assert [entries[position].model for position in ranked(entries)] == [
        "better",
        "small",
        "again",
        "late",
        "slow",
    ]


@pytest.mark.parametrize(
    ("standings", "taken", "words"),
    [
        ([standing("a", 0.9, 10)], "a", "the only model given"),
        (
            [standing("a", 0.9, 10), standing("b", 0.7, 100, 0.04)],
            "a",
            "the most accurate (0.900), and significantly so",
        ),
        ([standing("a", 0.9, 10), standing("b", 0.89, 11, 0.5)], "a", "(b) none is clearly faster"),
        ([standing("a", 0.9, 10), standing("b", 0.9, 10, 1.0)], "a", "none is more accurate (0.900)"),
        (
            [standing("a", 0.9, 10), standing("b", 0.89, 25, 0.05), standing("c", 0.6, 99, 0.049)],
            "b",
            "2.5 times as fast as a, which was right more often (0.900 against 0.890), but by no more than chance "
            "explains over 1,200 images (p = 0.05)",
        ),
        (
            [standing("a", 0.9, 10), standing("b", 0.89, 95, 0.5), standing("c", 0.88, 100, 0.5)],
            "b",
            "9.5 times",
        ),
        (
            [standing("a", 0.9, 10), standing("b", 0.89, 50, 0.5), standing("c", 0.88, 100, 0.5)],
            "c",
            "10.0 times",
        ),
    ],
)
def test_the_choice_and_its_reason(standings, taken, words):
    assert standings[pick(standings)].model == taken
    assert words in reason(standings, 1200)
