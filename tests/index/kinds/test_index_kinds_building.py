"""How structures are built, sized, written and read."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from tests.index.kinds.structures import (
    DIM,
    KINDS,
    PARAMETERS,
    ROWS,
    built,
    structure,
    vectors_of,
)

from trunkline_service.errors import Cancelled, IndexDamaged, InvalidArgument, StorageError
from trunkline_service.index.kinds.building import build
from trunkline_service.index.kinds.reading import read
from trunkline_service.index.kinds.sizes import estimated_bytes
from trunkline_service.index.options import IndexKind


def test_codes_take_less_memory() -> None:
    flat, sq8, pq = (structure(kind, "cosine").nbytes for kind in ("ivf_flat", "ivf_sq8", "ivf_pq"))

    assert flat > ROWS * DIM * 4 > sq8 > ROWS * (DIM + 8) > pq


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_estimated_well_and_near_the_size_of_the_file(kind: IndexKind, tmp_path: Path) -> None:
    approximate = structure(kind, "cosine")
    approximate.write(tmp_path)

    estimated = estimated_bytes(kind, ROWS, DIM, approximate.parameters)

    assert estimated == pytest.approx(approximate.nbytes, rel=0.03)
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert approximate.nbytes == pytest.approx(written, rel=0.05)


def test_progress_goes_from_nothing_to_all_in_each_phase() -> None:
    told: dict[str, list[float]] = {}

    build(
        "ivf_sq8",
        vectors_of("cosine"),
        metric="cosine",
        parameters=PARAMETERS["ivf_sq8"],
        progress=lambda phase, done: told.setdefault(phase, []).append(done),
        cancelled=lambda: False,
        threads=1,
    )

    assert list(told) == ["clustering", "learning codes", "adding", "measuring lists"]
    assert all(
        shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0 for shares in told.values()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_cancelling_ends_a_build(kind: IndexKind) -> None:
    with pytest.raises(Cancelled):
        build(
            kind,
            vectors_of("cosine"),
            metric="cosine",
            parameters=PARAMETERS[kind],
            progress=lambda phase, done: None,
            cancelled=lambda: True,
            threads=1,
        )


def test_a_graph_is_linked_in_steps_between_which_it_can_be_cancelled() -> None:
    told: list[float] = []

    with pytest.raises(Cancelled):
        build(
            "hnsw",
            vectors_of("cosine"),
            metric="cosine",
            parameters=PARAMETERS["hnsw"],
            progress=lambda phase, done: told.append(done),
            cancelled=lambda: len(told) == 2,
            threads=1,
        )

    assert told == [0, 1024 / ROWS]


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("flat", {}, "kind 'flat'"),
        ("lance", {}, "kind 'lance'"),
        ("ivf_pq", {"nlist": 4, "m": 5, "k_factor": 1}, "must divide the dimension, 16"),
        ("ivf_flat", {"nlist": ROWS + 1}, "3001 centroids"),
    ],
)
def test_what_cannot_be_built_is_refused(kind: IndexKind, parameters: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        build(
            kind,
            vectors_of("cosine"),
            metric="cosine",
            parameters=parameters,
            progress=lambda phase, done: None,
            cancelled=lambda: False,
            threads=1,
        )


def test_product_codes_of_few_rows_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="needs 256 vectors or more; there are 255"):
        built("ivf_pq", "cosine", vectors_of("cosine")[:255], nlist=2)


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_not_what_was_written_are_refused(kind: IndexKind, tmp_path: Path) -> None:
    original, vectors = structure(kind, "cosine"), vectors_of("cosine")
    parameters = original.parameters
    original.write(tmp_path)
    path = tmp_path / "index.faiss"
    whole_file = path.read_bytes()

    with pytest.raises(IndexDamaged, match="build it again"):
        read(kind, tmp_path, vectors[:-1], parameters, "cosine")
    with pytest.raises(IndexDamaged, match="build it again"):
        read(kind, tmp_path, vectors[:, :-1], parameters, "cosine")
    with pytest.raises(IndexDamaged, match="build it again"):
        read(kind, tmp_path, vectors, parameters, "euclidean")
    for other in set(get_args(IndexKind)) - {kind}:
        with pytest.raises(IndexDamaged, match="build it again"):
            read(other, tmp_path, vectors, parameters, "cosine")
    if kind != "hnsw":
        with pytest.raises(IndexDamaged, match="24 lists where its card says 25"):
            read(kind, tmp_path, vectors, parameters | {"nlist": 25}, "cosine")
    for content in (b"", whole_file[:10], whole_file[: len(whole_file) // 2], b"\0" * len(whole_file)):
        path.write_bytes(content)
        with pytest.raises(IndexDamaged, match="build it again"):
            read(kind, tmp_path, vectors, parameters, "cosine")
    path.unlink()
    with pytest.raises(IndexDamaged, match="build it again"):
        read(kind, tmp_path, vectors, parameters, "cosine")


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can't write the index"):
        structure("ivf_flat", "cosine").write(tmp_path / "missing")


def test_the_same_vectors_give_the_same_lists(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        built("ivf_flat", "cosine", vectors_of("cosine")).write(tmp_path / name)

    one, other = ((tmp_path / name / "index.faiss").read_bytes() for name in ("one", "other"))
    assert one == other


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq8", "ivf_pq"])
def test_lists_without_their_spread_are_refused(kind: IndexKind, tmp_path: Path) -> None:
    original = structure(kind, "cosine")
    original.write(tmp_path)
    path = tmp_path / "spread.f32"
    content = path.read_bytes()
    for wrong in (b"", content[:-4], content + bytes(4)):
        path.write_bytes(wrong)
        with pytest.raises(IndexDamaged, match="build it again"):
            read(kind, tmp_path, vectors_of("cosine"), original.parameters, "cosine")
    # As of a version that knew no such file.
    path.unlink()
    with pytest.raises(IndexDamaged, match="is not there; build it again"):
        read(kind, tmp_path, vectors_of("cosine"), original.parameters, "cosine")
