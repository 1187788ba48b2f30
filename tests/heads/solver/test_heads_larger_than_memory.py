"""Fits on embeddings that are mapped from a file and never in memory as a whole."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.heads.fit import fit
from trunkline_service.heads.kinds import logistic
from trunkline_service.heads.kinds.transforms import fit_transform
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.solver.rows import Rows
from trunkline_service.heads.training.folds import make_folds
from trunkline_service.heads.training.stored import training_set
from trunkline_service.heads.training.training_set import TrainingSet

ROWS, DIM = 5_000, 16


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CollectionStore:
    """A collection of three clouds, in two commits; each tenth row is for testing, and some lack a label."""
    store = CollectionStore(tmp_path_factory.mktemp("data"))
    collection = store.create("photos", CollectionSpec("sp1-a", DIM, "tiny@1", "ar1-a", "fast"))
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 3, ROWS)
    vectors = generator.normal(size=(3, DIM))[codes] + generator.normal(size=(ROWS, DIM))
    rows = [
        Row(
            f"id{i}",
            vector.astype(np.float32),
            source=f"{i}.jpg",
            content_hash="h",
            decode="fast",
            label=None if i % 50 == 7 else f"c{code}",
            split="test" if i % 10 == 0 else None,
        )
        for i, (vector, code) in enumerate(zip(vectors, codes, strict=True))
    ]
    for part in (rows[: ROWS // 2], rows[ROWS // 2 :]):
        collection.upsert(part, space_id="sp1-a", decode=None)
    return store


def test_a_head_is_the_same_whether_or_not_its_rows_fit_into_memory(
    store: CollectionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = FitOptions(grid=(0.01,))
    expected = fit("logistic", training_set(store, "photos"), options)
    data = training_set(store, "photos", memory_bytes=1, folder=tmp_path)
    assert isinstance(data.embeddings.base, np.memmap)
    copied = []

    class Streamed(Rows):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, kept_bytes=0)
            copied.append(self._copy is not None)

    monkeypatch.setattr(logistic, "Rows", Streamed)
    found = fit("logistic", data, options)
    assert copied == [False]
    rows = data.embeddings[:100]
    np.testing.assert_allclose(found.network(rows), expected.network(rows), atol=1e-5)
    assert found.training_hash == expected.training_hash
    assert found.rows == expected.rows == ROWS - ROWS // 10 - ROWS // 50
    assert found.evaluation is not None
    assert expected.evaluation is not None
    assert found.evaluation.headline[1] == pytest.approx(expected.evaluation.headline[1], abs=1e-3)
    assert found.test_evaluation is not None
    assert found.test_evaluation.n == ROWS // 10
    assert found.convergence.converged


WIDE, LONG = 256, 40_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    """Rows of 41 MB in all, one in ten of them a copy or nearly one."""
    file = tmp_path_factory.mktemp("large") / "rows"
    rows = np.random.default_rng(0).standard_normal((LONG, WIDE), dtype=np.float32)
    rows[1::20] = rows[0::20]
    rows[3::20] = rows[2::20] * np.float32(1.01)
    rows.tofile(file)
    mapped = np.memmap(file, np.float32, "r", shape=rows.shape).view(np.ndarray)
    return TrainingSet(mapped, [f"c{i % 4}" for i in range(LONG)], "sp1-a", "photos", 1, "m@1")


def _streamed_pass(data: TrainingSet) -> None:
    Rows(data.embeddings, fit_transform("standardise", data.embeddings), kept_bytes=0).gram(np.ones(LONG))


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda data: TrainingSet(data.embeddings, data.labels, "s", "c", 1, "m"), id="checks"),
        pytest.param(partial(make_folds, wanted=5, seed=0), id="duplicates and folds"),
        pytest.param(TrainingSet.training_hash, id="hash"),
        pytest.param(lambda data: fit_transform("standardise", data.embeddings), id="standardise"),
        pytest.param(lambda data: fit_transform("whiten", data.embeddings), id="whiten"),
        pytest.param(lambda data: fit_transform("l2", data.embeddings, centred=True), id="l2"),
        pytest.param(_streamed_pass, id="pass"),
    ],
)
def test_nothing_is_made_of_the_size_of_the_rows(
    large: TrainingSet, work: Callable[[TrainingSet], object]
) -> None:
    fresh = TrainingSet(large.embeddings, large.labels, "sp1-a", "photos", 1, "m@1")
    tracemalloc.start()
    work(fresh)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < large.embeddings.nbytes / 2


def test_copies_are_found_in_mapped_rows(large: TrainingSet) -> None:
    codes = large.group_codes()
    np.testing.assert_array_equal(codes[1::20], codes[0::20])
    np.testing.assert_array_equal(codes[3::20], codes[2::20])
    assert large.grouping.count == LONG - LONG // 10
